"""From a source that fits into memory to the splits of a prepared table, images within."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from reliabit.data.sources import Part, SourceSpec, parts
from reliabit.data.splits import split_by_image
from reliabit.data.streamed import WrittenSplit
from reliabit.data.table import VQARow, checked
from reliabit.errors import ReliabitError


def write_parts(spec: SourceSpec, *, folder: Path) -> dict[str, WrittenSplit]:
    """Write every split of a source as Parquet.

    Args:
        spec: The source, and how to split it.
        folder: Where the files go.

    Raises:
        ReliabitError: The source cannot be read, holds a bad item, or is too small for the splits.
    """
    written: dict[str, WrittenSplit] = {}
    for part in parts(spec):
        sizes = {name: spec.splits[name] for name in part.splits if spec.splits.get(name)}
        if sizes:
            written |= _write_part(part, sizes=sizes, seed=spec.seed, folder=folder, source=spec.name)
    if not written:
        raise ReliabitError(f"data.splits of {spec.name} is empty; give at least one split an image")
    return written


def _write_part(
    part: Part, *, sizes: Mapping[str, float], seed: int, folder: Path, source: str
) -> dict[str, WrittenSplit]:
    by_image = {image: list(rows) for image, rows in groupby(_shown(checked(part.read()), source), _image_id)}
    if not by_image:
        raise ReliabitError(f"the data source {source} has no questions; nothing to split")
    splits = split_by_image(list(by_image), sizes=sizes, seed=seed)
    return {
        name: _write_split((row for image in images for row in by_image[image]), path=folder / f"{name}.parquet")
        for name, images in splits.items()
    }


def _write_split(rows: Iterable[VQARow], *, path: Path) -> WrittenSplit:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reliabit.data.stored_image import embedded_schema

    table = pa.Table.from_pylist(list(rows), schema=embedded_schema())
    pq.write_table(table, path, compression="zstd")
    images = table.column("image_id").unique()
    return WrittenSplit(questions=table.num_rows, images=len(images))


def _image_id(row: VQARow) -> str:
    return row["image_id"]


def _shown(rows: Iterable[VQARow], source: str) -> Iterator[VQARow]:
    from tqdm import tqdm

    yield from tqdm(rows, desc=f"prepare {source}", unit=" questions", leave=False, disable=None)
