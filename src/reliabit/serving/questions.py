"""From what is asked to a batch that the model takes, or the reason why it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from reliabit.data.image_decoding import image_size
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from reliabit.models.admission import Admission
    from reliabit.models.encoding import Batch, Encoder


@dataclass(frozen=True, kw_only=True)
class Asked:
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
        reasons: One sentence each, by the question's number among those that were asked.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        """Say why.

        Args:
            reasons: By the question's number; at least one.
        """
        first, reason = next(iter(sorted(reasons.items())))
        super().__init__(f"question {first}: {reason}")
        self.reasons = dict(reasons)


def encode(questions: Sequence[Asked], *, admission: "Admission") -> "Batch":
    """Encode questions together, as offline answering does, if the model takes them.

    Args:
        questions: One batch of them.
        admission: Which questions the model takes; the same rule as that for data sets.

    Raises:
        QuestionsRefusedError: Some are not taken or do not encode; all of them are named.
    """
    refused = {number: reason for number, one in enumerate(questions) if (reason := _unreadable(one))}
    if refused:
        raise QuestionsRefusedError(refused)
    sizes = [image_size(one.image, item="the request") for one in questions]
    found = admission.refusals([one.question for one in questions], sizes)
    refused = {number: str(refusal) for number, refusal in enumerate(found) if refusal is not None}
    if refused:
        raise QuestionsRefusedError(refused)
    try:
        return admission.encoder(_rows(questions))
    # What a processor raises for an image or text that it cannot take is its own affair.
    except Exception as error:
        raise QuestionsRefusedError(_culprits(admission.encoder, questions, error)) from error


def _unreadable(asked: Asked) -> str | None:
    if not asked.question.strip():
        return "the question has no text; write one"
    try:
        image_size(asked.image, item="the request")
    except ReliabitError as error:
        return f"the question cannot be encoded ({error}); send another image"
    return None


def _culprits(encoder: "Encoder", questions: Sequence[Asked], error: Exception) -> dict[int, str]:
    """Encode each question alone to find those that fail.

    Raises:
        Exception: The error itself, where each of them encodes and only all together do not.
    """
    refused: dict[int, str] = {}
    for number, one in enumerate(questions):
        try:
            encoder(_rows([one]))
        except Exception as own:
            refused[number] = f"the question cannot be encoded ({' '.join(str(own).split())}); send another image"
    if not refused:
        raise error
    return refused


def _rows(questions: Sequence[Asked]) -> list[dict[str, Any]]:
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
