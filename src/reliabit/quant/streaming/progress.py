"""How far a long walk over a checkpoint has come, and how long it will still take."""

import logging
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

REPORTED_SECONDS = 15.0
"""Where no bar is shown, a line in the log at most this often."""

_LOG = logging.getLogger(__name__)


class Progress:
    """Counts weights: a bar in a terminal, lines in the log elsewhere."""

    def __init__(self, weights: Mapping[str, int], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            weights: How many weights each unit of the work has, by its name.
            clock: Seconds.
        """
        self._weights, self._clock = weights, clock
        self._bar = tqdm(total=sum(weights.values()), desc="quantize", unit=" weights", unit_scale=True, disable=None)
        self._passed = self._worked = 0
        self._start = self._reported = clock()

    def skip(self, unit: str) -> None:
        """A unit was done before; it says nothing of how fast the work goes."""
        self._passed += self._weights[unit]
        if not self._bar.disable:
            self._bar.initial += self._weights[unit]
            self._bar.update(self._weights[unit])

    def advance(self, unit: str) -> None:
        """A unit is done now."""
        self._passed += self._weights[unit]
        self._worked += self._weights[unit]
        self._bar.update(self._weights[unit])
        if self._bar.disable and self._clock() - self._reported >= REPORTED_SECONDS:
            self._reported = self._clock()
            _LOG.info("quantize: %s is done, %s", unit, self.state())

    def state(self) -> str:
        """How far it is, in words."""
        total = sum(self._weights.values())
        left = (total - self._passed) * (self._clock() - self._start) / max(self._worked, 1)
        return f"{self._passed / max(total, 1):.0%} of the weights, {left / 60:.1f} min left"

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
