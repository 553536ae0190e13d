"""The report of somebody's own answers as tables: in Markdown, in a terminal; and its two figures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from reliabit.evaluation.answer_report import AnswerReport, CertifiedThreshold
from reliabit.evaluation.tables import markdown_table, signed
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric, metric_named
from reliabit.metrics.suite import headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNDEFINED = "–"

_MANY = 1000

_TEXTS = 1
"""So many columns of a table are texts; what follows are numbers."""


@dataclass(frozen=True)
class _Part:
    """A table, and what stands above it."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]


def title_of(report: AnswerReport) -> str:
    """What was measured: how many answers, about how many groups."""
    about = f" in {report.groups} groups" if report.answers.grouped else ""
    return f"{Path(report.answers.what).name}: {len(report.reported)} answers{about}"


def markdown(report: AnswerReport) -> str:
    """The whole report in Markdown, numbers in per cent."""
    parts = [f"# {title_of(report)}\n"]
    parts += [f"## {part.title}\n\n{markdown_table(part.headings, part.lines)}" for part in _parts(report)]
    if report.notes:
        parts.append("".join(f"- {note}\n" for note in report.notes))
    return "\n".join(parts)


def show(report: AnswerReport, *, file: "IO[str] | None" = None) -> None:
    """Print the report for people, no wider than the terminal."""
    from reliabit.terminal import Column, console, show_table

    place = console(file)
    place.print(title_of(report), style="bold", soft_wrap=True)
    # The end is what stays on the screen.
    *first, last = _parts(report)
    for part in (last, *first):
        columns = [
            Column(heading, [line[number] for line in part.lines], priority=max(0, number - 1), left=number < _TEXTS)
            for number, heading in enumerate(part.headings)
        ]
        place.print()
        show_table(columns, title=part.title, file=file)
    place.print()
    for note in report.notes:
        place.print(f"{note[0].upper()}{note[1:]}.")


def figures(report: AnswerReport) -> "dict[str, Figure]":
    """The two figures by file name; no reliability diagram where no confidence is a probability."""
    from reliabit.evaluation.prediction_columns import ScoredAnswers
    from reliabit.evaluation.trust_figures import reliability_figure, risk_coverage_figure

    rows = report.reported
    scored = {
        name: ScoredAnswers(confidence[rows], report.answers.correct[rows], report.answers.groups[rows].tolist())
        for name, confidence in report.answers.confidences.items()
    }
    first, title = next(iter(scored)), title_of(report)
    certificates = [one.certificate for one in report.measured[first].certified]
    drawn = {
        "risk_coverage.png": risk_coverage_figure(
            scored, confidence=first, certificates=certificates, risks=report.settings.risks, title=title
        )
    }
    if len(report.answers.outside) < len(scored):
        drawn["reliability_diagram.png"] = reliability_figure(scored, title=title, level=report.settings.level)
    return drawn


def write(drawn: "dict[str, Figure]", folder: Path) -> list[Path]:
    """Write figures into a folder, each whole or not at all."""
    from reliabit.evaluation.figure_style import write_figures

    return write_figures(drawn, folder)


def _parts(report: AnswerReport) -> Iterator[_Part]:
    """The tables, what matters most first."""
    shown = {one.name for one in headline()}
    metrics = list(dict.fromkeys(name for found in report.measured.values() for name in found.values))
    level = f"{100 * report.settings.level:g} % intervals"
    yield _metrics(report, f"Headline, % with {level}", [name for name in metrics if name in shown])
    yield from _certificates(report)
    if report.differences:
        first, second = report.measured
        yield _Part(
            f"{second} less {first}, percentage points (* excludes zero)",
            ["metric", "difference", "p"],
            [
                [metric_named(name).heading, signed(found), f"{found.p_value:.3g}"]
                for name, found in report.differences.items()
            ],
        )
    yield _metrics(report, f"All other metrics, % with {level}", [name for name in metrics if name not in shown])


def _metrics(report: AnswerReport, title: str, names: Sequence[str]) -> _Part:
    lines = [
        [
            _heading(metric_named(name)),
            *(_value(metric_named(name), found.values.get(name)) for found in report.measured.values()),
        ]
        for name in names
    ]
    return _Part(title, ["metric", *report.measured], lines)


def _certificates(report: AnswerReport) -> Iterator[_Part]:
    several = len(report.measured) > 1
    lines = [
        [*([name] if several else []), *_certified(one)]
        for name, found in report.measured.items()
        for one in found.certified
    ]
    if lines:
        yield _Part(
            f"Certified thresholds: the risk holds with probability {100 * (1 - report.settings.delta):g} %",
            [
                *(["confidence"] if several else []),
                *("risk, %", "accept from", "coverage, %", "tried: coverage, %", "tried: risk, %"),
            ],
            lines,
        )


def _heading(metric: Metric) -> str:
    return metric.phrase if metric.unit == "%" else f"{metric.phrase}, {metric.unit}"


def _value(metric: Metric, found: Interval | None) -> str:
    if found is None or math.isnan(found.estimate):
        return _UNDEFINED
    # What abstains from nothing at a high cost loses thousands: no column need be wide for its decimals.
    estimate, low, high = (
        metric.text(end) if abs(metric.scale * end) < _MANY else f"{metric.scale * end:.0f}"
        for end in (found.estimate, found.low, found.high)
    )
    return estimate if math.isnan(found.low) else f"{estimate} [{low}, {high}]"


def _certified(one: CertifiedThreshold) -> list[str]:
    certificate = one.certificate
    risk = f"{100 * certificate.risk:g}"
    if math.isinf(certificate.threshold):
        return [risk, "none certified", "0.00", _UNDEFINED, _UNDEFINED]
    tried = [f"{100 * one.tried.coverage:.2f}", f"{100 * one.tried.risk:.2f}"] if one.tried else [_UNDEFINED] * 2
    return [risk, f"{certificate.threshold:.6g}", f"{100 * certificate.coverage:.2f}", *tried]
