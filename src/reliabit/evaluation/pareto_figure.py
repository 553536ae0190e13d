"""A Pareto front as a figure: each quality against the size of the model, with intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reliabit.evaluation.cells import STORED
from reliabit.evaluation.figures import COLOR, FAINT
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, heading
from reliabit.evaluation.pareto_points import Pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB = 2**20
LOOKS = {"front": (COLOR, COLOR), "undecided": (COLOR, "white"), "dominated": (FAINT, FAINT)}
"""Colors of a standing's lines and of the inside of its marks."""


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
        certified = settings.certified_coverage
        last = certified if certified in pareto.points[0].qualities else certified.replace("certified/", "selective/")
        for axes, metric in zip(row, (ACCURACY, AUGRC, last), strict=True):
            _panel(axes, pareto, metric)
            axes.set_title(f"{where} · {settings.confidence}", fontsize=9)
    return figure


def _panel(axes: "Axes", pareto: Pareto, metric: str) -> None:
    for standing, (color, inside) in LOOKS.items():
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
