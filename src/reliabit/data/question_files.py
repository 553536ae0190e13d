"""What readers of question files have in common: the files that a configuration lists, ids, texts and images."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any

from reliabit.data.question_index import QuestionIndex
from reliabit.errors import ReliabitError
from reliabit.files import leads_out

LARGEST_WHOLE = 2**53
"""Beyond it, floats leave out integers."""


def plain_text(value: Any, *, what: str) -> str:
    """A text that a source gives; `what` it is, the error tells.

    Raises:
        ValueError: It is something else, or holds a character that cannot be written as UTF-8.

    >>> plain_text(None, what="question")
    Traceback (most recent call last):
    ...
    ValueError: its question is no text but null
    """
    if not isinstance(value, str):
        raise ValueError(f"its {what} is no text but {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"its {what} holds half of a character (a lone surrogate)") from None
    return value


def plain_id(value: Any, *, what: str) -> int | str:
    """An id that a source gives, a text or a whole number, which may be written as a float.

    Raises:
        ValueError: It is something else, or empty.

    >>> plain_id(4.0, what="question_id"), plain_id("4", what="question_id")
    (4, '4')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"its {what} is no text and no whole number but {_kind(value)}")
    if not value.strip():
        raise ValueError(f"its {what} is empty")
    return plain_text(value, what=what)


def optional_text(value: Any, *, what: str) -> str:
    """A text that may be left out or null, which is an empty one; otherwise as `plain_text`."""
    return "" if value is None else plain_text(value, what=what)


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "a truth value", float: "a fraction", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number" if isinstance(value, int) else f"of type {type(value).__name__}")


@dataclass(frozen=True)
class FoundImage:
    """An image of a source: the bytes of its file, or why there are none.

    Attributes:
        problem: What is wrong, in the same words for all images of the kind.
        detail: What is particular to this image.
        file: Its file, where it has one of its own.
        checked: Whether it is known to decode.
    """

    image_id: str
    encoded: bytes | None
    problem: str = ""
    detail: str = ""
    file: Path | None = None
    checked: bool = False


@dataclass(frozen=True)
class QuestionReader(ABC):
    """Reads a set in passes: first every question, then every image that is wanted.

    Attributes:
        source: The name of the set.
        root: Its folder.
        listed: Its files, `data.files`, relative to the folder.
    """

    source: str
    root: Path
    listed: Mapping[str, str]

    @abstractmethod
    def fill(self, index: QuestionIndex) -> None:
        """Add every question and its annotation to an index.

        Raises:
            ReliabitError: A file is missing or not in the layout.
        """

    @abstractmethod
    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        """Read the images that an index has placed, one at a time, in whatever order the set has them."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that list the questions, images left out; what a table was made of is told by them.

        Raises:
            ReliabitError: One is not named, or not there.
        """

    def read_images(self) -> Iterable[Path]:
        """The files of images that count among those that the table is told by; few sources have few enough."""
        return ()

    def check(self) -> None:
        """Check that the files are there, without reading them.

        Raises:
            ReliabitError: One is missing, or not named as it should be.
        """
        self.files()


class OfficialReader(QuestionReader):
    """A set whose images lie in a folder: `data.files.images` is the path of one, with `{image_id}` in it."""

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        for image_id, name in index.placed_images():
            file = self.root / name
            try:
                yield FoundImage(image_id, file.read_bytes(), file=file)
            except FileNotFoundError:
                yield FoundImage(image_id, None, problem="its image is missing", detail=name, file=file)
            except OSError as error:
                detail = f"{name}: {error.strerror}"
                yield FoundImage(image_id, None, problem="its image cannot be read", detail=detail, file=file)

    def check(self) -> None:
        super().check()
        named = takewhile(lambda part: "{" not in part, PurePosixPath(self.image_pattern()).parts[:-1])
        folder = self.root.joinpath(*named)
        if not folder.is_dir():
            raise ReliabitError(
                f"{self.source}: the folder of images {folder} does not exist; put it there, or set data.root or "
                "data.files.images"
            )

    def listed_file(self, name: str) -> Path:
        """A file that `data.files` names.

        Raises:
            ReliabitError: It is not named, or not there.
        """
        if name not in self.listed:
            raise ReliabitError(
                f"data.files of {self.source} lacks {name}; it has {', '.join(self.listed) or 'nothing'}"
            )
        path = self.root / self.listed[name]
        if not path.is_file():
            raise ReliabitError(
                f"{self.source}: {path} does not exist; put it there, or set data.root or data.files.{name}"
            )
        return path

    def image_pattern(self) -> str:
        """The path of an image that `data.files.images` gives.

        Raises:
            ReliabitError: It is not given, or is no such path.
        """
        if "images" not in self.listed:
            raise ReliabitError(
                f"data.files of {self.source} lacks images, the path of an image with {{image_id}} in it"
            )
        pattern = self.listed["images"]
        if not any(_fits(pattern, image_id) for image_id in (1, "1")):
            raise ReliabitError(
                f"data.files.images={pattern} of {self.source} is not the path of an image with {{image_id}} in it; "
                "type it like 'data.files.images=\"val/{image_id}.jpg\"', with {image_id:012d} for a number of twelve "
                "digits"
            )
        return pattern


def _fits(pattern: str, image_id: int | str) -> bool:
    """Whether a pattern names the id and nothing else, and takes one of this type."""
    try:
        named = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
        pattern.format(image_id=image_id)
    # Formats nest, so within one stands whatever can be asked of an object.
    except (ValueError, LookupError, AttributeError, TypeError):
        return False
    return named == {"image_id"}


def image_file(pattern: str, image_id: int | str) -> str:
    """The file of an image, relative to the set's folder, by a pattern that may format its id as a number.

    Raises:
        ValueError: The pattern takes numbers and the id is none, or the path would leave the folder or is none.

    >>> image_file("val2014/COCO_val2014_{image_id:012d}.jpg", 42)
    'val2014/COCO_val2014_000000000042.jpg'
    >>> image_file("val/{image_id}", "VizWiz_val_00000000.jpg")
    'val/VizWiz_val_00000000.jpg'
    """
    name = pattern.format(image_id=image_id)
    if "\0" in name:
        raise ValueError(f"the image path {name!r} holds a NUL, which no path may")
    if leads_out(name):
        raise ValueError(f"the image path {name!r} leads out of the set's folder")
    return name


def answer_texts(answers: Any) -> list[str]:
    """The texts of a list of answers, which are texts themselves or have one each under `answer`.

    Answers are told apart by their place in the list alone: VizWiz gives them no ids, and ten that are equal are ten.

    Raises:
        ValueError: It is no such list.

    >>> answer_texts([{"answer": "cat", "answer_confidence": "yes"}, {"answer": "cat", "answer_confidence": "yes"}])
    ['cat', 'cat']
    >>> answer_texts(["cat", "a cat"])
    ['cat', 'a cat']
    """
    if not isinstance(answers, list):
        raise ValueError("its answers are no list")
    texts = [answer.get("answer") if isinstance(answer, Mapping) else answer for answer in answers]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("one of its answers has no text")
    return [plain_text(text, what="answer") for text in texts]
