"""Predictions ranked by confidence once, and their sums over groups of equal confidence.

Every selective metric is a function of these sums, because a threshold accepts a group of equal confidences whole or
not at all. Weights of shape `(B, N)` stand for B bootstrap resamples: the sums then have the shape `(B, G)`, and the
metrics the shape `(B,)`, from the one sort.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reliabit.metrics.functional.inputs import FloatArray, IntArray, VectorLike, as_pair, loss_units

Sums: TypeAlias = npt.NDArray[Any]  # int64 where losses are whole units, else float64


@dataclass(frozen=True, eq=False)
class Ranking:
    """N predictions in descending order of confidence, in G groups of equal confidence.

    Attributes:
        order: Shape `(N,)`, the item at each position.
        starts: Shape `(G,)`, the position at which each group starts.
        confidence: Shape `(G,)`, strictly descending unless ties were split.
        loss: Shape `(N,)`, 1 - accuracy at each position, in units.
        unit: How many loss units make a risk of 1.
    """

    order: IntArray
    starts: IntArray
    confidence: FloatArray
    loss: Sums
    unit: int

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.order)

    @cached_property
    def oracle(self) -> "Ranking":
        """The same predictions ranked by their accuracy, which no confidence can beat.

        Its `order` refers to the positions of this ranking, not to the items.
        """
        order, starts, level = _sort(-self.loss.astype(np.float64), self.loss, split_ties=False)
        return Ranking(order=order, starts=starts, confidence=level, loss=self.loss[order], unit=self.unit)

    @cached_property
    def group_sizes(self) -> IntArray:
        """How many predictions each group has, shape `(G,)`."""
        return np.diff(np.append(self.starts, self.n_items))

    @cached_property
    def whole(self) -> bool:
        """Whether every answer is wholly right or wholly wrong: then its loss says also whether it is wrong."""
        return self.unit == 1 and np.issubdtype(self.loss.dtype, np.integer)

    @cached_property
    def tied(self) -> FloatArray:
        """1 at each position that shares its confidence with another, else 0; shape `(N,)`."""
        return np.repeat(self.group_sizes > 1, self.group_sizes).astype(np.float64)

    @cached_property
    def probability(self) -> FloatArray:
        """The confidence at each position, shape `(N,)`."""
        return np.repeat(self.confidence, self.group_sizes)

    @cached_property
    def squared_error(self) -> FloatArray:
        """(confidence - accuracy)^2 at each position, shape `(N,)`."""
        return np.square(self.probability - (1 - self.loss / self.unit))

    @cached_property
    def clipped_cross_entropy(self) -> FloatArray:
        """Cross-entropy at each position with confidences clipped to [1e-12, 1 - 1e-12], shape `(N,)`."""
        return cross_entropy(self.probability, 1 - self.loss / self.unit, eps=1e-12)

    def groups(self, weights: IntArray | None = None) -> "TieGroups":
        """Sum over each group.

        Args:
            weights: Shape `(N,)` or `(B, N)`, how often the item at each position of `order` occurs.
        """
        return TieGroups(self, weights)


def rank(
    confidence: VectorLike, accuracy: VectorLike, *, split_ties: bool = False, probability: bool = False
) -> Ranking:
    """Check and sort predictions.

    Args:
        confidence: Shape `(N,)`.
        accuracy: Shape `(N,)`.
        split_ties: Whether equal confidences are ordered by their accuracy, best first, each a group of its own. That
            is the optimistic order of the published evaluators and of no use but parity with them.
        probability: Whether confidences must lie in [0, 1].

    >>> rank([0.5, 0.9, 0.5], [1.0, 0.9, 0.0]).groups().loss
    array([ 1, 10])
    """
    ranked, scored = as_pair(confidence, accuracy, probability=probability)
    order, starts, levels = _sort(ranked, scored, split_ties=split_ties)
    loss, unit = loss_units(scored)
    return Ranking(order=order, starts=starts, confidence=levels, loss=loss[order], unit=unit)


def _sort(confidence: FloatArray, accuracy: FloatArray, *, split_ties: bool) -> tuple[IntArray, IntArray, FloatArray]:
    if split_ties:
        order = np.lexsort((-accuracy, -confidence))
        return order, np.arange(len(order)), confidence[order]
    order = np.argsort(-confidence)
    ranked = confidence[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    return order, starts, ranked[starts]


@dataclass(frozen=True, eq=False)
class TieGroups:
    """Sums over groups of equal confidence, each computed when first asked for; see the module.

    With weights a group may be empty. Sums have the shape `(G,)`, or `(B, G)` with weights of shape `(B, N)`.
    """

    ranking: Ranking
    weights: IntArray | None = None

    @property
    def unit(self) -> int:
        """How many loss units make a risk of 1."""
        return self.ranking.unit

    @property
    def confidence(self) -> FloatArray:
        """Shape `(G,)`, descending."""
        return self.ranking.confidence

    @cached_property
    def oracle(self) -> "TieGroups":
        """The same predictions, ranked by their accuracy."""
        oracle = self.ranking.oracle
        return TieGroups(oracle, None if self.weights is None else self.weights.take(oracle.order, axis=-1))

    def _sum(self, values: Sums | np.int64) -> Sums:
        weighted = np.asarray(values) if self.weights is None else self.weights * values
        if len(self.ranking.starts) == self.ranking.n_items:
            return weighted
        return np.add.reduceat(weighted, self.ranking.starts, axis=-1)

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean over predictions of a value at each position, shape `()` or `(B,)`."""
        if self.weights is None:
            return np.asarray(values.mean())
        # Not a matrix product: BLAS would start threads that bootstrap workers already occupy.
        return ratio(np.einsum("...n,n->...", self.weights, values), self.total)

    @cached_property
    def size(self) -> IntArray:
        """How many predictions each group has."""
        if self.weights is None:
            return self.ranking.group_sizes
        return self._sum(np.int64(1))

    @cached_property
    def loss(self) -> Sums:
        """Sum of 1 - accuracy, in units."""
        return self._sum(self.ranking.loss)

    @cached_property
    def accuracy(self) -> FloatArray:
        """Sum of the accuracies."""
        return self.size - self.loss / self.unit

    @cached_property
    def wrong(self) -> IntArray:
        """How many have an accuracy of 0: no annotator agrees."""
        if self.ranking.whole:
            return self.loss
        return self._sum((self.ranking.loss == self.unit).astype(np.int64))

    @cached_property
    def minority(self) -> IntArray:
        """How many have an accuracy below 1/2."""
        if self.ranking.whole:
            return self.loss
        return self._sum((2 * self.ranking.loss > self.unit).astype(np.int64))

    @cached_property
    def accepted(self) -> IntArray:
        """How many predictions a threshold at each group accepts: the size of it and of all surer ones."""
        return np.cumsum(self.size, axis=-1)

    @cached_property
    def accepted_loss(self) -> Sums:
        """The loss of what a threshold at each group accepts, in units."""
        return np.cumsum(self.loss, axis=-1)

    @cached_property
    def accepted_wrong(self) -> IntArray:
        """How many of what a threshold at each group accepts have an accuracy of 0."""
        if self.ranking.whole:
            return self.accepted_loss
        return np.cumsum(self.wrong, axis=-1)

    @cached_property
    def accepted_minority(self) -> IntArray:
        """How many of what a threshold at each group accepts have an accuracy below 1/2."""
        if self.ranking.whole:
            return self.accepted_loss
        return np.cumsum(self.minority, axis=-1)

    @cached_property
    def total(self) -> IntArray:
        """How many predictions there are, shape `()` or `(B,)`."""
        return self.accepted[..., -1]

    @cached_property
    def risk(self) -> FloatArray:
        """Mean of 1 - accuracy over all predictions, shape `()` or `(B,)`; NaN where there are none."""
        return ratio(self.accepted_loss[..., -1], self.unit * self.total)

    @cached_property
    def sum_of_risks(self) -> FloatArray:
        """Sum of the selective risks R_k in expected order, shape `()` or `(B,)`.

        The sum over j = 1..m of (S + s j/m) / (n0 + j) is s + (S - s n0/m) (H(n0+m) - H(n0)), with harmonic numbers H.
        """
        steps = _harmonic(int(np.max(self.total)).bit_length())[self.accepted]
        steps[..., 1:] -= steps[..., :-1]
        # numpy divides whole numbers, and takes differences with something before them, at a fifth of the speed.
        slope = self.loss.astype(np.float64) / np.maximum(self.size, 1).astype(np.float64)
        before = self.accepted_loss - self.loss - slope * (self.accepted - self.size)
        return np.asarray(self.accepted_loss[..., -1] + np.einsum("...g,...g->...", before, steps)) / self.unit

    @cached_property
    def running_excess(self) -> FloatArray:
        """Accuracy less confidence, summed over all groups before each, shape `(G + 1,)` or `(B, G + 1)`."""
        excess = self.accuracy - self.size * self.confidence
        running = np.zeros((*excess.shape[:-1], excess.shape[-1] + 1))
        np.cumsum(excess, axis=-1, out=running[..., 1:])
        return running


@lru_cache(maxsize=4)
def _harmonic(bits: int) -> FloatArray:
    return np.append(0.0, np.cumsum(1.0 / np.arange(1, 1 << bits)))


def cross_entropy(confidence: FloatArray, accuracy: FloatArray, *, eps: float) -> FloatArray:
    """-[a log c + (1 - a) log(1 - c)] of each prediction, with c clipped to [eps, 1 - eps].

    >>> cross_entropy(np.array([1.0, 0.5]), np.array([1.0, 0.5]), eps=0.0).round(4).tolist()
    [0.0, 0.6931]
    """
    clipped = np.clip(confidence, eps, 1 - eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        right, wrong = accuracy * np.log(clipped), (1 - accuracy) * np.log1p(-clipped)
    # 0 log 0 is 0: a confidence of 1 that is fully right costs nothing even without clipping.
    return np.abs(np.nan_to_num(right, neginf=-np.inf) + np.nan_to_num(wrong, neginf=-np.inf))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """Divide, with NaN instead of a warning where the denominator is 0.

    >>> ratio([1, 0], [2, 0]).tolist()
    [0.5, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return quotient


def take_last(values: npt.NDArray[Any], index: npt.ArrayLike, *, empty: float = 0.0) -> npt.NDArray[Any]:
    """Read each row of `(..., G)` at its own index `(...,)`, with `empty` where the index is -1.

    >>> take_last(np.array([[1, 2], [3, 4]]), [1, -1])
    array([2, 0])
    """
    where = np.asarray(index)
    if values.ndim == 1:
        found = values[np.maximum(where, 0)]
    else:
        found = np.take_along_axis(values, np.maximum(where, 0)[..., None], axis=-1)[..., 0]
    return np.where(where >= 0, found, np.asarray(empty, dtype=values.dtype))
