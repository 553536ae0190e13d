"""VQA sets from Parquet files as the hub holds them, images within; the layout of lmms-lab's VQAv2 and VizWiz-VQA.

The columns are `image` (a struct of bytes and path), `question`, `answers` (a list of texts, or of structs with an
`answer`), `question_id`, and where the set has them `image_id`, `question_type`, and `answer_type` or `category`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.data.question_files import answer_texts
from reliabit.data.question_index import QuestionIndex
from reliabit.data.question_records import Annotation, Question
from reliabit.data.streamed import FoundImage, StreamedSource
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

REQUIRED = ("image", "question", "answers", "question_id")
OPTIONAL = ("image_id", "question_type", "answer_type", "category")

ROWS, IMAGE_ROWS = 1024, 16
"""Rows read at once, without their images and with them."""


@dataclass(frozen=True)
class HubParquet(StreamedSource):
    """A set in Parquet files.

    Attributes:
        source: The name of the set.
        root: Its folder.
        listed: `parquet`, the pattern of the files relative to the folder.
        wording: What the question of a row is, `{"question": ...}`.
    """

    source: str
    root: Path
    listed: Mapping[str, str]
    wording: Callable[[Mapping[str, Any]], str]

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
                for row in _rows(file, names, size=IMAGE_ROWS, path=path):
                    yield _found(row)

    def files(self) -> list[Path]:
        pattern = self.listed.get("parquet")
        if pattern is None:
            raise ReliabitError(f"data.files of {self.source} lacks parquet, the pattern of its Parquet files")
        found = sorted(self.root.glob(pattern))
        if not found:
            raise ReliabitError(
                f"{self.source}: no file in {self.root} matches {pattern}; put them there, or set data.root or "
                "data.files.parquet"
            )
        return found

    def _columns(self, file: "pq.ParquetFile", path: Path) -> list[str]:
        there = file.schema_arrow.names
        missing = [name for name in REQUIRED if name not in there]
        if missing:
            raise ReliabitError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(there)}")
        return [name for name in (*REQUIRED[1:], *OPTIONAL) if name in there]

    def _add(self, index: QuestionIndex, row: Mapping[str, Any]) -> None:
        question_id, image_id = str(row["question_id"]), _image_id(row)
        try:
            answers = None if row["answers"] is None else answer_texts(row["answers"])
        except ValueError as error:
            index.bad.add("the question is malformed", question_id=question_id, image_id=image_id, detail=str(error))
            return
        text = "" if row["question"] is None else self.wording(row)
        added = index.add(Question(question_id=question_id, image_id=image_id, image_file="", text=text))
        if added and answers is not None:
            kinds = row.get("question_type"), row.get("answer_type") or row.get("category")
            index.annotate(question_id, Annotation(answers, *(str(kind or "") for kind in kinds)))


def _image_id(row: Mapping[str, Any]) -> str:
    """The id of a row's image; that of the question where each question has an image of its own."""
    return str(row["question_id"] if row.get("image_id") is None else row["image_id"])


def _found(row: Mapping[str, Any]) -> FoundImage:
    image = row["image"]
    encoded = image.get("bytes") if isinstance(image, Mapping) else image
    if not isinstance(encoded, bytes):
        return FoundImage(_image_id(row), None, problem="its image is missing", detail="the Parquet file has no bytes")
    return FoundImage(_image_id(row), encoded)


def _opened(path: Path) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without a buffer a whole row group of images would be read ahead.
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} is no Parquet file that can be read ({reason}); download it again") from error


def _rows(file: "pq.ParquetFile", columns: list[str], *, size: int, path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    try:
        for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} cannot be read to its end ({reason}); download it again") from error
