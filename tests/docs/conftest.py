"""What builds the site and draws its pictures are scripts that import each other by name."""

import sys
from pathlib import Path

for _folder in ("bench", "docs/hooks"):
    _path = str(Path(__file__).parents[2] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)
