"""What a set too large to hold is made of: questions, annotations, and where images lie."""

from collections.abc import Sequence
from dataclasses import dataclass


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
