"""Prepared tables: every split of a source, written once as Parquet with a hash, and read back checked.

A prepared table lives in a folder named after everything that decides its content, so two configurations never
write to the same place and a finished folder never changes. Small sources have their images within the Parquet files;
of the large ones each split has an image store beside it, see `reliabit.data._image_store`.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.data.bad_samples import summary, tell
from reliabit.data.further_columns import FURTHER
from reliabit.data.preview import preview
from reliabit.data.sources import SOURCES, DataConfig, FileState, find_source
from reliabit.errors import ReliabitError
from reliabit.files import inside, sha256, staged_folder

if TYPE_CHECKING:
    from datasets import Dataset

TABLE_VERSION = 1
"""To be counted up when the same settings would give another table."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SplitRecord:
    """What a manifest says of one split: its size and the SHA-256 of its Parquet file."""

    questions: int
    images: int
    sha256: str


def table_folder(data: DataConfig, *, root: Path) -> Path:
    """Where the table of a source lies below `root`, by its settings."""
    identity = json.dumps({"version": TABLE_VERSION, **data.identity()}, sort_keys=True)
    return root / f"{data.called()}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def is_prepared(data: DataConfig, *, root: Path) -> bool:
    """Whether the table of a source is there, so that the source's files are no longer needed."""
    return (table_folder(data, root=root) / MANIFEST).is_file()


def find_table(root: Path, *, split: str, sha256: str) -> Path | None:
    """The folder of the prepared table that holds a split with this digest, which a run has among its inputs.

    So the questions of a run are found whatever its settings were called then.
    """
    for manifest in sorted(root.glob(f"*/{MANIFEST}")):
        with suppress(ReliabitError):
            record = read_manifest(manifest.parent).get(split)
            if record is not None and record.sha256 == sha256:
                return manifest.parent
    return None


def prepare(data: DataConfig, *, root: Path) -> Path:
    """Make sure the table of a source is there, and return its folder.

    Processes may call this at once: one writes, the others wait. A folder appears whole or not at all. Whoever uses a
    table that leaves out bad samples is told so on standard error, once a process.

    Raises:
        ReliabitError: The source cannot be read, holds a bad item, is too small for the splits, or was changed after
            the table was made of it.
    """
    from filelock import FileLock

    folder = table_folder(data, root=root)
    if (folder / MANIFEST).is_file():
        _check_unchanged(_read(folder).files, folder=folder)
    else:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _lock(folder)):
            if not (folder / MANIFEST).is_file():
                _remove_leftovers(folder)
                with staged_folder(folder) as staging:
                    _write_table(data, staging, bad_samples=bad_samples_file(folder))
                if SOURCES[data.name].called_by_root:
                    sys.stderr.write(previewed(data, folder))
    skipped = skipped_samples(folder)
    if skipped:
        tell(
            f"{folder} was made without bad samples: {summary(skipped)}; they are listed in {bad_samples_file(folder)}"
        )
    return folder


def previewed(data: DataConfig, folder: Path) -> str:
    """The preview of a prepared table, see `reliabit.data.preview`."""
    splits = {name: load_split(folder, name) for name in read_manifest(folder)}
    return preview(splits, called=data.called(), told=_read(folder).told)


def bad_samples_file(folder: Path) -> Path:
    """Where the samples are listed that a prepared table leaves out, or for which it could not be made."""
    return folder.with_name(f"{folder.name}.bad_samples.jsonl")


def load_split(folder: Path, split: str) -> "Dataset":
    """Read one split of a prepared table.

    Raises:
        ReliabitError: The table has no such split, or the file is not the one that was written.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset

    from reliabit.data._image_store import images_file, with_embedded_images, with_stored_images

    records = read_manifest(folder)
    if split not in records:
        raise ReliabitError(f"{folder} has no split {split!r}; it has {', '.join(records)}, as data.splits says")
    path = folder / f"{split}.parquet"
    if not path.is_file() or sha256(path) != records[split].sha256:
        raise ReliabitError(f"{path} is missing or differs from its hash; delete {folder} and run task=prepare again")
    table, store = pq.read_table(path), folder / images_file(split)
    embedded = "image" in table.column_names
    rows = with_embedded_images(table) if embedded else with_stored_images(table, store=store.absolute())
    # Told the fingerprint, `datasets` need not hash the whole table to find one.
    return Dataset(rows, fingerprint=records[split].sha256[:32])


def read_manifest(folder: Path) -> dict[str, SplitRecord]:
    """What a prepared table holds, by split.

    Raises:
        ReliabitError: The folder is not a prepared table.
    """
    return _read(folder).splits


def skipped_samples(folder: Path) -> dict[str, int]:
    """How many samples a prepared table leaves out, by what is wrong with them.

    Raises:
        ReliabitError: The folder is not a prepared table.
    """
    return _read(folder).skipped


def columns_digest(folder: Path) -> str | None:
    """The digest of the columns that are kept beside a prepared table, see `reliabit.data.further_columns`.

    Raises:
        ReliabitError: The folder is no prepared table, or the file is not the one that was written.
    """
    expected, path = _read(folder).columns, folder / FURTHER
    if expected is not None and not (path.is_file() and sha256(path) == expected):
        raise ReliabitError(f"{path} is missing or differs from its hash; delete {folder} and run task=prepare again")
    return expected


@dataclass(frozen=True)
class _Manifest:
    """What a manifest says, see `_write_table`."""

    splits: dict[str, SplitRecord]
    columns: str | None
    skipped: dict[str, int]
    files: dict[str, FileState | None]
    told: list[str]


def _read(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise ReliabitError(f"{folder} is not a prepared table (no {MANIFEST}); run task=prepare first")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        skipped, files = record.get("skipped", {}), record.get("files", {})
        for split in record["splits"]:
            inside(folder, split)
        return _Manifest(
            splits={name: SplitRecord(**split) for name, split in record["splits"].items()},
            columns=record.get("columns"),
            skipped={problem: int(count) for problem, count in skipped.items()},
            files={name: state and FileState(**state) for name, state in files.items()},
            told=[str(line) for line in record.get("told", [])],
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} is damaged ({reason}); delete {folder} and run task=prepare again") from error


def _check_unchanged(states: Mapping[str, FileState | None], *, folder: Path) -> None:
    """Check that the files a table was made of are as they were; those that are gone are not missed."""
    for name, state in states.items():
        now = FileState.of(Path(name))
        if now is not None and now != state:
            raise ReliabitError(f"{name} was changed after {folder} was made of it; delete {folder} to prepare it anew")


def _lock(folder: Path) -> str:
    return f".{folder.name}.lock"


def _remove_leftovers(folder: Path) -> None:
    """Remove what a preparation that was killed has staged; only whoever holds the table's lock may."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _lock(folder):
            path.unlink()


def _write_table(data: DataConfig, folder: Path, *, bad_samples: Path) -> None:
    written = find_source(data).write(folder, bad_samples=bad_samples)
    records = {
        name: SplitRecord(split.questions, split.images, sha256(folder / f"{name}.parquet"))
        for name, split in written.splits.items()
    }
    record = {"version": TABLE_VERSION, "spec": data.identity(), "splits": {n: asdict(r) for n, r in records.items()}}
    columns = folder / FURTHER
    further = {
        "columns": sha256(columns) if columns.is_file() else None,
        "files": {name: state and asdict(state) for name, state in written.files.items()},
        "skipped": written.skipped,
        "told": list(written.told),
    }
    record |= {name: found for name, found in further.items() if found}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
