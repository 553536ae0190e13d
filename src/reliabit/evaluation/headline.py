"""The headline numbers of a cell: what is shown of it first, in a terminal, in MLflow and on a page.

Each says what it is called, in which unit, under which name runs record it, and which way is better; they come in one
order everywhere. What is told of a confidence is told of the one that a policy judges by (`registry.confidence`), or
of MaxProb where a run has no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reliabit.evaluation.cells import RESIDENT, SPEED, STORED
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.metrics.definitions import ACCURACY, AURC, certified_coverage_at, coverage_at, ece
from reliabit.metrics.metric import Metric

MIB = 2**20

REQUIRED_RISK = 0.05
"""The risk that is certified, where no policy says which."""


@dataclass(frozen=True)
class Headline:
    """What a headline number is.

    Attributes:
        label: What it is called, such as `certified C@5%`.
        unit: `%` for shares, `MiB`, or nothing where the label says it.
        metric: Under which name runs record it.
        scale: What a recorded value is multiplied by where it is shown.
        digits: Digits after the point where it is shown.
        higher_is_better: Which way is better.
        confidence: What abstains; empty for what no confidence decides.
    """

    label: str
    unit: str
    metric: str
    scale: float
    digits: int
    higher_is_better: bool
    confidence: str = ""

    @property
    def heading(self) -> str:
        """What stands above a column: the label with its unit, which `C@5%` needs not say twice.

        >>> [one.heading for one in headlines()][:4]
        ['accuracy %', 'AURC %', 'ECE %', 'C@1%']
        """
        return self.label if self.label.endswith(self.unit) else f"{self.label} {self.unit}"

    def text(self, value: float) -> str:
        """A recorded value as it is shown, without its unit."""
        return f"{self.scale * value:.{self.digits}f}"


@dataclass(frozen=True)
class HeadlineNumber:
    """One number of one run, as recorded.

    Attributes:
        headline: What it is.
        value: The value, as runs record it.
        low: The lower end of its interval; `None` where none is recorded.
        high: The upper end.
    """

    headline: Headline
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> str:
        """The interval as it is shown; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.headline.text(self.low)}, {self.headline.text(self.high)}]"

    @property
    def text(self) -> str:
        """The number with its unit and interval.

        >>> HeadlineNumber(headlines()[0], 0.853, 0.83, 0.871).text
        '85.3 % [83.0, 87.1]'
        """
        shown = f"{self.headline.text(self.value)} {self.headline.unit}".rstrip()
        return f"{shown} {self.interval}".rstrip()


def headlines(*, confidence: str = MAXPROB, required_risk: float = REQUIRED_RISK) -> list[Headline]:
    """What is shown of every cell, in this order.

    Args:
        confidence: What abstains.
        required_risk: The risk whose certified coverage is shown.
    """
    return [
        _of_answers(ACCURACY, digits=1, label=ACCURACY.phrase),
        _of_answers(AURC, digits=2, confidence=confidence),
        _of_answers(ece(15), digits=1, confidence=confidence),
        _of_answers(coverage_at(0.01), digits=1, confidence=confidence),
        _of_answers(coverage_at(0.05), digits=1, confidence=confidence),
        _of_answers(certified_coverage_at(required_risk), digits=1, confidence=confidence),
        Headline("stored", "MiB", STORED, 1 / MIB, 2, higher_is_better=False),
        Headline("resident", "MiB", RESIDENT, 1 / MIB, 2, higher_is_better=False),
        Headline("questions/s", "", SPEED, 1.0, 0, higher_is_better=True),
    ]


def judging(metrics: Iterable[str], *, wanted: str) -> str:
    """The confidence that the headline numbers of a run are of: the one that is wanted, or MaxProb where it lacks that.

    >>> judging(["selective/aurc", "selective/aurc.selector"], wanted="selector")
    'selector'
    >>> judging(["selective/aurc"], wanted="selector")
    'maxprob'
    """
    return wanted if _recorded_as(AURC.name, wanted) in metrics else MAXPROB


def headline_numbers(
    metrics: Mapping[str, float], *, confidence: str = MAXPROB, required_risk: float = REQUIRED_RISK
) -> list[HeadlineNumber]:
    """The headline numbers that a run has, in their order.

    Args:
        metrics: What the run recorded, by name.
        confidence: What abstains, see `judging`; `registry.confidence` of a configuration.
        required_risk: The risk whose certified coverage is shown; `registry.required_risk`.

    Returns:
        One for each that was recorded, with the interval where its ends were.

    >>> [found] = headline_numbers({"accuracy/mean": 0.5, "accuracy/mean.low": 0.4, "accuracy/mean.high": 0.6})
    >>> found.headline.label, found.text
    ('accuracy', '50.0 % [40.0, 60.0]')
    """
    told = headlines(confidence=judging(metrics, wanted=confidence), required_risk=required_risk)
    return [
        HeadlineNumber(
            one, metrics[one.metric], low=metrics.get(f"{one.metric}.low"), high=metrics.get(f"{one.metric}.high")
        )
        for one in told
        if one.metric in metrics
    ]


def _of_answers(metric: Metric, *, digits: int, confidence: str = "", label: str = "") -> Headline:
    return Headline(
        label=label or metric.heading,
        unit=metric.unit,
        metric=_recorded_as(metric.name, confidence),
        scale=metric.scale,
        digits=digits,
        higher_is_better=metric.higher_is_better,
        confidence=confidence,
    )


def _recorded_as(metric: str, confidence: str) -> str:
    """MaxProb is what a metric is of where its name names no confidence."""
    return metric if confidence in ("", MAXPROB) else f"{metric}.{confidence}"
