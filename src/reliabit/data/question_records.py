"""What a set too large to hold is made of: questions, annotations, and where images lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LARGEST_WHOLE = 2**53
"""Beyond it, floats leave out integers."""


def plain_text(value: Any, *, what: str) -> str:
    """A text that a source gives.

    Args:
        value: What stands there.
        what: What it is, for the error message.

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
class Question:
    """A question as its source lists it.

    Attributes:
        question_id: Its id.
        image_id: The id of its image.
        image_file: Where the image lies, relative to the set's folder; empty where the source holds it otherwise.
        text: The question itself.
    """

    question_id: str
    image_id: str
    image_file: str
    text: str


@dataclass(frozen=True)
class Annotation:
    """What annotators said of a question.

    Attributes:
        answers: One an annotator.
        question_type: The source's own kind of question.
        answer_type: The source's own kind of answer.
    """

    answers: Sequence[str]
    question_type: str
    answer_type: str


@dataclass(frozen=True)
class KeptImage:
    """Where an image lies in the store of its split.

    Attributes:
        position: Its first byte.
        length: How many bytes it has.
        sha256: Their digest.
    """

    position: int
    length: int
    sha256: bytes


@dataclass(frozen=True)
class IndexedRow:
    """A row of the table to be written, in the order of the table."""

    image: KeptImage
    question: Question
    annotation: Annotation
