"""What calibration looks at: sequences of an image, a question and its answer, and which of their tokens are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reliabit.errors import ReliabitError

IGNORED = -100
"""The target of a position that predicts no answer token, as in transformers."""

MODALITIES = ("answer", "vision", "other")
ANSWER, VISION, OTHER = range(3)


@dataclass(frozen=True)
class CalibrationBatch:
    """A batch of sequences, padded on either side.

    A position counts as an answer position when its output predicts a token of the answer: the last position of the
    prompt is one, the token that ends the answer is none, because nothing is read from its output.

    Attributes:
        inputs: Keyword arguments of the model's forward pass.
        vision: Positions of image tokens, bool `[sequences, tokens]`.
        targets: The answer token that each position predicts, `IGNORED` elsewhere, int64 `[sequences, tokens]`.
        attended: Positions that are no padding, bool `[sequences, tokens]`.
    """

    inputs: dict[str, Any]
    vision: Tensor
    targets: Tensor
    attended: Tensor

    @property
    def answer(self) -> Tensor:
        """Answer positions, bool `[sequences, tokens]`."""
        return (self.targets != IGNORED) & self.attended

    def kinds(self) -> Tensor:
        """The modality of each token that is no padding, in order: uint8 `[tokens]`, an index into `MODALITIES`.

        Example:
            >>> yes, no = True, False
            >>> batch = CalibrationBatch(
            ...     inputs={},
            ...     vision=torch.tensor([[no, yes, no, no]]),
            ...     targets=torch.tensor([[-100, -100, -100, 7]]),
            ...     attended=torch.tensor([[no, yes, yes, yes]]),
            ... )
            >>> batch.kinds()
            tensor([1, 2, 0], dtype=torch.uint8)
        """
        kinds = torch.full(self.targets.shape, OTHER, dtype=torch.uint8)
        kinds[self.vision.cpu()] = VISION
        kinds[self.answer.cpu()] = ANSWER
        return kinds[self.attended.cpu()]


def check_batches(batches: Sequence[CalibrationBatch]) -> None:
    """Refuse a set without sequences, without image tokens, or with a sequence without answer tokens."""
    if not batches:
        raise ReliabitError("the calibration set is empty; give it at least one image with a question and its answer")
    if not any(bool((batch.vision & batch.attended).any()) for batch in batches):
        raise ReliabitError("the calibration set has no image tokens; calibrate with questions about images")
    for number, batch in enumerate(batches):
        silent = (~batch.answer.any(dim=1)).nonzero()
        if len(silent):
            raise ReliabitError(
                f"sequence {int(silent[0])} of calibration batch {number} has no answer tokens; "
                "give every question of the calibration set an answer"
            )


@dataclass(frozen=True)
class Tokens:
    """The tokens of a calibration set that are no padding, numbered in order, and those that are kept.

    Attributes:
        kinds: The modality of each token, uint8 `[tokens]`.
        sequences: The sequence of each token, int64 `[tokens]`.
        drawn: The kept tokens, rising, int64.
        contexts: The batches that are kept whole, for attention needs a token's neighbours.
        starts: The number of the first token of each batch, and after them the number of all tokens.
    """

    kinds: Tensor
    sequences: Tensor
    drawn: Tensor
    contexts: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def counts(self) -> Tensor:
        """How many tokens of each modality there are, int64 `[modalities]`."""
        counts: Tensor = torch.bincount(self.kinds.long(), minlength=len(MODALITIES))
        return counts

    def of_batch(self, number: int) -> slice:
        """The tokens of a batch."""
        return slice(self.starts[number], self.starts[number + 1])

    def drawn_of_batch(self, number: int) -> Tensor:
        """The kept tokens of a batch, counted from its first token."""
        part = self.of_batch(number)
        inside = (self.drawn >= part.start) & (self.drawn < part.stop)
        chosen: Tensor = self.drawn[inside] - part.start
        return chosen


def draw_tokens(batches: Sequence[CalibrationBatch], *, per_modality: int, contexts: int, seed: int) -> Tokens:
    """Number the tokens of a calibration set and draw those that are kept.

    Padding is not numbered, so that the draw does not depend on it. Of each modality `per_modality` tokens are drawn,
    or all it has; of batches as many as hold `contexts` sequences.

    Example:
        >>> mask = torch.ones(1, 4, dtype=torch.bool)
        >>> batch = CalibrationBatch({}, vision=~mask, targets=torch.tensor([[-100, -100, 5, -100]]), attended=mask)
        >>> tokens = draw_tokens([batch, batch], per_modality=2, contexts=1, seed=0)
        >>> tokens.counts.tolist(), len(tokens.drawn), len(tokens.contexts)
        ([2, 0, 6], 4, 1)
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = [batch.kinds() for batch in batches]
    starts = [0]
    for found in kinds:
        starts.append(starts[-1] + len(found))
    every = torch.cat(kinds)
    drawn = [_draw((every == kind).nonzero()[:, 0], per_modality, generator) for kind in range(len(MODALITIES))]
    return Tokens(
        kinds=every,
        sequences=_sequences(batches),
        drawn=torch.cat(drawn).sort().values,
        contexts=_draw_batches(batches, contexts, generator),
        starts=tuple(starts),
    )


def _draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return candidates[torch.randperm(len(candidates), generator=generator)[:count]]


def _draw_batches(batches: Sequence[CalibrationBatch], sequences: int, generator: torch.Generator) -> tuple[int, ...]:
    chosen: list[int] = []
    for number in torch.randperm(len(batches), generator=generator).tolist():
        if sum(len(batches[other].attended) for other in chosen) >= sequences:
            break
        chosen.append(number)
    return tuple(sorted(chosen))


def _sequences(batches: Sequence[CalibrationBatch]) -> Tensor:
    numbers, first = [], 0
    for batch in batches:
        rows = torch.arange(first, first + len(batch.attended))[:, None].expand(batch.attended.shape)
        numbers.append(rows[batch.attended.cpu()])
        first += len(batch.attended)
    return torch.cat(numbers)
