"""`task=prepare`: read the data source and write its splits."""

import sys
from pathlib import Path

from reliabit.config import Config
from reliabit.data import prepare as tables
from reliabit.tasks._asked_questions import source_spec


def prepare(config: Config) -> None:
    """Write the prepared table, unless it is there, and say where and what it is."""
    folder = tables.prepare(source_spec(config.data), root=Path(config.paths.data))
    sys.stdout.write(f"{folder}\n")
    for name, record in tables.read_manifest(folder).items():
        sys.stdout.write(f"  {name}: {record.questions} questions, {record.images} images, sha256 {record.sha256}\n")
