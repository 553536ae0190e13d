"""Two e-processes: tests that may be looked at after every answer without inflated alarms.

While nothing has changed, each ever reaches 1/alpha with probability at most alpha (Ville's inequality), however often
one looks.

`ExchangeabilityTest`: a certificate holds for questions that are exchangeable with its calibration sample. Each new
confidence is ranked among that sample and all that was served since, ties broken at random; while everything is
exchangeable these conformal p-values are independent and uniform, exactly and whatever the sample's size (Vovk,
Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", theorem 8.2). A test martingale bets against that:
the Composite Jumper of Vovk et al. 2021, "Retrain or not retrain: conformal test martingales for change-point
detection".

`RateTest`: universal inference (Wasserman, Ramdas and Balakrishnan 2020, "Universal inference", section 8): the two
samples' own Krichevsky-Trofimov mixtures, which are probabilities of what was seen, over the largest likelihood that
one common rate can give it. Under any common rate this is at most a martingale that starts at 1. The calibration
sample's own uncertainty is paid for at the start, where the logarithm is below 0.
"""

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

JUMP_RATES = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
"""How readily a strategy changes its bet; the published mixture."""

BETS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
"""A bet b multiplies the capital by 1 + b (p - 1/2), which is 1 on average; beyond ±2 it could be negative."""


class RankedSample:
    """Values that new ones are ranked among, and which they join."""

    def __init__(self, values: Sequence[float] | Floats) -> None:
        """Start with a calibration sample, in any order."""
        self._sorted = array("d", sorted(float(value) for value in values))

    def __len__(self) -> int:
        """How many values there are."""
        return len(self._sorted)

    def p_value(self, value: float, *, tie: float) -> float:
        """The conformal p-value of a new value, which then joins the sample.

        In (0, 1]: small where the value is large. Uniform where all values are exchangeable, and `tie` is drawn
        uniformly from [0, 1); it breaks ties (with itself at least).

        >>> sample = RankedSample([0.2, 0.4, 0.4])
        >>> sample.p_value(0.4, tie=0.5), sample.p_value(0.1, tie=0.0)
        (0.375, 1.0)
        """
        above = len(self._sorted) - bisect_right(self._sorted, value)
        tied = len(self._sorted) - above - bisect_left(self._sorted, value) + 1
        insort(self._sorted, value)
        return (above + (1.0 - tie) * tied) / len(self._sorted)


@dataclass(frozen=True, eq=False)
class Martingale:
    """The capital of a Composite Jumper, for any number of streams side by side.

    Attributes:
        weights: How each strategy spreads its capital over the bets, `[..., strategies, bets]`, summing to 1.
        log_capital: Of each strategy, `[..., strategies]`.
    """

    weights: Floats
    log_capital: Floats

    @classmethod
    def start(cls, *shape: int) -> "Martingale":
        """Capital 1 on each of streams of a shape; a single one by default."""
        even = np.full((*shape, len(JUMP_RATES), len(BETS)), 1 / len(BETS))
        return cls(even, np.zeros((*shape, len(JUMP_RATES))))

    def bet(self, p_values: Floats | float) -> "Martingale":
        """The capital after the next p-value of each stream.

        >>> start = Martingale.start()
        >>> bool(start.bet(0.99).log_value > 0), round(float(start.bet(0.5).log_value), 9)
        (False, 0.0)
        >>> bool(start.bet(0.99).bet(0.99).log_value > 0)
        True
        """
        jumped = (1 - JUMP_RATES[:, None]) * self.weights + JUMP_RATES[:, None] / len(BETS)
        gains = 1 + BETS * (np.asarray(p_values)[..., None, None] - 0.5)
        grown = jumped * gains
        total = grown.sum(-1)
        return Martingale(grown / total[..., None], self.log_capital + np.log(total))

    @property
    def log_value(self) -> Floats:
        """The logarithm of the capital, `[...]`: the mean over the strategies."""
        return mean_capital(self.log_capital)


def two_sided(p_values: Floats) -> Floats:
    """For bets on place and spread: the p-values, and how far each is from 1/2; `[..., 2]`, uniform where they are.

    >>> two_sided(np.array([0.5, 0.0, 1.0])).tolist()
    [[0.5, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    return np.stack([p_values, np.abs(2 * p_values - 1)], axis=-1)


@dataclass(kw_only=True)
class EProcess:
    """Evidence of a change as answers come; alarms once and stays so.

    Attributes:
        level: The probability of ever alarming where nothing has changed.
        highest: The largest log e-value so far; at least 0, the value of not betting.
        alarmed_at: The number of the answer that raised the alarm.
        seen: Answers so far.
    """

    level: float
    highest: float = 0.0
    alarmed_at: int | None = None
    seen: int = 0

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value now."""
        raise NotImplementedError

    @property
    def needed(self) -> float:
        """The log e-value that alarms."""
        return -math.log(self.level)

    def _look(self) -> None:
        """Count an answer that was taken, and alarm where the evidence is enough."""
        self.seen += 1
        self.highest = max(self.highest, self.log_e)
        if self.alarmed_at is None and self.highest >= self.needed:
            self.alarmed_at = self.seen


@dataclass
class ExchangeabilityTest(EProcess):
    """One quantity of served answers against the calibration sample.

    Attributes:
        sample: What was seen so far.
        martingale: Two streams: bets on place, and on spread.
    """

    sample: RankedSample
    martingale: Martingale = field(default_factory=lambda: Martingale.start(2))

    def observe(self, value: float, *, tie: float) -> None:
        """Take the next value; see `RankedSample.p_value`."""
        self.martingale = self.martingale.bet(two_sided(np.array(self.sample.p_value(value, tie=tie))))
        self._look()

    @property
    def log_e(self) -> float:
        """The mean capital of the two streams, which bet on the same p-values."""
        return float(mean_capital(self.martingale.log_value))


@dataclass
class RateTest(EProcess):
    """How often something happens, among served answers and in the calibration sample.

    Attributes:
        calibration_hits: How often in the calibration sample,
        calibration_size: of so many.
        hits: How often among the answers so far.
    """

    calibration_hits: int
    calibration_size: int
    hits: int = 0

    def observe(self, hit: bool) -> None:
        """Take the next answer, in which it happened or not."""
        self.hits += hit
        self._look()

    @property
    def log_e(self) -> float:
        apart = log_mixture(self.calibration_hits, self.calibration_size) + log_mixture(self.hits, self.seen)
        return apart - log_largest(self.calibration_hits + self.hits, self.calibration_size + self.seen)


def mean_capital(log_values: Any) -> Floats:
    """The logarithm of the mean of e-values over the last axis."""
    values = np.asarray(log_values)
    found: Floats = np.logaddexp.reduce(values, axis=-1) - math.log(values.shape[-1])
    return found


def log_mixture(hits: int, size: int) -> float:
    """The log-probability of one sequence with so many hits, its rate drawn from Beta(1/2, 1/2).

    >>> [round(math.exp(log_mixture(hits, 1)), 9) for hits in (0, 1)]
    [0.5, 0.5]
    """
    return math.lgamma(hits + 0.5) + math.lgamma(size - hits + 0.5) - math.lgamma(size + 1) - math.log(math.pi)


def log_largest(hits: int, size: int) -> float:
    """The largest log-probability that a rate can give one sequence with so many hits.

    >>> round(math.exp(log_largest(1, 2)), 9), log_largest(3, 3)
    (0.25, 0.0)
    """
    return sum(count * math.log(count / size) for count in (hits, size - hits) if count)
