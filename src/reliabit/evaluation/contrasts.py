"""Contrasts: differences of resampled metrics, the side of zero that a claim expects them on, and the verdict."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from reliabit.metrics.cluster_mean import ClusterMean
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.intervals import Interval, interval

Verdict: TypeAlias = Literal["supported", "not supported", "undecided", "not measured"]


@dataclass(frozen=True, eq=False)
class Resampled:
    """A quantity on the data and on its resamples.

    Attributes:
        estimate: On the data itself.
        replicates: Shape `(n_resamples,)`.
        mean: The same as a mean of bounded values by image, where it is one: its interval holds for few images and few
            differences, of which resamples know nothing.
    """

    estimate: float
    replicates: FloatArray
    mean: ClusterMean | None = None

    def minus(self, other: "Resampled") -> "Resampled":
        """The difference to another quantity on the same resamples.

        >>> one = Resampled(2.0, np.array([1.0, 3.0]))
        >>> one.minus(one).replicates.tolist()
        [0.0, 0.0]
        """
        mean = self.mean.minus(other.mean) if self.mean and other.mean else None
        return Resampled(self.estimate - other.estimate, self.replicates - other.replicates, mean)

    def minus_independent(self, other: "Resampled") -> "Resampled":
        """The difference to a quantity of other images.

        Resample i draws the same positions wherever sets have equally many images; one resample apart, draws are
        independent. Where the images do overlap, the interval is wider than it need be.

        >>> one = Resampled(2.0, np.array([1.0, 3.0]))
        >>> one.minus_independent(one).replicates.tolist()
        [-2.0, 2.0]
        """
        return Resampled(self.estimate - other.estimate, self.replicates - np.roll(other.replicates, 1))

    def times(self, factor: float) -> "Resampled":
        """A multiple."""
        mean = self.mean.times(factor) if self.mean else None
        return Resampled(factor * self.estimate, factor * self.replicates, mean)

    def interval(self, *, level: float) -> Interval:
        """That of the mean by image, if it is one; else see `reliabit.metrics.intervals.interval`.

        >>> Resampled(500.0, np.arange(1001.0)).interval(level=0.5)
        Interval(estimate=500.0, low=250.0, high=750.0, level=0.5)
        """
        if self.mean:
            return self.mean.interval(level=level)
        return interval(self.estimate, self.replicates, level=level)


@dataclass(frozen=True)
class Expectation:
    """Where a claim expects an interval to lie.

    Attributes:
        words: Such as `< 0`.
        holds: Whether an interval lies wholly where it is expected.
        fails: Whether it lies wholly elsewhere.
    """

    words: str
    holds: Callable[[Interval], bool]
    fails: Callable[[Interval], bool]

    def verdict(self, found: Interval) -> Verdict:
        """What an interval says; undecided where it is on both sides, or undefined.

        >>> BELOW_ZERO.verdict(Interval(-1.0, -2.0, -0.5, 0.95)), BELOW_ZERO.verdict(Interval(0.0, -1.0, 1.0, 0.95))
        ('supported', 'undecided')
        """
        if self.holds(found):
            return "supported"
        return "not supported" if self.fails(found) else "undecided"


# An interval that is the point zero decides about neither sign: two cells that both cover nothing tell nothing.
BELOW_ZERO = Expectation("< 0", holds=lambda found: found.high < 0, fails=lambda found: found.low > 0)
ABOVE_ZERO = Expectation("> 0", holds=lambda found: found.low > 0, fails=lambda found: found.high < 0)
NOT_BELOW_ZERO = Expectation("≥ 0", holds=lambda found: found.low >= 0, fails=lambda found: found.high < 0)
# The exact opposite of the last, for what must not meet that condition; here the point zero does fail.
SHORT_OF_ZERO = Expectation("< 0", holds=lambda found: found.high < 0, fails=lambda found: found.low >= 0)


def within(margin: float) -> Expectation:
    """Equivalence: no farther from zero than a margin, either way.

    >>> within(0.01).verdict(Interval(0.0, -0.02, 0.005, 0.95))
    'undecided'
    """
    return Expectation(
        f"within ±{100 * margin:g} points",
        holds=lambda found: -margin <= found.low and found.high <= margin,
        fails=lambda found: found.high < -margin or found.low > margin,
    )


@dataclass(frozen=True, eq=False)
class Planned:
    """A contrast before its interval is known, which depends on how many there are.

    Attributes:
        what: Both sides in words, such as `hqq 4 - none, maxprob`.
        metric: The metric that is compared.
        set_name: The questions.
        value: The difference.
        expected: Where the claim expects it.
    """

    what: str
    metric: str
    set_name: str
    value: Resampled
    expected: Expectation

    def judge(self, *, level: float) -> "Contrast":
        """The contrast with its interval at a corrected level."""
        found = self.value.interval(level=level)
        return Contrast(self.what, self.metric, self.set_name, found, self.expected.words, self.expected.verdict(found))


@dataclass(frozen=True)
class Contrast:
    """A judged contrast; see `Planned`."""

    what: str
    metric: str
    set_name: str
    found: Interval
    expected: str
    verdict: Verdict


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a condition that asks for all of its parts; one that fails is enough to refute it.

    >>> every(["supported", "undecided"]), every(["undecided", "not supported"]), every([])
    ('undecided', 'not supported', 'not measured')
    """
    found = list(verdicts)
    order: tuple[Verdict, ...] = ("not supported", "not measured", "undecided", "supported")
    return next((verdict for verdict in order if verdict in found), "not measured")


def some(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a condition that asks for one of its parts.

    >>> some(["supported", "not supported"]), some(["undecided", "not supported"]), some(["not supported"])
    ('supported', 'undecided', 'not supported')
    """
    found = list(verdicts)
    order: tuple[Verdict, ...] = ("supported", "undecided", "not measured", "not supported")
    return next((verdict for verdict in order if verdict in found), "not measured")


@dataclass(frozen=True, eq=False)
class Condition:
    """A part of a claim that contrasts decide together; without contrasts it was not measured.

    Attributes:
        name: What has to hold.
        planned: The contrasts.
        combine: Whether all have to hold (`every`) or one (`some`).
    """

    name: str
    planned: list[Planned] = field(default_factory=list)
    combine: Callable[[Iterable[Verdict]], Verdict] = every
