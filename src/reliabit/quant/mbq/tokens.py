"""Which tokens of a calibration set are kept: a draw from each modality, and a few whole batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reliabit.quant.mbq.batch import MODALITIES, CalibrationBatch


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

    Padding is not numbered, so that the draw does not depend on it.

    Args:
        batches: The calibration set.
        per_modality: Tokens to draw from each modality, or all it has.
        contexts: Sequences to keep whole, at least; whole batches are drawn.
        seed: Seeds the draws.

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
