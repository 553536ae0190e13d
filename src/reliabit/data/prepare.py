"""Prepared tables: every split of a source, written once as Parquet with a hash, and read back checked.

A prepared table lives in a folder named after everything that decides its content, so two configurations never
write to the same place and a finished folder never changes. Small sources have their images within the Parquet files;
of the large ones each split has an image store beside it, see `reliabit.data.image_store`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.data.image_store import images_file
from reliabit.data.prepare_streamed import FileState, check_unchanged, file_states, write_streamed
from reliabit.data.sources import STREAMED, Part, SourceSpec, parts, streamed
from reliabit.data.splits import split_by_image
from reliabit.data.table import VQARow, checked
from reliabit.errors import ReliabitError
from reliabit.files import sha256, staged_folder

if TYPE_CHECKING:
    from datasets import Dataset

TABLE_VERSION = 1
"""Raised when the same specification would give another table."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SplitRecord:
    """What a manifest says of one split: its size and the SHA-256 of its Parquet file."""

    questions: int
    images: int
    sha256: str


def table_folder(spec: SourceSpec, *, root: Path) -> Path:
    """Where the table of a specification lies below `root`."""
    identity = json.dumps({"version": TABLE_VERSION, **spec.identity()}, sort_keys=True)
    return root / f"{spec.name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def prepare(spec: SourceSpec, *, root: Path) -> Path:
    """Make sure the table of a specification is there, and return its folder.

    Processes may call this at once: one writes, the others wait. A folder appears whole or not at all.

    Raises:
        ReliabitError: The source cannot be read, holds a bad item, is too small for the splits, or was changed after
            the table was made of it.
    """
    from filelock import FileLock

    folder = table_folder(spec, root=root)
    if (folder / MANIFEST).is_file():
        check_unchanged(_read_states(folder), folder=folder)
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder.name}.lock"):
        if not (folder / MANIFEST).is_file():
            with staged_folder(folder) as staging:
                _write_table(spec, staging, bad_samples=bad_samples_file(folder))
    return folder


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

    from reliabit.data.stored_image import with_embedded_images, with_stored_images

    records = read_manifest(folder)
    if split not in records:
        raise ReliabitError(f"data.split={split} is not in {folder}; it has {', '.join(records)}")
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
    path = folder / MANIFEST
    if not path.is_file():
        raise ReliabitError(f"{folder} is not a prepared table (no {MANIFEST}); run task=prepare first")
    return {name: SplitRecord(**record) for name, record in json.loads(path.read_text())["splits"].items()}


def _write_table(spec: SourceSpec, folder: Path, *, bad_samples: Path) -> None:
    states: Mapping[str, FileState] = {}
    if spec.name in STREAMED:
        source = streamed(spec)
        # Before they are read: what changes meanwhile is noticed the next time.
        states = file_states(source, spec)
        records = {
            name: SplitRecord(written.questions, written.images, sha256(folder / f"{name}.parquet"))
            for name, written in write_streamed(source, spec, folder=folder, bad_samples=bad_samples).items()
        }
    else:
        records = _write_parts(spec, folder)
    record = {"version": TABLE_VERSION, "spec": spec.identity(), "splits": {n: asdict(r) for n, r in records.items()}}
    if states:
        record["files"] = {name: asdict(state) for name, state in states.items()}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def _read_states(folder: Path) -> dict[str, FileState]:
    files = json.loads((folder / MANIFEST).read_text()).get("files", {})
    return {name: FileState(**state) for name, state in files.items()}


def _write_parts(spec: SourceSpec, folder: Path) -> dict[str, SplitRecord]:
    records: dict[str, SplitRecord] = {}
    for part in parts(spec):
        sizes = {name: spec.splits[name] for name in part.splits if spec.splits.get(name)}
        if sizes:
            records |= _write_part(part, sizes=sizes, seed=spec.seed, folder=folder, source=spec.name)
    if not records:
        raise ReliabitError(f"data.splits of {spec.name} is empty; give at least one split an image")
    return records


def _write_part(
    part: Part, *, sizes: Mapping[str, float], seed: int, folder: Path, source: str
) -> dict[str, SplitRecord]:
    by_image = {image: list(rows) for image, rows in groupby(_shown(checked(part.read()), source), _image_id)}
    if not by_image:
        raise ReliabitError(f"the data source {source} has no questions; nothing to split")
    splits = split_by_image(list(by_image), sizes=sizes, seed=seed)
    return {
        name: _write_split((row for image in images for row in by_image[image]), path=folder / f"{name}.parquet")
        for name, images in splits.items()
    }


def _write_split(rows: Iterable[VQARow], *, path: Path) -> SplitRecord:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reliabit.data.stored_image import embedded_schema

    table = pa.Table.from_pylist(list(rows), schema=embedded_schema())
    pq.write_table(table, path, compression="zstd")
    images = table.column("image_id").unique()
    return SplitRecord(questions=table.num_rows, images=len(images), sha256=sha256(path))


def _image_id(row: VQARow) -> str:
    return row["image_id"]


def _shown(rows: Iterable[VQARow], source: str) -> Iterator[VQARow]:
    from tqdm import tqdm

    yield from tqdm(rows, desc=f"prepare {source}", unit=" questions", leave=False, disable=None)
