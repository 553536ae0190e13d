"""Figures of a run: how far confidence can be trusted, what abstaining buys, and how that fares under shift.

They are drawn of a report and of the predictions that it was measured on, and nothing is computed from them.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.evaluation.confidences import ConfidenceMeasurement, ConfidenceReport
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
from reliabit.files import replacing
from reliabit.metrics import Certificate
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at
from reliabit.metrics.functional import (
    effective_reliability,
    effective_reliability_threshold,
    operating_point,
    reliability_diagram,
    risk_coverage_curve,
)
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR = "#2b6cb0"
FAINT = "#a0aec0"
_ALARM = "#e53e3e"
_RIGHT = "#2f855a"

_COST_CURVE = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
OF_MIXTURES = (ACCURACY, coverage_at(0.01), AURC)

_GRADED = re.compile(r"(?P<name>.+)_(?P<severity>[1-5])")
_MIXED = re.compile(r"(?P<name>.+)_mix_(?P<share>\d+)")

Points = dict[str, dict[str, list[tuple[float, ConfidenceMeasurement]]]]
"""By shift or mixture and confidence, where a point lies and what was measured there."""


def report_figures(predictions: "pa.Table", report: Report, *, split: str, title: str) -> "dict[str, Figure]":
    """Draw a report.

    Args:
        predictions: What was measured.
        report: Its report.
        split: The split that it reports.
        title: What the figures show.

    Returns:
        Figures by file name.
    """
    rows = reported_rows(predictions, split)
    answers = {name: scored_answers(rows, name) for name in confidences_of(predictions)}
    test = answers[MAXPROB]
    curve = risk_coverage_curve(test.confidence, test.accuracy)
    points = _operating_points(test, report.certificates[MAXPROB])
    drawn: dict[str, Figure | None] = {
        "reliability_diagram.png": _reliability_figure(test, title=title),
        "risk_coverage.png": _risk_coverage_figure(curve.coverage, curve.risk, points=points, title=title),
        "confidence_histogram.png": _confidence_histogram(test, title=title),
        "effective_reliability.png": _effective_reliability_figure(predictions, test, title=title),
        "shifts.png": severity_figure(report.confidences, title=title),
        "mixtures.png": mixture_figure(report.confidences, title=title),
        "confidences.png": overlay_figure(answers, title=title) if len(answers) > 1 else None,
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def write_figures(drawn: "dict[str, Figure]", folder: Path) -> list[Path]:
    """Write figures under their names, each whole or not at all."""
    for name, figure in drawn.items():
        with replacing(folder / name) as unfinished:
            figure.savefig(unfinished, format="png", dpi=120)
    return [folder / name for name in drawn]


def overlay_figure(answers: Mapping[str, ScoredAnswers], *, title: str) -> "Figure":
    """Risk-coverage curves of several confidences on the same answers.

    Args:
        answers: The answers by confidence.
        title: What is shown.
    """
    figure, ((axes,),) = panel_grid(rows=1, columns=1, title=title)
    for number, (name, found) in enumerate(answers.items()):
        curve = risk_coverage_curve(found.confidence, found.accuracy)
        axes.plot(curve.coverage, curve.risk, label=name, **_style(number, name))
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage", ylabel="selective risk")
    axes.legend(loc="upper left", fontsize=7)
    return figure


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
    columns = min(3, len(lines))
    figure, grid = panel_grid(rows=-(-len(lines) // columns), columns=columns, title=title)
    panels = [axes for row in grid for axes in row]
    for axes, (name, series) in zip(panels, lines.items(), strict=False):
        _draw(axes, series, metric=AURC)
        axes.set(title=name, xlabel="severity (0: as it is)", ylim=(0, None))
    for axes in panels[len(lines) :]:
        axes.set_visible(False)
    panels[0].legend(fontsize=7)
    return figure


def mixture_figure(report: ConfidenceReport, *, title: str) -> "Figure | None":
    """Accuracy, coverage at 1 % risk and AURC against the share of shifted questions; `None` without mixtures."""
    mixtures: Points = defaultdict(lambda: defaultdict(list))
    for row in report.measured:
        found = _MIXED.fullmatch(row.set_name)
        if row.kind == "mixture" and found:
            mixtures[found["name"]][row.confidence].append((100 * row.shifted_share, row))
    if not mixtures:
        return None
    figure, grid = panel_grid(rows=len(mixtures), columns=len(OF_MIXTURES), title=title)
    for panels, (name, series) in zip(grid, mixtures.items(), strict=True):
        for axes, metric in zip(panels, OF_MIXTURES, strict=True):
            _draw(axes, series, metric=metric)
            axes.set(title=name, xlabel="shifted questions, %", ylim=(0, None))
    grid[0][0].legend(fontsize=7)
    return figure


def panel_grid(*, rows: int, columns: int, title: str, margin: float = 1.2) -> "tuple[Figure, list[list[Axes]]]":
    """Panels of one size in rows, below a title; the margin is in inches."""
    # Not pyplot: it keeps every figure alive, and chooses a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(margin + 4.2 * columns, 0.8 + 3.2 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


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
        style = {"label": confidence, **_style(number, confidence)}
        draw_with_interval(axes, [place for place, _ in points], values, metric=metric, alpha=0.15, **style)
    axes.set_ylabel(metric.axis)


def _style(number: int, confidence: str) -> dict[str, Any]:
    line = "--" if confidence == MAXPROB else "-"
    return {"color": f"C{number % 10}", "linestyle": line if number < 10 else ":"}


def _reliability_figure(answers: ScoredAnswers, *, title: str) -> "Figure":
    """Mean accuracy against mean confidence in bins of equal width, bins drawn as large as they are full."""
    figure, axes = _axes(title)
    bins = reliability_diagram(answers.confidence, answers.accuracy)
    full = bins.size > 0
    at, mean = bins.confidence[full], bins.accuracy[full]
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="confidence = accuracy")
    axes.vlines(at, mean, at, color=_ALARM, alpha=0.5, label="gap")
    axes.scatter(at, mean, s=15 + 400 * bins.size[full] / bins.size.sum(), color=COLOR, alpha=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="mean confidence", ylabel="mean accuracy")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def _operating_points(answers: ScoredAnswers, certificates: Sequence[Certificate]) -> list[tuple[str, float, float]]:
    """Where certified thresholds lie on the curve: label, coverage and realized risk, unless they abstain always."""
    points = []
    for certificate in certificates:
        point = operating_point(answers.confidence, answers.accuracy, certificate.threshold)
        if point.coverage > 0:
            points.append((f"certified for {certificate.risk:g}", point.coverage, point.risk))
    return points


def _risk_coverage_figure(
    coverage: FloatArray, risk: FloatArray, *, points: Sequence[tuple[str, float, float]], title: str
) -> "Figure":
    """Selective risk against coverage, with certified thresholds where they fall on this data."""
    figure, axes = _axes(title)
    axes.plot(coverage, risk, color=COLOR)
    axes.fill_between(coverage, risk, color=COLOR, alpha=0.12)
    for number, (label, at, realized) in enumerate(points):
        axes.scatter([at], [realized], color=_ALARM, marker="os^Dv"[number % 5], zorder=3, label=label)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage", ylabel="selective risk")
    if points:
        axes.legend(loc="upper left", fontsize=8)
    return figure


def _confidence_histogram(answers: ScoredAnswers, *, title: str) -> "Figure":
    """How confident right and wrong answers are; an answer of accuracy 0.3 counts as 0.3 right and 0.7 wrong."""
    confidence, accuracy = answers.confidence, answers.accuracy
    figure, axes = _axes(title)
    axes.hist(
        [confidence, confidence],
        bins=20,
        range=(0, 1),
        weights=[accuracy, 1 - accuracy],
        color=[_RIGHT, _ALARM],
        label=["right", "wrong"],
        stacked=True,
    )
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="questions")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def _effective_reliability_figure(predictions: "pa.Table", test: ScoredAnswers, *, title: str) -> "Figure | None":
    """Effective reliability against the cost of a wrong answer, with abstention at thresholds of `val` and without."""
    rows = rows_of(predictions, THRESHOLDS)
    if not rows.num_rows:
        return None
    val = scored_answers(rows, MAXPROB)
    chosen = [effective_reliability_threshold(val.confidence, val.accuracy, cost) for cost in _COST_CURVE]
    phi, always = (
        [
            effective_reliability(test.confidence, test.accuracy, cost, threshold)
            for cost, threshold in zip(_COST_CURVE, thresholds, strict=True)
        ]
        for thresholds in (chosen, [float("-inf")] * len(_COST_CURVE))
    )
    figure, axes = _axes(title)
    axes.plot(_COST_CURVE, phi, color=COLOR, marker="o", label="abstains below the threshold of its cost")
    axes.plot(_COST_CURVE, always, color=FAINT, marker=".", linestyle="--", label="answers everything")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set(xlabel="cost of a wrong answer", ylabel="effective reliability", ylim=(-1.02, 1.02))
    axes.set_xscale("symlog")
    axes.set_xticks(list(_COST_CURVE), [f"{cost:g}" for cost in _COST_CURVE])
    axes.minorticks_off()
    axes.legend(loc="lower left", fontsize=8)
    return figure


def _axes(title: str) -> "tuple[Figure, Axes]":
    # Not pyplot: it keeps every figure alive, and chooses a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    return figure, axes
