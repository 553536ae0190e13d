"""What a model takes: questions and images that its tokenizer and its processor read as they are meant.

One rule for whatever is put to a model: data sets, calibration, further passes, and requests to the service. It needs
no more of an image than its size, so that it is known before anything is encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.models.encoding import Encoder

Size = tuple[int, int]
"""Width and height of an image, in pixels."""

TEXTS = 1024
"""Prompts tokenized at once."""


@dataclass(frozen=True)
class RefusedQuestion:
    """Why a model does not take a question.

    Attributes:
        problem: What is wrong, in the same words for all questions of the kind.
        detail: What is particular to this one.
        remedy: What whoever asked it may do.
    """

    problem: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.detail}; {self.remedy}"


@dataclass(frozen=True)
class Admission:
    """Tells which questions a model takes.

    Attributes:
        encoder: What encodes for the model.
        longest: The most tokens a prompt may have, its image's included.
    """

    encoder: Encoder
    longest: int
    _image_tokens: dict[Size, "int | RefusedQuestion"] = field(default_factory=dict, init=False, repr=False)

    def refusals(
        self, questions: Sequence[str], sizes: Sequence[Size], *, words: Sequence[str] | None = None
    ) -> list[RefusedQuestion | None]:
        """Why each of some questions is not taken; `None` for those that are.

        Args:
            questions: As they go into the model's template.
            sizes: The size of each question's image, turned as it is shown.
            words: What of each question may hold no token of the template, where that is not all of it.
        """
        before, after = self.encoder.around_question()
        texts = [f"{before}{question}{after}" for question in questions]
        return self._refusals(questions if words is None else words, texts, sizes)

    def answered_refusals(
        self, questions: Sequence[str], answers: Sequence[str], sizes: Sequence[Size]
    ) -> list[RefusedQuestion | None]:
        """The same for questions that are shown with their answers, as in a calibration set."""
        adapter = self.encoder.adapter
        before, after = self.encoder.around_question()
        written = [
            f"{before}{question}{after}{adapter.answer_prefix}{answer}{adapter.end_of_answer}"
            for question, answer in zip(questions, answers, strict=True)
        ]
        words = [f"{question}\n{answer}" for question, answer in zip(questions, answers, strict=True)]
        return self._refusals(words, written, sizes)

    def _refusals(
        self, words: Sequence[str], texts: Sequence[str], sizes: Sequence[Size]
    ) -> list[RefusedQuestion | None]:
        """Judge by what a user wrote, by the whole prompt with its image's token, and by the image."""
        found: list[RefusedQuestion | None] = []
        for start in range(0, len(texts), TEXTS):
            part = slice(start, start + TEXTS)
            lengths = self._lengths(texts[part])
            for own, tokens, size in zip(words[part], lengths, sizes[part], strict=True):
                found.append(self._refusal(own, tokens, size))
        return found

    def _refusal(self, words: str, tokens: int, size: Size) -> RefusedQuestion | None:
        reserved = self.encoder.reserved.search(words)
        if reserved is not None:
            return RefusedQuestion(
                problem="the question holds a token that the model's template reserves",
                detail=f"the question holds {reserved.group()!r}, which the model's template reserves",
                remedy="leave it out",
            )
        image = self._of_image(size)
        if isinstance(image, RefusedQuestion):
            return image
        # The image's token stands in the prompt once, for as many as it has.
        length = tokens - 1 + image
        if length <= self.longest:
            return None
        return RefusedQuestion(
            problem="its prompt is longer than the model takes",
            detail=f"the prompt has {length} tokens and the model takes {self.longest}",
            remedy="ask a shorter question",
        )

    def _of_image(self, size: Size) -> "int | RefusedQuestion":
        """The tokens of an image, or why it is not taken."""
        if size not in self._image_tokens:
            self._image_tokens[size] = self._seen(size)
        return self._image_tokens[size]

    def _seen(self, size: Size) -> "int | RefusedQuestion":
        try:
            placeholder = self.encoder.adapter.placeholder(self.encoder.processor, size)
        # What a processor raises for an image that it does not take is its own affair.
        except (ValueError, ArithmeticError) as error:
            width, height = size
            return RefusedQuestion(
                problem="its image is none that the model takes",
                detail=f"the image of {width}x{height} pixels is none that the model takes "
                f"({' '.join(str(error).split())})",
                remedy="send another image",
            )
        return self._lengths([placeholder])[0]

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        # Data sets ask the same of many images.
        distinct = list(dict.fromkeys(texts))
        tokenized = self.encoder.processor.tokenizer(distinct, add_special_tokens=False, return_attention_mask=False)
        length_of = {text: len(ids) for text, ids in zip(distinct, tokenized["input_ids"], strict=True)}
        return [length_of[text] for text in texts]


def context_length(config: Any) -> int:
    """How many tokens, prompt and answer together, a model has positions for; by its configuration."""
    return int(config.get_text_config().max_position_embeddings)


def read_context_length(folder: Path) -> int:
    """The same of a checkpoint folder.

    Raises:
        ReliabitError: Its configuration cannot be read.
    """
    from transformers import AutoConfig

    try:
        return context_length(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"the configuration of {folder} does not say how long a prompt may be: {reason}") from error
