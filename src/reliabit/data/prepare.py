"""Prepared tables: every split of a source, written once as Parquet with a hash, and read back checked.

A prepared table lives in a folder named after everything that decides its content, so two configurations never
write to the same place and a finished folder never changes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.data.sources import Part, SourceSpec, parts
from reliabit.data.splits import split_by_image
from reliabit.data.table import VQARow, checked, vqa_features
from reliabit.errors import ReliabitError
from reliabit.files import staged_folder

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
    identity = json.dumps({"version": TABLE_VERSION, **asdict(spec)}, sort_keys=True)
    return root / f"{spec.name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def prepare(spec: SourceSpec, *, root: Path) -> Path:
    """Make sure the table of a specification is there, and return its folder.

    Processes may call this at once: one writes, the others wait. A folder appears whole or not at all.

    Raises:
        ReliabitError: The source cannot be read, holds a bad item, or is too small for the splits.
    """
    from filelock import FileLock

    folder = table_folder(spec, root=root)
    if (folder / MANIFEST).is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder.name}.lock"):
        if not (folder / MANIFEST).is_file():
            with staged_folder(folder) as staging:
                _write_table(spec, staging)
    return folder


def load_split(folder: Path, split: str) -> "Dataset":
    """Read one split of a prepared table.

    Raises:
        ReliabitError: The table has no such split, or the file is not the one that was written.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset

    records = read_manifest(folder)
    if split not in records:
        raise ReliabitError(f"data.split={split} is not in {folder}; it has {', '.join(records)}")
    path = folder / f"{split}.parquet"
    if not path.is_file() or sha256(path) != records[split].sha256:
        raise ReliabitError(f"{path} is missing or differs from its hash; delete {folder} and run task=prepare again")
    return Dataset(pq.read_table(path).cast(vqa_features().arrow_schema))


def read_manifest(folder: Path) -> dict[str, SplitRecord]:
    """What a prepared table holds, by split.

    Raises:
        ReliabitError: The folder is not a prepared table.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ReliabitError(f"{folder} is not a prepared table (no {MANIFEST}); run task=prepare first")
    return {name: SplitRecord(**record) for name, record in json.loads(path.read_text())["splits"].items()}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_table(spec: SourceSpec, folder: Path) -> None:
    records: dict[str, SplitRecord] = {}
    for part in parts(spec):
        sizes = {name: spec.splits[name] for name in part.splits if spec.splits.get(name)}
        if sizes:
            records |= _write_part(part, sizes=sizes, seed=spec.seed, folder=folder, source=spec.name)
    if not records:
        raise ReliabitError(f"data.splits of {spec.name} is empty; give at least one split an image")
    record = {"version": TABLE_VERSION, "spec": asdict(spec), "splits": {n: asdict(r) for n, r in records.items()}}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def _write_part(
    part: Part, *, sizes: Mapping[str, int], seed: int, folder: Path, source: str
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

    table = pa.Table.from_pylist(list(rows), schema=vqa_features().arrow_schema)
    pq.write_table(table, path, compression="zstd")
    images = table.column("image_id").unique()
    return SplitRecord(questions=table.num_rows, images=len(images), sha256=sha256(path))


def _image_id(row: VQARow) -> str:
    return row["image_id"]


def _shown(rows: Iterable[VQARow], source: str) -> Iterator[VQARow]:
    from tqdm import tqdm

    yield from tqdm(rows, desc=f"prepare {source}", unit=" questions", leave=False, disable=None)
