"""Percentile intervals and p-values of bootstrap distributions, and their correction for several comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray

Correction: TypeAlias = Literal["holm", "bonferroni", "none"]

_RESOLVED_TAIL = 10
"""From how many resamples in a tail on its percentile is taken at its word."""


@dataclass(frozen=True)
class Interval:
    """An estimate with a percentile interval of its bootstrap distribution.

    Attributes:
        estimate: The value on the data itself.
        low: Lower end.
        high: Upper end.
        level: Confidence level of the two ends, after any correction.
    """

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference of two configurations on the same resamples.

    Attributes:
        p_value: Two-sided, corrected for the number of comparisons.
        comparisons: How many comparisons were corrected for.
    """

    p_value: float
    comparisons: int


def interval(estimate: float, replicates: FloatArray, *, level: float = 0.95) -> Interval:
    """The percentile interval; where resamples do not resolve its tails, no narrower than the normal one.

    A correction for many comparisons asks for tails that lie beyond a thousand resamples. The percentile would then be
    their extreme, which is too close to the estimate. Both ends are NaN where most resamples leave the metric
    undefined.

    >>> interval(50, np.arange(101.0), level=0.5)
    Interval(estimate=50, low=25.0, high=75.0, level=0.5)
    >>> interval(0.0, np.linspace(-1.0, 1.0, 1001), level=0.9999).high > 1
    True
    """
    if not 0 < level < 1:
        raise ReliabitError(f"level is {level:g}; it must lie in (0, 1)")
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) <= len(replicates):
        return Interval(estimate, np.nan, np.nan, level)
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(defined, [tail, (1 + level) / 2]))
    # One resample has no spread.
    if tail * len(replicates) < _RESOLVED_TAIL and len(defined) > 1:
        reach = NormalDist().inv_cdf(1 - tail) * float(defined.std(ddof=1))
        low, high = min(low, estimate - reach), max(high, estimate + reach)
    return Interval(estimate, low, high, level)


def corrected_level(level: float, comparisons: int) -> float:
    """The level of each of several intervals, so that all hold at once, or the best of them does (Bonferroni).

    >>> round(corrected_level(0.95, 5), 6)
    0.99
    """
    return 1 - (1 - level) / max(1, comparisons)


def two_sided_p_value(differences: FloatArray) -> float:
    """Share of resamples on the other side of zero, doubled; at least 2 / (n + 1), as no resample proves zero.

    >>> two_sided_p_value(np.array([1.0, 2.0, 3.0]))
    0.5
    """
    defined = differences[~np.isnan(differences)]
    tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(defined) + 1))


def correct_p_values(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Adjust p-values for their number, by Bonferroni or by Holm (1979), which is never weaker.

    >>> correct_p_values([0.01, 0.04], "holm"), correct_p_values([0.01, 0.04], "bonferroni")
    ([0.02, 0.04], [0.02, 0.08])
    """
    n = len(p_values)
    if correction == "none":
        return list(p_values)
    if correction == "bonferroni":
        return [min(1.0, n * p) for p in p_values]
    adjusted, largest = [0.0] * n, 0.0
    for place, index in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (n - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
