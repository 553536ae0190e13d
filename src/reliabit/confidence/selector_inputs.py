"""The Selector's inputs, row by row: blocks that may be larger than memory, joined and cast a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.confidence.examples import Evidence
from reliabit.confidence.selector_settings import MAXPROB
from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray

CHUNK_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class SelectorInputs:
    """The inputs of N answers.

    Attributes:
        blocks: Each `[N, width]`, in the order in which a row joins them.
    """

    blocks: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a row that each block gives, in order."""
        return {name: block.shape[1] for name, block in self.blocks.items()}

    @property
    def width(self) -> int:
        """Numbers a row."""
        return sum(self.widths.values())

    def gather(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Join some rows, `[rows, width]`.

        Raises:
            ReliabitError: One of them holds a NaN or an infinity.
        """
        joined = np.concatenate([block[rows].astype(np.float32) for block in self.blocks.values()], axis=1)
        # One sum over all is cheaper than looking at each; only a sum that is not finite is looked into.
        if not np.isfinite(joined.sum(dtype=np.float64)):
            self._name_fault(np.arange(len(self))[rows])
        return joined

    def chunks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All rows in order, some at a time."""
        step = max(1, CHUNK_BYTES // (4 * self.width))
        for start in range(0, len(self), step):
            yield self.gather(slice(start, start + step))

    def held(self, *, memory: int) -> "SelectorInputs":
        """The same inputs, joined once and for all where that takes at most `memory` bytes."""
        if 4 * len(self) * self.width > memory:
            return self
        return SelectorInputs({"joined": np.concatenate(list(self.chunks()))})

    def _name_fault(self, rows: npt.NDArray[np.int64]) -> None:
        for name, block in self.blocks.items():
            finite = np.isfinite(block[rows]).all(axis=1)
            if not finite.all():
                raise ReliabitError(
                    f"the feature block {name} holds a NaN or an infinity in row {rows[np.argmin(finite)]}; "
                    "answer again with confidence.features.dtype=float32"
                )


def selector_inputs(evidence: Evidence, names: Sequence[str]) -> SelectorInputs:
    """The inputs of answers.

    Args:
        evidence: The answers.
        names: Feature blocks and "maxprob", in the order in which a row joins them.

    Raises:
        ReliabitError: A block is missing, or there are no answers.

    >>> features = {"first": np.zeros((2, 3), np.float16)}
    >>> answers = Evidence(columns={"log_prob": np.log([0.5, 1.0])}, features=features)
    >>> selector_inputs(answers, ["first", "maxprob"]).gather(slice(0, 2))
    array([[0. , 0. , 0. , 0.5],
           [0. , 0. , 0. , 1. ]], dtype=float32)
    """
    features = evidence.features or {}
    missing = [name for name in names if name not in (MAXPROB, *features)]
    if missing:
        raise ReliabitError(
            f"the Selector reads the feature blocks {', '.join(missing)}, which these answers lack; "
            "answer again with selector in confidence.estimators"
        )
    if not len(evidence):
        raise ReliabitError("the Selector got no answers; give at least one")
    return SelectorInputs({name: _maxprob(evidence) if name == MAXPROB else features[name] for name in names})


def standardizer(inputs: SelectorInputs) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each input over all rows, `[width]` each, in one pass in float64.

    Chunks are merged as Chan et al. 1979 do, so that an input that never changes has a deviation of exactly 0;
    it is given as 1, and standardizing leaves it at 0.
    """
    count, mean, squares = 0, np.zeros(inputs.width), np.zeros(inputs.width)
    for chunk in inputs.chunks():
        rows = chunk.astype(np.float64)
        chunk_mean = rows.mean(0)
        difference = chunk_mean - mean
        total = count + len(rows)
        mean = mean + difference * (len(rows) / total)
        squares += np.square(rows - chunk_mean).sum(0) + np.square(difference) * (count * len(rows) / total)
        count = total
    deviation = np.sqrt(squares / count)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _maxprob(evidence: Evidence) -> npt.NDArray[np.float32]:
    return np.exp(evidence.column("log_prob", confidence="selector"))[:, None].astype(np.float32)
