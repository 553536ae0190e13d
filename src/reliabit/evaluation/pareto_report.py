"""A Pareto front as a table and as a figure: every configuration with its objectives and where it stands."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reliabit.evaluation.cells import LATENCY, RESIDENT, STORED
from reliabit.evaluation.figures import COLOR, FAINT
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, Reliability, heading
from reliabit.evaluation.pareto import Pareto
from reliabit.evaluation.tables import csv_table, markdown_table, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB = 2**20
_LOOKS = {"front": (COLOR, COLOR), "undecided": (COLOR, "white"), "dominated": (FAINT, FAINT)}
"""Colors of a standing's lines and of the inside of its marks."""

COSTS = {
    STORED: ("stored MiB", 1 / MIB, ".2f"),
    RESIDENT: ("resident MiB", 1 / MIB, ".2f"),
    LATENCY: ("ms/question", 1e3, ".2f"),
}
"""Heading, factor and form of each cost."""

_EXPLANATION = (
    "front: no other configuration is at least as good in every column and better in one. undecided: one is, by point "
    "values, but within the uncertainty, so it stays. dominated: one surely is.\n"
)


def pareto_markdown(pareto: Pareto) -> str:
    """The table in Markdown, qualities in per cent with their intervals."""
    measurements = pareto.measurements
    settings, first = measurements.settings, pareto.points[0]
    headings = ["configuration", "standing", "dominated by", *(COSTS[cost][0] for cost in first.costs)]
    headings += [f"{name} %" for name in measurements.named(first)]
    lines = [
        [
            point.name,
            *_place(pareto, point),
            *_costs(point),
            *(shown(found) for found in measurements.named(point).values()),
        ]
        for point in pareto.points
    ]
    return (
        f"Confidence: {settings.confidence}. Intervals: {100 * measurements.level:.4g} %, which is "
        f"{100 * settings.level:g} % for the best of {measurements.comparisons}, {settings.resamples} resamples of "
        f"images. Certificates hold for the best of {measurements.comparisons} configurations. Latencies are compared "
        f"in steps of {100 * settings.latency_tolerance:g} %.\n\n{_EXPLANATION}\n{markdown_table(headings, lines)}"
    )


def pareto_csv(fronts: Mapping[str, Pareto]) -> str:
    """Several fronts as comma-separated values: bytes, seconds and fractions, with the ends of intervals.

    Args:
        fronts: By what tells them apart, such as the model and the data set.
    """
    columns = ["objective", "confidence", "value", "low", "high", "level", "best_of"]
    lines = (
        [where, point.name, pareto.places[point.name].standing, "; ".join(pareto.places[point.name].by), *values]
        for where, pareto in fronts.items()
        for point in pareto.points
        for values in _objectives(point, pareto)
    )
    return csv_table(["where", "configuration", "standing", "dominated_by", *columns], lines)


def _objectives(point: Reliability, pareto: Pareto) -> Iterable[list[str]]:
    for name, value in point.costs.items():
        yield [name, "", f"{value:.9g}", "", "", "", ""]
    measurements = pareto.measurements
    for metric, quality in point.qualities.items():
        found = quality.interval(level=measurements.level)
        by = "" if metric == ACCURACY else measurements.settings.confidence
        numbers = (found.estimate, found.low, found.high, found.level)
        yield [metric, by, *(f"{value:.6g}" for value in numbers), str(measurements.comparisons)]


def _place(pareto: Pareto, point: Reliability) -> tuple[str, str]:
    place = pareto.places[point.name]
    others = f" and {len(place.by) - 1} more" if len(place.by) > 1 else ""
    return place.standing, f"{place.by[0]}{others}" if place.by else ""


def _costs(point: Reliability) -> list[str]:
    return [format(value * COSTS[name][1], COSTS[name][2]) for name, value in point.costs.items()]


def pareto_figure(fronts: Mapping[str, Pareto]) -> "Figure":
    """Accuracy, AUGRC and certified coverage against stored MiB, a row of panels a front.

    Standings are by all objectives together, so a point may lie behind others in one panel and stand on the front.

    Args:
        fronts: At least one, by what tells them apart, such as the model and the data set.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 0.6 + 3.8 * len(fronts)), layout="constrained")
    grid = figure.subplots(len(fronts), 3, squeeze=False)
    for row, (where, pareto) in zip(grid, fronts.items(), strict=True):
        settings = pareto.measurements.settings
        known = pareto.points[0].qualities
        last = settings.certified_coverage if settings.certified_coverage in known else settings.coverage
        for axes, metric in zip(row, (ACCURACY, AUGRC, last), strict=True):
            _panel(axes, pareto, metric)
            axes.set_title(f"{where} · {settings.confidence}", fontsize=9)
    return figure


def _panel(axes: "Axes", pareto: Pareto, metric: str) -> None:
    for standing, (color, inside) in _LOOKS.items():
        members = [point for point in pareto.points if pareto.places[point.name].standing == standing]
        if not members:
            continue
        sizes = [point.costs[STORED] / MIB for point in members]
        found = [point.qualities[metric].interval(level=pareto.measurements.level) for point in members]
        values = [100 * one.estimate for one in found]
        # An interval that is skewed may leave its estimate out; a bar of negative length cannot be drawn.
        below = [max(0.0, 100 * (one.estimate - one.low)) for one in found]
        above = [max(0.0, 100 * (one.high - one.estimate)) for one in found]
        axes.errorbar(
            sizes,
            values,
            yerr=[below, above],
            fmt="o",
            markersize=4,
            elinewidth=1,
            color=color,
            markerfacecolor=inside,
            label=standing,
        )
        for point, size, value in zip(members, sizes, values, strict=True):
            axes.annotate(_short(point.name), (size, value), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.margins(x=0.15)
    axes.set(xlabel="stored MiB", ylabel=f"{heading(metric)}, %")
    axes.legend(fontsize=7)


def _short(name: str) -> str:
    """A run's name without the model, which the panel names, and the seed.

    >>> _short("qwen2_vl_tiny·hqq·4b·s0")
    'hqq·4b'
    """
    parts = name.split("·")
    return "·".join(part for part in parts[1:] if not part.startswith("s0")) or name
