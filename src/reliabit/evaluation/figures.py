"""Figures of a run: how far confidence can be trusted, what abstaining buys, and how that fares under shift.

They are drawn of a report and of the predictions that it was measured on, and nothing is computed from them.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reliabit.evaluation.confidences import ConfidenceMeasurement, ConfidenceReport
from reliabit.evaluation.figure_style import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    legend_below,
    panels,
    series_style,
    styled,
)
from reliabit.evaluation.prediction_columns import (
    MAXPROB,
    THRESHOLDS,
    ScoredAnswers,
    confidences_of,
    reported_rows,
    rows_of,
    scored_answers,
)
from reliabit.evaluation.report import Report
from reliabit.evaluation.sets import IN_DOMAIN
from reliabit.evaluation.trust_figures import overlay_figure, reliability_figure, risk_coverage_figure
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at
from reliabit.metrics.functional import effective_reliability, effective_reliability_threshold
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COST_CURVE = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
OF_MIXTURES = (ACCURACY, coverage_at(0.01), AURC)

_GRADED = re.compile(r"(?P<name>.+)_(?P<severity>[1-5])")
_MIXED = re.compile(r"(?P<name>.+)_mix_(?P<share>\d+)")

Points = dict[str, dict[str, list[tuple[float, ConfidenceMeasurement]]]]
"""By shift or mixture and confidence, where a point lies and what was measured there."""


def report_figures(
    predictions: "pa.Table", report: Report, *, split: str, title: str, confidence: str = MAXPROB
) -> "dict[str, Figure]":
    """Draw a report.

    Args:
        predictions: What was measured.
        report: Its report.
        split: The split that it reports.
        title: What the figures show.
        confidence: What abstains; MaxProb where the table lacks it.

    Returns:
        Figures by file name.
    """
    rows = reported_rows(predictions, split)
    answers = {name: scored_answers(rows, name) for name in confidences_of(predictions)}
    own = confidence if confidence in answers else MAXPROB
    certificates = report.certificates[own]
    pair = {name: answers[name] for name in dict.fromkeys((MAXPROB, own))}
    risks = [certificate.risk for certificate in certificates]
    drawn: dict[str, Figure | None] = {
        "reliability_diagram.png": reliability_figure(pair, title=title),
        "risk_coverage.png": risk_coverage_figure(pair, confidence=own, certificates=certificates, title=title),
        "confidence_histogram.png": _confidence_histogram(answers[own], confidence=own, title=title),
        "effective_reliability.png": _effective_reliability_figure(predictions, answers[own], own, title=title),
        "shifts.png": severity_figure(report.confidences, title=title),
        "mixtures.png": mixture_figure(report.confidences, title=title),
        "confidences.png": overlay_figure(answers, title=title, risks=risks) if len(answers) > 1 else None,
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


@styled
def severity_figure(report: ConfidenceReport, *, title: str) -> "Figure | None":
    """AURC against the severity of each shift, a line a confidence; `None` where no shift has two severities."""
    shifts: Points = defaultdict(lambda: defaultdict(list))
    for row in report.measured:
        found = _GRADED.fullmatch(row.set_name)
        if row.kind == "shift" and found:
            shifts[found["name"]][row.confidence].append((float(found["severity"]), row))
    lines = {name: series for name, series in shifts.items() if len(next(iter(series.values()))) > 1}
    if not lines:
        return None
    for series in lines.values():
        for confidence, points in series.items():
            plain = report.find(IN_DOMAIN, confidence)
            series[confidence] = sorted([(0.0, plain), *points] if plain else points, key=lambda point: point[0])
    figure, grid = panels(len(lines), columns=min(2, len(lines)), title=title, height=2.6)
    for axes, (name, series) in zip(grid, lines.items(), strict=True):
        _draw(axes, series, metric=AURC)
        axes.set(title=name, xlabel="severity (0: as it is)", ylim=(0, None))
    legend_below(figure, grid)
    return figure


@styled
def mixture_figure(report: ConfidenceReport, *, title: str) -> "Figure | None":
    """Accuracy, coverage at 1 % risk and AURC against the share of shifted questions; `None` without mixtures."""
    mixtures: Points = defaultdict(lambda: defaultdict(list))
    for row in report.measured:
        found = _MIXED.fullmatch(row.set_name)
        if row.kind == "mixture" and found:
            mixtures[found["name"]][row.confidence].append((100 * row.shifted_share, row))
    if not mixtures:
        return None
    shown = [(name, series, metric) for name, series in mixtures.items() for metric in OF_MIXTURES]
    figure, grid = panels(len(shown), title=title, height=2.6)
    for axes, (name, series, metric) in zip(grid, shown, strict=True):
        _draw(axes, series, metric=metric)
        axes.set(title=name, xlabel="shifted questions, %", ylim=(0, None))
    legend_below(figure, grid)
    return figure


def draw_with_interval(
    axes: "Axes", at: Sequence[float], values: Sequence[Interval], *, metric: Metric, alpha: float, **style: Any
) -> None:
    """A line through estimates, and the area between the ends of their intervals."""
    middle, low, high = ([metric.scale * getattr(one, end) for one in values] for end in ("estimate", "low", "high"))
    axes.plot(at, middle, marker=".", **style)
    axes.fill_between(at, low, high, alpha=alpha, color=style["color"], linewidth=0)


def _draw(axes: "Axes", series: Mapping[str, Sequence[tuple[float, ConfidenceMeasurement]]], *, metric: Metric) -> None:
    for number, (confidence, points) in enumerate(series.items()):
        values = [row.values[metric.name] for _, row in points]
        style = {"label": confidence, **series_style(number)}
        draw_with_interval(axes, [place for place, _ in points], values, metric=metric, alpha=0.15, **style)
    axes.set_ylabel(metric.axis)


@styled
def _confidence_histogram(answers: ScoredAnswers, *, confidence: str, title: str) -> "Figure":
    """How confident right and wrong answers are; an answer of accuracy 0.3 counts as 0.3 right and 0.7 wrong."""
    figure, (axes,) = panels(1, title=title)
    low, high = min(0.0, answers.confidence.min()), max(1.0, answers.confidence.max())
    axes.hist(
        [answers.confidence, answers.confidence],
        bins=20,
        range=(low, high),
        weights=[answers.accuracy, 1 - answers.accuracy],
        color=[GREEN, VERMILLION],
        # Told apart without color as well.
        hatch=["", "//"],
        edgecolor="white",
        label=["right", "wrong"],
        stacked=True,
    )
    axes.set(xlim=(low, high), xlabel=f"confidence: {confidence}", ylabel="questions")
    axes.legend(loc="upper left")
    return figure


@styled
def _effective_reliability_figure(
    predictions: "pa.Table", test: ScoredAnswers, confidence: str, *, title: str
) -> "Figure | None":
    """Effective reliability against the cost of a wrong answer, with abstention at thresholds of `val` and without."""
    rows = rows_of(predictions, THRESHOLDS)
    if not rows.num_rows:
        return None
    val = scored_answers(rows, confidence)
    chosen = [effective_reliability_threshold(val.confidence, val.accuracy, cost) for cost in _COST_CURVE]
    phi, always = (
        [
            effective_reliability(test.confidence, test.accuracy, cost, threshold)
            for cost, threshold in zip(_COST_CURVE, thresholds, strict=True)
        ]
        for thresholds in (chosen, [float("-inf")] * len(_COST_CURVE))
    )
    figure, (axes,) = panels(1, title=title)
    axes.plot(_COST_CURVE, phi, color=BLUE, marker="o", label=f"abstains where {confidence} is below its threshold")
    axes.plot(_COST_CURVE, always, color=GREY, marker=".", linestyle="--", label="answers everything")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="cost of a wrong answer", ylabel="effective reliability", ylim=(-1.02, 1.02))
    axes.set_xscale("symlog")
    axes.set_xlim(-0.2, 1.2 * _COST_CURVE[-1])
    axes.set_xticks(list(_COST_CURVE), [f"{cost:g}" for cost in _COST_CURVE])
    axes.minorticks_off()
    axes.legend(loc="lower left")
    return figure
