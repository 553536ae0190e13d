"""From questions about images to a batch that the model takes, or the reason why it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from reliabit.data.image_decoding import image_size
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from reliabit.models.admission import Admission
    from reliabit.models.encoding import Batch


@dataclass(frozen=True, kw_only=True)
class ImageQuestion:
    """A question about an image.

    Attributes:
        image: The encoded image file.
        question: The question, as it is put into the model's template.
        risk: Which certified threshold decides whether the answer is given; `None` for the bundle's default.
    """

    image: bytes
    question: str
    risk: float | None = None


class QuestionsRefusedError(ReliabitError):
    """Some of several questions cannot be answered.

    Attributes:
        reasons: One sentence each, by the question's number among those that were asked; at least one.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        first, reason = next(iter(sorted(reasons.items())))
        super().__init__(f"question {first}: {reason}")
        self.reasons = dict(reasons)


def encode_questions(questions: Sequence[ImageQuestion], *, admission: "Admission") -> "Batch":
    """Encode questions together, as offline answering does, if the model takes them.

    Args:
        questions: One batch of them.
        admission: Which questions the model takes; the same rule as that for data sets.

    Raises:
        QuestionsRefusedError: Some are not taken or do not encode; all of them are named.
    """
    refuse([_unreadable(one) for one in questions])
    sizes = [image_size(one.image, item="the request") for one in questions]
    refuse(admission.refusals([one.question for one in questions], sizes))
    try:
        return admission.encoder(_rows(questions))
    # What a processor raises for an image or text that it cannot take is its own affair.
    except Exception as error:
        refuse([_unencodable(one, admission) for one in questions], cause=error)
        # Each of them encodes, and only all together do not.
        raise


def refuse(reasons: Sequence[object], *, cause: Exception | None = None) -> None:
    """Refuse all questions if some have a reason, which is `None` for the others."""
    refused = {number: str(reason) for number, reason in enumerate(reasons) if reason is not None}
    if refused:
        raise QuestionsRefusedError(refused) from cause


def _unreadable(asked: ImageQuestion) -> str | None:
    if not asked.question.strip():
        return "the question has no text; write one"
    try:
        image_size(asked.image, item="the request")
    except ReliabitError as error:
        return f"the question cannot be encoded ({error}); send another image"
    return None


def _unencodable(asked: ImageQuestion, admission: "Admission") -> str | None:
    try:
        admission.encoder(_rows([asked]))
    except Exception as error:
        return f"the question cannot be encoded ({' '.join(str(error).split())}); send another image"
    return None


def _rows(questions: Sequence[ImageQuestion]) -> list[dict[str, Any]]:
    # Equal images have equal names, so that the vision tower sees each once.
    return [
        {
            "question_id": str(number),
            "image_id": sha256(one.image).hexdigest(),
            "source": "request",
            "image": one.image,
            "question": one.question,
        }
        for number, one in enumerate(questions)
    ]
