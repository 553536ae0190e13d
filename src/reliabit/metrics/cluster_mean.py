"""Means of bounded values a question, by image, with an interval that holds for few images and few differences.

A bootstrap knows nothing of what it has not seen: without a single changed answer all of its resamples agree, and its
interval is a point. Here one more image is added before images are weighed at random: the worst that there could be,
with every question lost (or won, for the upper end). For images with totals S_j and sizes m_j, j = 1..J, and an extra
one of M questions, the lower end is the quantile at `tail` = (1 - level) / 2 of

    (E_0 M low + sum_j E_j S_j) / (E_0 M + sum_j E_j m_j),    E_0, ..., E_J independent, standard exponential.

For images of one size this is the bound of Gaffke (2005, "Three test statistics for a nonparametric one-sided
hypothesis on the mean of a nonnegative variable"; see Learned-Miller and Thomas 2019, arXiv:1905.06208): images whose
mean is at most theta have totals S_j - theta m_j of a mean of at most zero, and none below m_j (low - theta). It is the
interval of Clopper and Pearson (1934) for values of 0 or 1 and one question an image, and the Bayesian bootstrap (Rubin
1981) for many images.

Images of several sizes need an M. Were image j lost with probability p_j, no loss would be seen with probability
prod_j (1 - p_j), and the share of lost questions would be sum_j m_j p_j / sum_j m_j. The largest such share that is
seen as no loss with probability `tail` or more has p_j = max(0, 1 - t / m_j) with a t that spends the whole tail. M is
what makes the interval without any loss end at that share: the common size where all images are of one, and more than
the mean size otherwise, because the largest images may be those that are lost.

Assumed: the sizes are given and images independent, whatever the questions about one image have to do with one another.
That the bound holds for every bounded distribution is a conjecture of Gaffke, proved for two values; the tests check it
exactly on three, and `bench/gate_floor.py` by simulation.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.metrics.bootstrap import number_images
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.intervals import Interval

# Of the integral: what is left out at its end, relative errors, and where halving the step ends.
_NEGLIGIBLE = 1e-16
_PRECISION = 1e-8
_SMALLEST_STEP = 1e-3
_BISECTIONS = 60
_NEAR = 1e-3
"""The saddle point need be no nearer than this share of its distance to either end: any line gives the integral."""


@dataclass(frozen=True, eq=False)
class ClusterMean:
    """The mean of a bounded value a question, in terms of images.

    Attributes:
        totals: Shape `(J,)`, the sum of the values of each image.
        sizes: Shape `(J,)`, how many questions each image has; at least 1.
        low: What the value of a question could be at least.
        high: What it could be at most.
    """

    totals: FloatArray
    sizes: FloatArray
    low: float
    high: float

    @property
    def estimate(self) -> float:
        """The mean over all questions."""
        return float(self.totals.sum() / self.sizes.sum())

    def minus(self, other: "ClusterMean") -> "ClusterMean":
        """The mean of the differences to another value of the same questions.

        >>> one = cluster_mean(np.array([1.0, 0.0]), ["a", "b"])
        >>> difference = one.minus(one)
        >>> difference.totals.tolist(), difference.low, difference.high
        ([0.0, 0.0], -1.0, 1.0)
        """
        if not np.array_equal(self.sizes, other.sizes):
            raise ReliabitError("two means are of different images, so they cannot be paired; ask both the same")
        return ClusterMean(self.totals - other.totals, self.sizes, self.low - other.high, self.high - other.low)

    def times(self, factor: float) -> "ClusterMean":
        """A multiple."""
        low, high = sorted((factor * self.low, factor * self.high))
        return ClusterMean(factor * self.totals, self.sizes, low, high)

    def interval(self, *, level: float) -> Interval:
        """The interval; see the module.

        >>> alike = cluster_mean(np.zeros(20), range(20), low=-1.0)
        >>> round(alike.interval(level=0.95).low, 6), round(0.025 ** (1 / 20) - 1, 6)
        (-0.168433, -0.168433)
        """
        tail = _tail(level)
        return Interval(self.estimate, self._lower(tail), -self.times(-1.0)._lower(tail), level)

    def p_value(self, value: float, *, level: float) -> float:
        """How likely data as favourable would be at most, were the true mean this value or less.

        The lower end of the interval lies above the value where this is less than (1 - level) / 2.

        >>> from scipy.stats import binom
        >>> right = cluster_mean(np.array([1.0] * 9 + [0.0]), range(10))
        >>> round(right.p_value(0.6, level=0.95), 9), round(float(binom.sf(8, 10, 0.6)), 9)
        (0.046357402, 0.046357402)
        """
        return self._probability(value, size=self._size_of_worst(_tail(level)))

    def unseen(self, *, level: float) -> float:
        """The largest share of questions that could be lost without one loss being seen; see the module.

        >>> round(cluster_mean(np.zeros(183), range(183)).unseen(level=0.95), 4)
        0.02
        """
        return self._unseen(-np.log(_tail(level)))

    def images_needed(self, loss: float, *, level: float) -> int:
        """How many images, as large as these, would rule out a loss at all: if not one value changed.

        >>> cluster_mean(np.zeros(20), range(20), low=-1.0).images_needed(0.02, level=0.95)
        183
        """
        if loss <= 0:
            raise ReliabitError(f"loss is {loss:g}; it must be above 0, as no number of images rules out a loss of 0")
        surprise = -np.log(_tail(level))

        def enough(images: int) -> bool:
            return -self.low * self._unseen(surprise * len(self.sizes) / images) <= loss

        few, many = 0, 1
        while not enough(many):
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if enough(middle) else (middle, many)
        return many

    @cached_property
    def _kinds(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Totals and sizes that occur, and how often: most images are like many others."""
        pairs, counts = np.unique(np.stack([self.totals, self.sizes]), axis=1, return_counts=True)
        return pairs[0], pairs[1], counts.astype(np.float64)

    def _probability(self, value: float, *, size: float) -> float:
        """How likely weighed images with one more of a size, all lost, have a mean of at most a value."""
        if value < self.low:
            return 0.0
        totals, sizes, counts = self._kinds
        weights = np.append(totals - value * sizes, size * (self.low - value))
        return _probability_of_loss(weights, np.append(counts, 1.0))

    def _size_of_worst(self, tail: float) -> float:
        """The M for which an interval without any loss ends at the share that could be lost unseen.

        Weighed sizes exceed E_0 / c with probability prod_j 1 / (1 + c m_j), which is to be `tail`.
        """
        from scipy.optimize import brentq

        surprise = -np.log(tail)
        share = self._unseen(surprise)
        sizes, counts = np.unique(self.sizes, return_counts=True)
        rate = brentq(
            lambda c: float(counts @ np.log1p(c * sizes)) - surprise, 0.0, np.expm1(surprise) / sizes.max(), rtol=1e-12
        )
        return float(share / (rate * (1 - share)))

    def _unseen(self, surprise: float) -> float:
        """The share at sum_j -log(1 - p_j) = surprise, with p_j = 1 - t / m_j for the largest images."""
        sizes = np.sort(self.sizes)[::-1]
        bounds = np.exp((np.cumsum(np.log(sizes)) - surprise) / np.arange(1, len(sizes) + 1))
        # As many of the largest as are larger than the t that they lead to.
        t = bounds[np.append(bounds[:-1] < sizes[1:], False).sum()]
        return float(np.maximum(sizes - t, 0).sum() / sizes.sum())

    def _lower(self, tail: float) -> float:
        from scipy.optimize import brentq

        size = self._size_of_worst(tail)

        def excess(value: float) -> float:
            # Logarithms, as probabilities are all but zero far below the end.
            return float(np.log(max(self._probability(value, size=size), np.finfo(float).tiny) / tail))

        left, right = self._neighbourhood(tail, size=size)
        if not excess(left) < 0 < excess(right):
            left, right = self.low, self.high
            if excess(left) >= 0:
                return left
        return float(brentq(excess, left, right, xtol=1e-10))

    def _neighbourhood(self, tail: float, *, size: float) -> tuple[float, float]:
        """Where the lower end is nearly always, so that the search for it is short.

        It lies below the estimate by what a normal interval reaches and one more image adds; the factors are as seen.
        """
        residuals, questions = self.totals - self.sizes * self.estimate, self.sizes.sum()
        normal = NormalDist().inv_cdf(1 - tail) * np.sqrt(residuals @ residuals) / questions
        further = -np.log(tail) * size * (self.estimate - self.low) / questions
        reach = np.hypot(normal, 0.6 * further) + 0.33 * further
        return max(self.low, self.estimate - 1.15 * reach), self.estimate - 0.75 * reach


def cluster_mean(
    values: FloatArray,
    images: Sequence[Hashable] | npt.NDArray[Any],
    *,
    rows: npt.NDArray[np.bool_] | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> ClusterMean:
    """Sum values by image.

    Args:
        values: Shape `(N,)`, in [low, high].
        images: Shape `(N,)`, the image of each question.
        rows: Shape `(N,)`, the questions that count; all by default. Images without one are left out.
        low: What a value could be at least.
        high: What a value could be at most.

    Returns:
        The mean.

    Raises:
        ReliabitError: No question counts.

    >>> found = cluster_mean(np.array([1.0, 0.0, 1.0]), ["a", "a", "b"])
    >>> found.totals.tolist(), found.sizes.tolist(), round(found.estimate, 3)
    ([1.0, 1.0], [2.0, 1.0], 0.667)
    """
    clusters, n_clusters = number_images(images)
    counted = np.ones(len(values)) if rows is None else rows.astype(np.float64)
    totals = np.bincount(clusters, weights=values * counted, minlength=n_clusters).astype(np.float64)
    sizes = np.bincount(clusters, weights=counted, minlength=n_clusters).astype(np.float64)
    if not sizes.any():
        raise ReliabitError("no question counts; at least one is needed for a mean")
    return ClusterMean(totals[sizes > 0], sizes[sizes > 0], low, high)


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise ReliabitError(f"level is {level:g}; it must lie in (0, 1)")
    return (1 - level) / 2


def _probability_of_loss(weights: FloatArray, counts: FloatArray) -> float:
    """P(sum_u w_u G_u <= 0) for independent gamma variables of the shapes `counts`, whole or not.

    The integral of exp(K(t)) / -t along the line through its saddle point left of zero, where K is the cumulant
    generating function -sum_u counts_u log(1 - w_u t); the trapezoidal rule after y = scale * sinh(v) converges
    exponentially.
    """
    lowest, highest = weights.min(), weights.max()
    if highest <= 0:
        return 1.0
    if lowest >= 0:
        return 0.0
    weights = weights / -lowest

    # The function to be integrated is convex on (-1, 0) and infinite at both ends.
    def slope(t: float) -> float:
        return float((counts * weights / (1 - weights * t)).sum() - 1 / t)

    saddle = _root(slope)
    relative = weights / (1 - weights * saddle)
    scale = 1 / np.sqrt(counts @ relative**2 + 1 / saddle**2)
    height = np.exp(-counts @ np.log(1 - weights * saddle)) / -saddle
    # 1 - w t is (1 - w saddle) (1 - i u y), and -t what that would be for an infinite weight.
    relative, counts = np.append(relative, -1 / saddle), np.append(counts, 1.0)

    def integrand(nodes: FloatArray) -> FloatArray:
        """Its real part over its height at the saddle point."""
        above = np.outer(scale * np.sinh(nodes), relative)
        found: FloatArray = np.cos(np.arctan(above) @ counts) * modulus(above) * np.cosh(nodes)
        return found

    def modulus(above: FloatArray) -> FloatArray:
        found: FloatArray = np.exp(-np.log1p(above**2) @ counts / 2)
        return found

    # The modulus falls along the line, as fast as a power of it at least.
    reach = 2.0
    while modulus(scale * np.sinh(reach) * relative) * np.cosh(reach) > _NEGLIGIBLE:
        reach += 1.0
    step = 1 / 4
    total = step * float(integrand(np.arange(0.0, reach, step)).sum() - 0.5)
    while True:
        step /= 2
        finer = total / 2 + step * float(integrand(np.arange(step, reach, 2 * step)).sum())
        if abs(finer - total) <= _PRECISION * abs(finer) or step < _SMALLEST_STEP:
            return float(np.clip(height * scale * finer / np.pi, 0.0, 1.0))
        total = finer


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises from minus to plus infinity on (-1, 0) is about zero."""
    left, right = -1.0, 0.0
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        left, right = (middle, right) if rising(middle) < 0 else (left, middle)
        if right - left <= _NEAR * min(-right, 1 + left):
            break
    return middle
