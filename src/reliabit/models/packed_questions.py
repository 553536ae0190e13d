"""All questions about an image in one sequence: what they share, the image, is computed once.

The image comes first and each question with its answer follows; a question sees the image and itself, at the positions
it would have were it alone. A frozen decoder then costs half of what it would with a sequence a question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reliabit.models.batches import IGNORED
from reliabit.models.encoding import Encoder

PREFIX, PADDING = 0, -1
"""The segments of the image's tokens and of padding; the questions' are 1, 2, ..."""


@dataclass
class PackedQuestions:
    """A batch of images with their questions, `[images, tokens]` each.

    Attributes:
        ids: The tokens.
        positions: Their rotary positions.
        segments: Whose they are: `PREFIX`, a question's number from 1 on, or `PADDING`.
        labels: The tokens of answers with their ends where they stand, and `IGNORED` elsewhere.
        types: The kind of each question, by image.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor
    types: list[list[str]]

    def mask(self) -> torch.Tensor:
        """What each token sees, `[images, 1, tokens, tokens]`, bool: the image and its own question up to itself."""
        of, seen = self.segments[:, :, None], self.segments[:, None, :]
        causal = torch.ones(self.ids.shape[1], self.ids.shape[1]).tril().bool()
        # Padding comes last, and sees the image: a token that saw nothing would have no softmax.
        return (causal & ((seen == PREFIX) | (seen == of)))[:, None]

    def right(self, predicted: torch.Tensor) -> list[list[bool]]:
        """Whether every answer token of each question is the predicted one.

        Args:
            predicted: The token predicted for each position, `[images, tokens]`.
        """
        wrong = (predicted != self.labels) & (self.labels != IGNORED)
        return [
            [not bool(missed[owners == number].any()) for number in range(1, len(types) + 1)]
            for missed, owners, types in zip(wrong, self.segments, self.types, strict=True)
        ]


def pack_questions(
    images: Sequence[Sequence[dict[str, Any]]], *, encoder: Encoder, placeholder: str
) -> PackedQuestions:
    """Pack the rows of each image with their first answers.

    Args:
        images: Rows of a VQA table by image; a prompt begins with the image.
        encoder: Encodes prompts.
        placeholder: What stands for an image in each prompt, all being of one size.
    """
    adapter, tokenizer = encoder.adapter, encoder.processor.tokenizer
    shared = encoder.prompt("", placeholder=placeholder).index(placeholder) + len(placeholder)
    prefix: list[int] | None = None
    sequences = []
    for rows in images:
        texts = [(encoder.prompt(row["question"], placeholder=placeholder), _target(row, adapter)) for row in rows]
        prefix = prefix or tokenizer(texts[0][0][:shared], add_special_tokens=False)["input_ids"]
        prompts = tokenizer([prompt[shared:] for prompt, _ in texts], add_special_tokens=False)["input_ids"]
        answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
        sequences.append((prefix, list(zip(prompts, answers, strict=True))))
    longest = max(len(before) + sum(len(p) + len(a) for p, a in pairs) for before, pairs in sequences)
    shape = (len(images), longest)
    packed = PackedQuestions(
        ids=torch.full(shape, tokenizer.pad_token_id),
        positions=torch.zeros(shape, dtype=torch.long),
        segments=torch.full(shape, PADDING),
        labels=torch.full(shape, IGNORED),
        types=[[row["question_type"] for row in rows] for rows in images],
    )
    for number, (before, pairs) in enumerate(sequences):
        _fill(packed, number, before, pairs)
    return packed


def _target(row: dict[str, Any], adapter: Any) -> str:
    return f"{adapter.answer_prefix}{row['answers'][0]}{adapter.end_of_answer}"


def _fill(packed: PackedQuestions, number: int, prefix: list[int], pairs: list[tuple[list[int], list[int]]]) -> None:
    end = len(prefix)
    packed.ids[number, :end] = torch.tensor(prefix)
    packed.positions[number, :end] = torch.arange(end)
    packed.segments[number, :end] = PREFIX
    for segment, (prompt, answer) in enumerate(pairs, start=1):
        start, end = end, end + len(prompt) + len(answer)
        packed.ids[number, start:end] = torch.tensor(prompt + answer)
        packed.positions[number, start:end] = torch.arange(len(prefix), len(prefix) + end - start)
        packed.segments[number, start:end] = segment
        packed.labels[number, start + len(prompt) : end] = torch.tensor(answer)
