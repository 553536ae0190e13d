"""The drift watch of one served version: both of its tests, over as many answers as there will be, and its report.

`fetch_drift` asks a running service for it.
"""

import http.client
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.serving.drift.e_processes import ExchangeabilityTest, RankedSample, RateTest

LEVEL = 0.01
"""The probability that the watch of a version that does not drift ever alarms."""

HORIZON = 100_000
"""Answers after which the tests start over, so that they neither grow without end nor get used to what they saw."""


@dataclass(frozen=True, kw_only=True)
class DriftEvidence:
    """One test as it stands.

    Attributes:
        log_e: The logarithm of the e-value now,
        highest: and at its highest.
        needed: What alarms.
        alarmed_at: The number of the answer that raised the alarm.
    """

    log_e: float
    highest: float
    needed: float
    alarmed_at: int | None


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What the watch has seen.

    Attributes:
        alarm: Whether answers have drifted from the calibration sample; it stays until another version is served.
        answers: Answers watched.
        level: The probability of a false alarm, ever.
        calibration_answers: The size of the calibration sample.
        abstention_rate: Share of answers below the default risk's threshold; `None` before the first answer.
        calibration_abstention_rate: The same of the calibration sample.
        epoch: How often the tests have begun.
        tests: Each test by what it looks at: `confidence` and `abstention`.
    """

    alarm: bool
    answers: int
    level: float
    calibration_answers: int
    abstention_rate: float | None
    calibration_abstention_rate: float
    epoch: int
    tests: dict[str, DriftEvidence]


class Watch:
    """Compares served confidences, and how often they fall below the default threshold, with the calibration sample.

    An alarm says that the questions asked are no longer like those that the certificate was made with: its guarantee
    then does not cover them. Asking the same question again and again is such a change, too.
    """

    def __init__(
        self,
        calibration: FloatArray,
        *,
        threshold: float,
        level: float = LEVEL,
        horizon: int = HORIZON,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Start the watch.

        Args:
            calibration: Confidences of the calibration sample, `[N]`.
            threshold: Of the default risk.
            level: The probability of a false alarm, however long it runs.
            horizon: Answers between starting over; the k-th start has the share 6/(pi k)^2 of the level.
            draw: Draws uniformly from [0, 1).
        """
        self._calibration = calibration
        self._threshold = threshold
        self._level = level
        self._horizon = horizon
        self._draw = draw
        self._answers = self._abstentions = self._epoch = 0
        self._alarm = False
        self._start_over()
        self.report = self._report()

    def observe(self, confidences: Sequence[float]) -> None:
        """Take the confidences of further answers; `report` then includes them."""
        for confidence in confidences:
            if self._answers and self._answers % self._horizon == 0:
                self._start_over()
            below = bool(confidence < self._threshold)
            self._confidence.observe(confidence, tie=self._draw())
            self._abstention.observe(below)
            self._answers += 1
            self._abstentions += below
            self._alarm |= not (self._confidence.alarmed_at is None and self._abstention.alarmed_at is None)
        self.report = self._report()

    def _start_over(self) -> None:
        self._epoch += 1
        # Half of the level for either test, and over all epochs no more than all of it.
        level = self._level / 2 * 6 / (math.pi * self._epoch) ** 2
        below = int((self._calibration < self._threshold).sum())
        self._confidence = ExchangeabilityTest(RankedSample(self._calibration), level=level)
        self._abstention = RateTest(below, len(self._calibration), level=level)

    def _report(self) -> DriftReport:
        begun = (self._epoch - 1) * self._horizon
        return DriftReport(
            alarm=self._alarm,
            answers=self._answers,
            level=self._level,
            calibration_answers=len(self._calibration),
            abstention_rate=self._abstentions / self._answers if self._answers else None,
            calibration_abstention_rate=float((self._calibration < self._threshold).mean()),
            epoch=self._epoch,
            tests={
                name: DriftEvidence(
                    log_e=test.log_e,
                    highest=test.highest,
                    needed=test.needed,
                    alarmed_at=None if test.alarmed_at is None else begun + test.alarmed_at,
                )
                for name, test in (("confidence", self._confidence), ("abstention", self._abstention))
            },
        )


@dataclass(frozen=True)
class ServedDrift:
    """The version that a service serves, and what its drift watch reports."""

    version: str
    report: DriftReport


def fetch_drift(url: str, *, key: str = "", seconds: float = 5.0) -> ServedDrift:
    """Ask a service for its drift watch.

    Args:
        url: Of the service, such as `http://127.0.0.1:8000`.
        key: The service's, if it has one.
        seconds: How long to wait.

    Raises:
        ReliabitError: It cannot be reached, wants another key, serves no model yet, or is no service of Reliabit.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ReliabitError(f"{url} is no address of a service; give one like http://127.0.0.1:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("GET", f"{parts.path.rstrip('/')}/drift", headers=headers)
            answer = connection.getresponse()
            values = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise ReliabitError(f"the service at {url} has no model loaded yet; ask again later")
        if answer.status == http.client.UNAUTHORIZED:
            raise ReliabitError(f"the service at {url} wants its key; set RELIABIT_API_KEY to it")
        version = str(values.pop("model_version"))
        tests = {name: DriftEvidence(**test) for name, test in values.pop("tests").items()}
        return ServedDrift(version, DriftReport(**values, tests=tests))
    except (OSError, http.client.HTTPException) as error:
        raise ReliabitError(
            f"the service at {url} cannot be reached ({error}); start it, or correct the address"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReliabitError(f"what answers at {url} is no service of Reliabit; correct the address") from error
