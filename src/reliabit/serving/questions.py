"""From what is asked to a batch that the model takes, or the reason why it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
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


def encode(encoder: "Encoder", questions: Sequence[Asked], *, longest: int) -> "Batch":
    """Encode questions together, as offline answering does.

    Args:
        encoder: What encodes for the model.
        questions: One batch of them.
        longest: The most tokens a prompt may have, its image's included.

    Raises:
        QuestionsRefusedError: Some hold a special token, do not encode or are too long; all of them are named.
    """
    reserved = reserved_words(encoder)
    refused = {number: reason for number, one in enumerate(questions) if (reason := _forbidden(one, reserved))}
    if refused:
        raise QuestionsRefusedError(refused)
    try:
        batch = encoder(_rows(questions))
    # What a processor raises for an image or text that it cannot take is its own affair.
    except Exception as error:
        raise QuestionsRefusedError(_culprits(encoder, questions, error)) from error
    for number, tokens in enumerate(batch.text["attention_mask"].sum(1).tolist()):
        if tokens > longest:
            refused[number] = f"the prompt has {tokens} tokens and the model takes {longest}; ask a shorter question"
    if refused:
        raise QuestionsRefusedError(refused)
    return batch


def reserved_words(encoder: "Encoder") -> tuple[str, ...]:
    """The texts of special tokens, with which a question could pose as the template or as an image."""
    words = {str(token) for token in encoder.processor.tokenizer.added_tokens_decoder.values()}
    return tuple(sorted({*words, encoder.adapter.image_token}))


def _forbidden(asked: Asked, reserved: Sequence[str]) -> str | None:
    if not asked.question.strip():
        return "the question has no text; write one"
    found = next((word for word in reserved if word in asked.question), None)
    return None if found is None else f"the question holds {found!r}, which the model's template reserves; leave it out"


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
