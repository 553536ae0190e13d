"""VQA sets from Parquet files as the hub holds them, images within; the layout of lmms-lab's VQAv2 and VizWiz-VQA.

The columns are `image` (a struct of bytes and path), `question`, `answers` (a list of texts, or of structs with an
`answer`), `question_id`, and where the set has them `image_id`, `question_type`, and `answer_type` or `category`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.data.question_files import (
    FoundImage,
    QuestionReader,
    answer_texts,
    optional_text,
    plain_id,
    plain_text,
)
from reliabit.data.question_index import Annotation, Question, QuestionIndex
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

REQUIRED = ("image", "question", "answers", "question_id")
OPTIONAL = ("image_id", "question_type", "answer_type", "category")

ROWS, IMAGE_ROWS = 1024, 16
"""Rows read at once, without their images and with them."""


@dataclass(frozen=True)
class HubParquet(QuestionReader):
    """A set in Parquet files; `listed` has `parquet`, their pattern relative to the folder.

    Attributes:
        wording: How the set puts the text of a question.
    """

    wording: Callable[[str], str]

    def fill(self, index: QuestionIndex) -> None:
        for path in self.files():
            with _opened(path) as file:
                names = self._columns(file, path)
                for row in _rows(file, names, size=ROWS, path=path):
                    self._add(index, row)

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        # In the order of the files: to jump about in Parquet is to decompress a row group an image.
        for path in self.files():
            with _opened(path) as file:
                names = [name for name in ("image", "image_id", "question_id") if name in file.schema_arrow.names]
                yield from map(_found, filter(_has_id, _rows(file, names, size=IMAGE_ROWS, path=path)))

    def files(self) -> list[Path]:
        pattern = self.listed.get("parquet")
        if pattern is None:
            raise ReliabitError(f"data.files of {self.source} lacks parquet, the pattern of its Parquet files")
        found = sorted(self._matching(pattern))
        if not found:
            raise ReliabitError(
                f"{self.source}: no file in {self.root} matches {pattern}; put them there, or set data.root or "
                "data.files.parquet"
            )
        return found

    def _matching(self, pattern: str) -> list[Path]:
        try:
            return list(self.root.glob(pattern))
        except (ValueError, NotImplementedError):
            raise ReliabitError(
                f"data.files.parquet={pattern} of {self.source} is no pattern of files below data.root={self.root}; "
                "write it relative to that folder, like data/validation-*.parquet"
            ) from None

    def _columns(self, file: "pq.ParquetFile", path: Path) -> list[str]:
        there = file.schema_arrow.names
        missing = [name for name in REQUIRED if name not in there]
        if missing:
            raise ReliabitError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(there)}")
        return [name for name in (*REQUIRED[1:], *OPTIONAL) if name in there]

    def _add(self, index: QuestionIndex, row: Mapping[str, Any]) -> None:
        try:
            question_id = str(plain_id(row["question_id"], what="question_id"))
            text = self.wording(plain_text(row["question"], what="question"))
            question = Question(question_id=question_id, image_id=_image_id(row), image_file="", text=text)
            annotation = _annotation(row)
        except ValueError as error:
            known = "" if row["question_id"] is None else str(row["question_id"])
            index.bad.add("the question is malformed", question_id=known, detail=str(error))
            return
        if index.add(question) and annotation is not None:
            index.annotate(question_id, annotation)


def _annotation(row: Mapping[str, Any]) -> Annotation | None:
    if row["answers"] is None:
        return None
    return Annotation(
        answers=answer_texts(row["answers"]),
        question_type=optional_text(row.get("question_type"), what="question_type"),
        answer_type=optional_text(row.get("answer_type") or row.get("category"), what="answer_type"),
    )


def _image_id(row: Mapping[str, Any]) -> str:
    """The id of a row's image; that of the question where each question has an image of its own."""
    name = "question_id" if row.get("image_id") is None else "image_id"
    return str(plain_id(row[name], what=name))


def _has_id(row: Mapping[str, Any]) -> bool:
    """Whether an image can be told apart; its question is listed as malformed otherwise."""
    try:
        _image_id(row)
    except ValueError:
        return False
    return True


def _found(row: Mapping[str, Any]) -> FoundImage:
    image = row["image"]
    encoded = image.get("bytes") if isinstance(image, Mapping) else image
    if not isinstance(encoded, bytes):
        return FoundImage(_image_id(row), None, problem="its image is missing", detail="the Parquet file has no bytes")
    return FoundImage(_image_id(row), encoded)


def _raised_over_files() -> tuple[type[Exception], ...]:
    """Whatever the library raises over a user's file; dates that Python cannot hold among it."""
    import pyarrow as pa

    return OSError, ValueError, ArithmeticError, MemoryError, pa.ArrowException


def _opened(path: Path) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    try:
        # Without a buffer a whole row group of images would be read ahead.
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        # Made of what the file says when it is first asked for.
        _ = file.schema_arrow.names
        return file
    except _raised_over_files() as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} is no Parquet file that can be read ({reason}); download it again") from error


def _rows(file: "pq.ParquetFile", columns: list[str], *, size: int, path: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
            yield from batch.to_pylist()
    except _raised_over_files() as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} cannot be read to its end ({reason}); download it again") from error
