"""Sets too large to hold, as prepared tables: each image is stored once, beside the questions about it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from reliabit.data.image_store import ImageStore, images_file
from reliabit.data.question_index import QuestionIndex
from reliabit.data.question_records import IndexedRow
from reliabit.data.table import decode_image
from reliabit.errors import ReliabitError

ROWS = 2048
"""Rows written at once."""


@dataclass(frozen=True)
class FoundImage:
    """An image of a source, or why there is none.

    Attributes:
        image_id: Its id.
        encoded: The bytes of its file, where it could be read.
        problem: Otherwise, what is wrong, in the same words for all images of the kind.
        detail: What is particular to this image.
        file: Its file, where it has one of its own.
    """

    image_id: str
    encoded: bytes | None
    problem: str = ""
    detail: str = ""
    file: Path | None = None


class StreamedSource(ABC):
    """A set that is read in passes: first every question, then every image that is wanted."""

    @abstractmethod
    def fill(self, index: QuestionIndex) -> None:
        """Add every question and its annotation to an index.

        Raises:
            ReliabitError: A file is missing or not in the layout.
        """

    @abstractmethod
    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        """Read the images that an index has placed, one at a time, in whatever order the source has them."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that list the questions, images left out; what a table was made of is told by them."""


@dataclass(frozen=True)
class WrittenSplit:
    """How much of a split was written."""

    questions: int
    images: int


def keep_images(source: StreamedSource, index: QuestionIndex, *, splits: Mapping[str, int], folder: Path) -> None:
    """Store every placed image once, in the file of its split; those that do not decode are left out.

    Args:
        source: The set.
        index: Says which images are wanted; it is told where they lie.
        splits: The number of images of each split, for the progress bar.
        folder: Where the files go.
    """
    from tqdm import tqdm

    with ExitStack() as stack:
        stores = {split: stack.enter_context(ImageStore.create(folder / images_file(split))) for split in splits}
        found = source.images(index)
        for image in tqdm(found, total=sum(splits.values()), desc="images", unit="", leave=False, disable=None):
            split = index.split_of(image.image_id)
            if split is None:
                continue
            checked = _decodable(image)
            if checked.encoded is None:
                index.drop_image(image.image_id, problem=checked.problem, detail=checked.detail)
                if image.file is not None:
                    index.bad.files.add(image.file)
            else:
                index.keep(image.image_id, stores[split].add(checked.encoded))
    for image_id in index.unkept_images():
        index.drop_image(image_id, problem="its image is not in the files", detail="")


def write_rows(index: QuestionIndex, split: str, *, source: str, template: str, path: Path) -> WrittenSplit:
    """Write the questions of a split as Parquet, some at a time.

    Args:
        index: The questions.
        split: The split.
        source: The name of the data source.
        template: What the set puts around each question, `{question}`.
        path: The file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from reliabit.data.stored_image import referenced_schema

    questions, images, last = 0, 0, ""
    schema = referenced_schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = index.rows(split)
        while batch := [_row(row, source=source, template=template) for row in islice(rows, ROWS)]:
            for row in batch:
                images, last = images + (row["image_id"] != last), row["image_id"]
            questions += len(batch)
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    return WrittenSplit(questions=questions, images=images)


def _decodable(image: FoundImage) -> FoundImage:
    if image.encoded is None:
        return image
    try:
        decode_image(image.encoded, item=f"image {image.image_id!r}")
    except ReliabitError as error:
        return FoundImage(image.image_id, None, problem="its image does not decode", detail=str(error))
    return image


def _row(row: IndexedRow, *, source: str, template: str) -> dict[str, Any]:
    return {
        "image_position": row.image.position,
        "image_length": row.image.length,
        "image_sha256": row.image.sha256,
        "question": template.format(question=row.question.text),
        "answers": list(row.annotation.answers),
        "question_id": row.question.question_id,
        "image_id": row.question.image_id,
        "question_type": row.annotation.question_type,
        "answer_type": row.annotation.answer_type,
        "source": source,
    }
