"""Figures of confidences against each other: what abstaining buys, and how that fares under shift."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reliabit.evaluation.confidences import ConfidenceReport, Measured
from reliabit.evaluation.headline import HEADLINE
from reliabit.evaluation.roles import MAXPROB
from reliabit.evaluation.sets import IN_DOMAIN
from reliabit.metrics.functional import risk_coverage_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reliabit.evaluation.roles import Judged

GRADED = re.compile(r"(?P<shift>.+)_(?P<severity>[1-5])")
MIXED = re.compile(r"(?P<mixture>.+)_mix_(?P<share>\d+)")
OF_MIXTURES = ("accuracy/mean", "selective/coverage_at_1pct_risk", "selective/aurc")


def overlay_figure(answers: "Mapping[str, Judged]", *, title: str) -> "Figure":
    """Risk-coverage curves of several confidences on the same answers.

    Args:
        answers: The answers by confidence.
        title: What is shown.
    """
    figure, ((axes,),) = _grid(rows=1, columns=1, title=title)
    for number, (name, found) in enumerate(answers.items()):
        curve = risk_coverage_curve(found.confidence, found.accuracy)
        axes.plot(curve.coverage, curve.risk, label=name, **_style(number, name))
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage", ylabel="selective risk")
    axes.legend(loc="upper left", fontsize=7)
    return figure


def severity_figure(report: ConfidenceReport, *, title: str) -> "Figure | None":
    """AURC against the severity of each shift, a line a confidence; `None` where no shift has two severities."""
    shifts: dict[str, dict[str, list[tuple[float, Measured]]]] = defaultdict(lambda: defaultdict(list))
    for row in report.measured:
        found = GRADED.fullmatch(row.set_name)
        if row.kind == "shift" and found:
            shifts[found["shift"]][row.confidence].append((float(found["severity"]), row))
    lines = {name: series for name, series in shifts.items() if len(next(iter(series.values()))) > 1}
    if not lines:
        return None
    for series in lines.values():
        for confidence, points in series.items():
            plain = report.find(IN_DOMAIN, confidence)
            series[confidence] = sorted([(0.0, plain), *points] if plain else points, key=lambda point: point[0])
    columns = min(3, len(lines))
    figure, grid = _grid(rows=-(-len(lines) // columns), columns=columns, title=title)
    panels = [axes for row in grid for axes in row]
    for axes, (name, series) in zip(panels, lines.items(), strict=False):
        _draw(axes, series, metric="selective/aurc")
        axes.set(title=name, xlabel="severity (0: as it is)", ylim=(0, None))
    for axes in panels[len(lines) :]:
        axes.set_visible(False)
    panels[0].legend(fontsize=7)
    return figure


def mixture_figure(report: ConfidenceReport, *, title: str) -> "Figure | None":
    """Accuracy, coverage at 1 % risk and AURC against the share of shifted questions; `None` without mixtures."""
    mixtures: dict[str, dict[str, list[tuple[float, Measured]]]] = defaultdict(lambda: defaultdict(list))
    for row in report.measured:
        found = MIXED.fullmatch(row.set_name)
        if row.kind == "mixture" and found:
            mixtures[found["mixture"]][row.confidence].append((100 * row.shifted_share, row))
    if not mixtures:
        return None
    figure, grid = _grid(rows=len(mixtures), columns=len(OF_MIXTURES), title=title)
    for panels, (name, series) in zip(grid, mixtures.items(), strict=True):
        for axes, metric in zip(panels, OF_MIXTURES, strict=True):
            _draw(axes, series, metric=metric)
            axes.set(title=name, xlabel="shifted questions, %", ylim=(0, None))
    grid[0][0].legend(fontsize=7)
    return figure


def _draw(axes: "Axes", series: Mapping[str, Sequence[tuple[float, Measured]]], *, metric: str) -> None:
    for number, (confidence, points) in enumerate(series.items()):
        at = [place for place, _ in points]
        values = [row.values[metric] for _, row in points]
        style = _style(number, confidence)
        axes.plot(at, [100 * value.estimate for value in values], marker=".", label=confidence, **style)
        axes.fill_between(
            at,
            [100 * value.low for value in values],
            [100 * value.high for value in values],
            alpha=0.15,
            color=style["color"],
            linewidth=0,
        )
    axes.set_ylabel(f"{HEADLINE[metric]}, %")


def _style(number: int, confidence: str) -> dict[str, Any]:
    line = "--" if confidence == MAXPROB else "-"
    return {"color": f"C{number % 10}", "linestyle": line if number < 10 else ":"}


def _grid(*, rows: int, columns: int, title: str) -> "tuple[Figure, list[list[Axes]]]":
    # Not pyplot: it keeps every figure alive, and chooses a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.2 * columns, 0.8 + 3.2 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()
