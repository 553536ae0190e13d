"""The table that a sweep ends with, as people see it: what tells its cells apart, and the headline numbers first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.evaluation.cells import FINISHED, RESIDENT, SPEED, STORED
from reliabit.evaluation.comparison import Comparison
from reliabit.evaluation.headline import Headline, HeadlineNumber, headline_numbers, headlines, judging
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.settings import ParetoSettings
from reliabit.evaluation.short_names import BETWEEN, short_names
from reliabit.metrics.definitions import ACCURACY, AURC, QUESTIONS, SURE, confidently_wrong, coverage_at, ece
from reliabit.metrics.intervals import Difference
from reliabit.metrics.metric import Metric
from reliabit.terminal import Column, console, fitting, show_table
from reliabit.tracking.recorded_cells import labels
from reliabit.tracking.sweep._tables import COSTS, in_order, state
from reliabit.tracking.tags import REUSED

if TYPE_CHECKING:
    from mlflow.entities import Run

NONE = "-"

CERTIFIED = "certified"

NEEDED = (ACCURACY.name, AURC.name, coverage_at(0.01).name, CERTIFIED, STORED)
"""What a choice takes, the most wanted first."""

FURTHER = (coverage_at(0.05).name, ece(15).name, SPEED, RESIDENT)
"""What is shown where there is more room."""


@dataclass(frozen=True, eq=False)
class SweepTable:
    """The cells of a sweep as they are to be shown.

    Attributes:
        runs: The cells.
        parent: The sweep's run.
        policy: What judges them.
        level: The level of the intervals.
        certified: Certified coverage by its label, each by the name of the run, for the best of all cells.
    """

    runs: "Sequence[Run]"
    parent: str
    policy: ParetoSettings
    level: float
    certified: Mapping[str, Mapping[str, float]]

    @property
    def confidence(self) -> str:
        """What the cells abstain by: the policy's confidence where all that finished have it."""
        wanted = self.policy.confidence
        done = [run.data.metrics for run in self.runs if run.info.status == FINISHED]
        return wanted if done and all(judging(found, wanted=wanted) == wanted for found in done) else MAXPROB

    def show(self, *, whole: str) -> None:
        """Print it; with intervals, where they leave room for all that a choice takes.

        Args:
            whole: The file that has every column.
        """
        columns = self.columns(intervals=True)
        kept = fitting(columns, width=console().width)
        intervals = all(column in kept for column in columns if column.priority <= len(NEEDED))
        show_table(
            columns if intervals else self.columns(intervals=False),
            title=self._title(intervals=intervals),
            whole=whole,
        )

    def columns(self, *, intervals: bool) -> list[Column]:
        """Every column, the names first; `intervals` puts those that are recorded below the numbers."""
        runs, names = in_order(self.runs), labels(self.runs)
        full = [names[run.info.run_id] for run in runs]
        found = [Column("configuration", short_names(full), left=True)]
        states = [state(run, parent=self.parent) for run in runs]
        if set(states) - {"ok", REUSED}:
            found.append(Column("state", states, left=True))
        for one in headlines(confidence=self.confidence, required_risk=self.policy.required_risk):
            numbers = [self._number(run, one) for run in runs]
            if one.label.startswith(CERTIFIED):
                found.append(self._certified(one, full, numbers))
            else:
                cells = [_cell(number, intervals=intervals) for number in numbers]
                found.append(Column(one.heading, cells, priority=_priority(one.metric)))
        for number, cost in enumerate(cost for cost in COSTS if cost.metric not in (STORED, RESIDENT, SPEED)):
            cells = [cost.text(run.data.metrics) for run in runs]
            found.append(Column(cost.heading, cells, priority=len(NEEDED) + len(FURTHER) + 1 + number))
        return found

    def _number(self, run: "Run", one: Headline) -> HeadlineNumber | None:
        recorded = headline_numbers(
            run.data.metrics, confidence=self.confidence, required_risk=self.policy.required_risk
        )
        done = run.info.status == FINISHED
        return next((number for number in recorded if done and number.headline == one), None)

    def _certified(self, one: Headline, names: Sequence[str], alone: Sequence[HeadlineNumber | None]) -> Column:
        """Certified for the best of the sweep; what a run has recorded holds where it alone is looked at."""
        together = {name: value for values in self.certified.values() for name, value in values.items()}
        priority = _priority(CERTIFIED)
        if together:
            cells = [one.text(together[name]) if name in together else NONE for name in names]
            return Column(f"{one.heading} (best of {len(self.runs)})", cells, priority=priority)
        return Column(f"{one.heading} (each alone)", [_cell(found, intervals=False) for found in alone], priority)

    def _title(self, *, intervals: bool) -> str:
        """What all cells share."""
        runs, names = in_order(self.runs), labels(self.runs)
        full = [names[run.info.run_id].split(BETWEEN) for run in runs]
        shared = [part for part in full[0] if len(full) > 1 and all(part in own for own in full)] if full else []
        data = {run.data.tags["data"] for run in runs if "data" in run.data.tags} - {*shared}
        where = [*shared, *(data if len(data) == 1 else ())]
        reused = sum(state(run, parent=self.parent) == REUSED for run in runs)
        asked = {run.data.metrics[QUESTIONS.name] for run in runs if QUESTIONS.name in run.data.metrics}
        told = [f"{asked.pop():g} questions"] if len(asked) == 1 else []
        told += [f"confidence {self.confidence}"]
        told += [f"{100 * self.level:g} % intervals"] if intervals else []
        told += [f"{reused} of {len(runs)} reused"] if reused else []
        return ": ".join(part for part in (" · ".join(where), ", ".join(told)) if part)


def show_differences(found: Comparison, *, level: float) -> None:
    """Print by how much cells differ from their baseline, in what a first look takes: whether a loss is real.

    Args:
        found: The differences.
        level: The level of the intervals, at which those of a column hold together.
    """
    names = short_names([found.baseline, *found.differences])
    columns = [Column(f"less {names[0]}", names[1:], left=True)]
    for metric in (ACCURACY, AURC, confidently_wrong(SURE)):
        cells = [_signed(one[metric.name], metric=metric) for one in found.differences.values()]
        columns.append(Column(f"{metric.phrase if metric is ACCURACY else metric.heading}, points", cells))
    title = f"Paired differences, {MAXPROB}, {100 * level:g} % intervals that hold together (* excludes zero)"
    show_table(columns, title=title)


def _signed(found: Difference, *, metric: Metric) -> str:
    star = "*" if found.low > 0 or found.high < 0 else ""
    value, low, high = (f"{metric.scale * one:+.2f}" for one in (found.estimate, found.low, found.high))
    return f"{value}{star}\n[{low}, {high}]"


def _priority(metric: str) -> int:
    stem = metric.partition(".")[0]
    return [*NEEDED, *FURTHER].index(stem) + 1


def _cell(number: HeadlineNumber | None, *, intervals: bool) -> str:
    if number is None:
        return NONE
    value = number.headline.text(number.value)
    return f"{value}\n{number.interval}" if intervals and number.interval else value
