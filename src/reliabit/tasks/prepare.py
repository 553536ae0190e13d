"""`task=prepare`: read the data source and write its splits."""

import sys
from pathlib import Path

from reliabit.config import Config
from reliabit.data import prepared_table as tables
from reliabit.data.sources import SOURCES


def prepare(config: Config) -> None:
    """Write the prepared table, unless it is there, and say where and what it is."""
    root = Path(config.paths.data)
    known = tables.is_prepared(config.data, root=root)
    folder = tables.prepare(config.data, root=root)
    if known and SOURCES[config.data.name].called_by_root:
        # Whoever makes the table shows it.
        sys.stderr.write(tables.previewed(config.data, folder))
    sys.stdout.write(f"{folder}\n")
    for name, record in tables.read_manifest(folder).items():
        sys.stdout.write(f"  {name}: {record.questions} questions, {record.images} images, sha256 {record.sha256}\n")
