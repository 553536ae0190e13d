"""`task=prepare`: read the data source and write its splits."""

from pathlib import Path

from reliabit.config import Config
from reliabit.data import prepared_table as tables
from reliabit.tasks._results import next_command
from reliabit.terminal import show_result


def prepare(config: Config) -> None:
    """Write the prepared table, unless it is there, and say where and what it is."""
    folder = tables.prepare(config.data, root=Path(config.paths.data))
    splits = tables.read_manifest(folder)
    show_result(
        f"{config.data.name} is prepared: {folder}",
        [(name, _told(record)) for name, record in splits.items()],
        then=next_command("quant.bits=4"),
    )


def _told(record: tables.SplitRecord) -> str:
    return f"{record.questions} questions, {record.images} images, sha256 {record.sha256}"
