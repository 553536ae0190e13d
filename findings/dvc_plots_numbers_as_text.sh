#!/usr/bin/env bash
# `dvc plots show` hands the numbers of a CSV to a chart's template as text. The built-in templates draw them rightly, but in a
# template of one's own an `order` channel compares them as text: 100 comes before 20, and a curve becomes a zigzag. It has to
# say `"format": {"parse": {"coverage": "number"}}` beside its data.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check dvc==3.67.1 dvc-render==1.0.2

cd "$WORK"
export DVC_NO_ANALYTICS=1 PATH="$WORK/venv/bin:$PATH"
git init --quiet . && dvc init --quiet
printf 'coverage,risk\n20,0.01\n100,0.08\n' > curve.csv
printf 'plots:\n  - curve.csv:\n      x: coverage\n      y: risk\n' > dvc.yaml
dvc plots show --out page >/dev/null
dvc --version
"$WORK/venv/bin/python" - <<'PYTHON'
import re
import sys
from pathlib import Path

page = Path("page/index.html").read_text()
found = sorted(set(re.findall(r'"coverage": ("?[0-9]+"?)', page)))
print("the page's values of coverage:", *found)
if found != ['"100"', '"20"']:
    sys.exit("the behaviour has changed")
PYTHON
