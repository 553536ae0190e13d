"""Contrasts: differences of resampled metrics, the side of zero that a claim expects them on, and the verdict."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from reliabit.evaluation.resampled import Resampled
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric

Verdict: TypeAlias = Literal["supported", "not supported", "undecided", "not measured"]


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
NOT_ABOVE_ZERO = Expectation("≤ 0", holds=lambda found: found.high <= 0, fails=lambda found: found.low > 0)
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
    metric: Metric
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
    metric: Metric
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
