"""Whether a rate still is that of the calibration sample, tested after every answer without inflated alarms.

Universal inference (Wasserman, Ramdas and Balakrishnan 2020, "Universal inference", section 8): the two samples' own
Krichevsky-Trofimov mixtures, which are probabilities of what was seen, over the largest likelihood that one common rate
can give it. Under any common rate this is at most a martingale that starts at 1, so that by Ville's inequality it ever
reaches 1/alpha with probability at most alpha. The calibration sample's own uncertainty is paid for at the start, where
the logarithm is below 0.
"""

import math
from dataclasses import dataclass


@dataclass
class RateTest:
    """How often something happens, among served answers and in the calibration sample; alarms once and stays so.

    Attributes:
        calibration_hits: How often in the calibration sample,
        calibration_size: of so many.
        level: The probability of ever alarming where nothing has changed.
        hits: How often among the answers so far,
        seen: of so many.
        highest: The largest log e-value so far; at least 0, the value of not betting.
        alarmed_at: The number of the answer that raised the alarm.
    """

    calibration_hits: int
    calibration_size: int
    level: float
    hits: int = 0
    seen: int = 0
    highest: float = 0.0
    alarmed_at: int | None = None

    def observe(self, hit: bool) -> None:
        """Take the next answer.

        Args:
            hit: Whether it happened.
        """
        self.hits += hit
        self.seen += 1
        self.highest = max(self.highest, self.log_e)
        if self.alarmed_at is None and self.highest >= -math.log(self.level):
            self.alarmed_at = self.seen

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value now."""
        apart = log_mixture(self.calibration_hits, self.calibration_size) + log_mixture(self.hits, self.seen)
        return apart - log_largest(self.calibration_hits + self.hits, self.calibration_size + self.seen)


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
