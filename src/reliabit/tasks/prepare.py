"""`task=prepare`: read the data source and write its splits."""

import sys
from pathlib import Path

from reliabit.config import Config
from reliabit.data import prepared_table as tables
from reliabit.data.sources import SOURCES
from reliabit.tasks._results import next_command
from reliabit.terminal import show_result


def prepare(config: Config) -> None:
    """Write the prepared table, unless it is there, and say where and what it is."""
    root = Path(config.paths.data)
    known = tables.is_prepared(config.data, root=root)
    folder = tables.prepare(config.data, root=root)
    if known and SOURCES[config.data.name].called_by_root:
        # Whoever makes the table shows it.
        sys.stderr.write(tables.previewed(config.data, folder))
    splits = tables.read_manifest(folder)
    show_result(
        f"{config.data.called()} is prepared: {folder}",
        [(name, _told(record)) for name, record in splits.items()],
        then=next_command("quant.bits=4"),
    )


def _told(record: tables.SplitRecord) -> str:
    return f"{record.questions} questions, {record.images} images, sha256 {record.sha256}"
