"""Sources that fit into memory: read in parts, cut into splits, and written as Parquet with the images within."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from reliabit.data.bad_samples import SKIP, BadSamples, judged
from reliabit.data.sources import Source, WrittenSplit, WrittenTable, file_states
from reliabit.data.splits import split_by_image
from reliabit.data.table import VQARow, checked
from reliabit.errors import ReliabitError
from reliabit.progress import counted


@dataclass(frozen=True)
class SourcePart:
    """A part of a source that the given splits are cut from.

    Attributes:
        read: Yields an image's questions in a row.
        splits: The splits.
        files: Gives the files that list its questions; raises where one is missing.
    """

    read: Callable[[], Iterable[VQARow]]
    splits: tuple[str, ...]
    files: Callable[[], Sequence[Path]] = tuple


class InMemorySource(Source):
    """A source that says what its parts are."""

    @abstractmethod
    def parts(self) -> list[SourcePart]:
        """The parts, each with splits of its own."""

    def check_files(self) -> None:
        """Check the files of the parts that are wanted."""
        wanted = {split for split, images in self.data.splits.items() if images}
        for part in self.parts():
            if wanted & {*part.splits}:
                part.files()

    def write(self, folder: Path, *, bad_samples: Path) -> WrittenTable:
        """Write every split; a bad item ends it, or is left out."""
        data = self.data
        written: dict[str, WrittenSplit] = {}
        listed: list[Path] = []
        with judged(bad_samples, source=data.name, on_bad_sample=data.on_bad_sample) as bad:
            for part in self.parts():
                sizes = {name: data.splits[name] for name in part.splits if data.splits.get(name)}
                if not sizes:
                    continue
                listed += part.files()
                rows_of = self._rows(part, bad=bad if data.on_bad_sample == SKIP else None)
                by_image = {image: list(rows) for image, rows in groupby(rows_of, _image_id)}
                if not by_image:
                    raise ReliabitError(f"the data source {data.name} has no questions; nothing to split")
                for name, images in split_by_image(list(by_image), sizes=sizes, seed=data.seed).items():
                    rows = [row for image in images for row in by_image[image]]
                    written[name] = _write_split(rows, path=folder / f"{name}.parquet")
        if not written:
            raise ReliabitError(f"data.splits of {data.name} is empty; give at least one split an image")
        # What a package brings has another time after each installation, and is known by the package's version.
        files = file_states([*listed, *sorted(bad.files)]) if data.root is not None else {}
        return WrittenTable(splits=written, skipped=bad.by_problem(), files=files)

    def _rows(self, part: SourcePart, *, bad: BadSamples | None) -> Iterator[VQARow]:
        yield from counted(checked(part.read(), bad=bad), f"preparing {self.data.name}", unit="questions")


def _write_split(rows: list[VQARow], *, path: Path) -> WrittenSplit:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reliabit.data._image_store import embedded_schema

    table = pa.Table.from_pylist(rows, schema=embedded_schema())
    pq.write_table(table, path, compression="zstd")
    return WrittenSplit(questions=table.num_rows, images=len(table.column("image_id").unique()))


def _image_id(row: VQARow) -> str:
    return row["image_id"]
