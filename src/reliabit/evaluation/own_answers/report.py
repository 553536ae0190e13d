"""What somebody's own answers say of how far they can be trusted: every metric, certified thresholds, differences.

No model, no configuration and no store is needed: two columns are enough.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reliabit.evaluation.own_answers.columns import OwnAnswers
from reliabit.evaluation.own_answers.tables import (
    Part,
    certificate_cells,
    heading_of,
    in_markdown,
    show_parts,
    value_text,
)
from reliabit.evaluation.tables import signed
from reliabit.metrics.certify import Certificate
from reliabit.metrics.functional import OperatingPoint
from reliabit.metrics.functional.inputs import as_scalar
from reliabit.metrics.intervals import Difference, Interval
from reliabit.metrics.metric import metric_named
from reliabit.metrics.suite import headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = npt.NDArray[np.int64]

RESAMPLES = 400
"""The fewest that resolve the ends of an interval of 95 %: ten lie beyond each; see `reliabit.metrics.intervals`."""


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how sure the numbers have to be.

    Attributes:
        risks: Risks to certify a threshold for, each in (0, 1).
        delta: The probability with which each certificate may fail.
        level: Confidence level of intervals.
        resamples: Resamples of the bootstrap by group.
        seed: Seeds the resamples, splits that are drawn, and the draw of one answer a group.
    """

    risks: tuple[float, ...] = (0.01, 0.05, 0.1)
    delta: float = 0.05
    level: float = 0.95
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("risk", self.risks), ("delta", [self.delta]), ("level", [self.level])):
            for value in values:
                as_scalar(value, name, allowed=lambda one: 0 < one < 1, rule="must lie between 0 and 1")
        as_scalar(self.resamples, "resamples", allowed=lambda one: one >= 1, rule="must be at least 1")
        as_scalar(self.seed, "seed", allowed=lambda one: one >= 0, rule="must be at least 0")


@dataclass(frozen=True)
class CertifiedThreshold:
    """A threshold that was certified, and what it does on answers that had no part in that.

    Attributes:
        certificate: What is promised; the threshold is infinite where nothing is.
        tried: What it does on the rows that report, or on those that were kept back for it; None where it abstains.
    """

    certificate: Certificate
    tried: OperatingPoint | None


@dataclass(frozen=True)
class MeasuredConfidence:
    """One confidence.

    Attributes:
        values: Every metric by the name under which runs record it, with its interval; NaN where it is undefined.
        certified: One threshold a risk; none where no rows certify.
    """

    values: Mapping[str, Interval]
    certified: Sequence[CertifiedThreshold]


@dataclass(frozen=True, eq=False)
class AnswerReport:
    """What some answers say.

    Attributes:
        answers: The answers.
        settings: What was measured.
        reported: The rows that the metrics are of.
        measured: By confidence, the first that which decides.
        differences: The second confidence less the first, by metric, on the same resamples.
        notes: What was drawn, left out or not known, in sentences.
    """

    answers: OwnAnswers
    settings: Measuring
    reported: Rows
    measured: Mapping[str, MeasuredConfidence]
    differences: Mapping[str, Difference]
    notes: Sequence[str]

    @cached_property
    def groups(self) -> int:
        """How many groups the metrics are of."""
        return len(np.unique(self.answers.groups[self.reported]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON: fractions, not per cent, and None for what is undefined or infinite."""
        return {
            "answers": len(self.reported),
            "groups": self.groups,
            "columns": self.answers.columns,
            "settings": asdict(self.settings),
            "metrics": {
                name: {metric: _plain(asdict(value)) for metric, value in found.values.items()}
                for name, found in self.measured.items()
            },
            "certified": {
                name: [
                    _plain(one.certificate.to_dict()) | {"tried": _plain(one.tried._asdict()) if one.tried else None}
                    for one in found.certified
                ]
                for name, found in self.measured.items()
            },
            "differences": {metric: _plain(asdict(value)) for metric, value in self.differences.items()},
            "notes": list(self.notes),
        }

    @property
    def title(self) -> str:
        """What was measured: how many answers, in how many groups."""
        about = f" in {self.groups} groups" if self.answers.grouped else ""
        return f"{Path(self.answers.what).name}: {len(self.reported)} answers{about}"

    def markdown(self) -> str:
        """The report in Markdown, numbers in per cent."""
        return in_markdown(self.title, self._parts(), self.notes)

    def show(self, file: "IO[str] | None" = None) -> None:
        """Print the report for people, no wider than the terminal."""
        show_parts(self.title, self._parts(), self.notes, file=file)

    def figures(self) -> "dict[str, Figure]":
        """The risk-coverage curve, and the reliability diagram where a confidence is a probability, by file name."""
        from reliabit.evaluation.prediction_columns import ScoredAnswers
        from reliabit.evaluation.trust_figures import reliability_figure, risk_coverage_figure

        correct, groups = self.answers.correct[self.reported], self.answers.groups[self.reported].tolist()
        scored = {
            name: ScoredAnswers(confidence[self.reported], correct, groups)
            for name, confidence in self.answers.confidences.items()
        }
        first = next(iter(scored))
        certificates = [one.certificate for one in self.measured[first].certified]
        drawn = {
            "risk_coverage.png": risk_coverage_figure(
                scored, confidence=first, certificates=certificates, risks=self.settings.risks, title=self.title
            )
        }
        if len(self.answers.outside) < len(scored):
            level = self.settings.level
            drawn["reliability_diagram.png"] = reliability_figure(scored, title=self.title, level=level)
        return drawn

    def write_figures(self, folder: str | Path) -> list[Path]:
        """Draw the figures into a folder, and tell their paths."""
        from reliabit.evaluation.figure_style import write_figures

        return write_figures(self.figures(), Path(folder))

    def __str__(self) -> str:
        return self.markdown()

    def _repr_markdown_(self) -> str:
        """How notebooks show it."""
        return self.markdown()

    def _parts(self) -> list[Part]:
        """The tables, what matters most first."""
        shown = {one.name for one in headline()}
        metrics = list(dict.fromkeys(name for found in self.measured.values() for name in found.values))
        level = f"{100 * self.settings.level:g} % intervals"
        return [
            self._metrics(f"Headline, % with {level}", [name for name in metrics if name in shown]),
            *self._certificates(),
            *self._compared(),
            self._metrics(f"All other metrics, % with {level}", [name for name in metrics if name not in shown]),
        ]

    def _metrics(self, title: str, names: Sequence[str]) -> Part:
        lines = []
        for name in names:
            metric = metric_named(name)
            values = (found.values.get(name) for found in self.measured.values())
            lines.append([heading_of(metric), *(value_text(metric, value) for value in values)])
        return Part(title, ["metric", *self.measured], lines)

    def _certificates(self) -> list[Part]:
        several = len(self.measured) > 1
        lines = [
            [*([name] if several else []), *certificate_cells(one.certificate, one.tried)]
            for name, found in self.measured.items()
            for one in found.certified
        ]
        title = f"Certified thresholds: the risk holds with probability {100 * (1 - self.settings.delta):g} %"
        headings = ["risk, %", "accept from", "coverage, %", "tried: coverage, %", "tried: risk, %"]
        return [Part(title, [*(["confidence"] if several else []), *headings], lines)] if lines else []

    def _compared(self) -> list[Part]:
        if not self.differences:
            return []
        first, second = self.measured
        lines = [
            [metric_named(name).heading, signed(found), f"{found.p_value:.3g}"]
            for name, found in self.differences.items()
        ]
        title = f"{second} less {first}, percentage points (* excludes zero)"
        return [Part(title, ["metric", "difference", "p"], lines)]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
