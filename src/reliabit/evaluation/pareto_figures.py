"""A Pareto front as figures: qualities against one cost each."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.evaluation.cells import EFFECTIVE_BITS, LATENCY, RESIDENT, STORED
from reliabit.evaluation.figure_style import BLUE, GREY, INK, legend_below, panels, styled, wrapped, write_figures
from reliabit.evaluation.label_placement import Box, nearest_edge, place_labels
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, Reliability, heading
from reliabit.evaluation.pareto import Pareto, Standing
from reliabit.evaluation.pareto_report import COSTS
from reliabit.evaluation.short_names import short_names
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.metric import higher_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

_LOOKS: Mapping[Standing, Mapping[str, Any]] = {
    "front": {"color": BLUE, "marker": "o", "markerfacecolor": BLUE},
    "undecided": {"color": BLUE, "marker": "D", "markerfacecolor": "white"},
    "dominated": {"color": GREY, "marker": "X", "markerfacecolor": GREY},
}

_AXES = {
    "stored": (STORED, *COSTS[STORED][:2]),
    "resident": (RESIDENT, *COSTS[RESIDENT][:2]),
    "latency": (LATENCY, *COSTS[LATENCY][:2]),
    "bits": (EFFECTIVE_BITS, "bits/weight", 1.0),
}
"""What each axis shows: metric, heading and factor; `reliabit.tracking.settings` has the names too."""

_TEXT = 10.5
"""Points of a label."""

_FAR = 16.0
"""Pixels from which on a line leads from a point to its label."""

_DRAWN = ("stored", "latency", "bits")
"""The axes that are drawn beside the one that is asked for."""

_WIDTHS = (2, 3, 4, 6, 8, 16, 32)


def write_pareto(fronts: Mapping[str, Pareto], folder: Path, *, axis: str) -> list[Path]:
    """Write the figure once for every cost, each whole or not at all.

    Args:
        fronts: At least one, by what tells them apart, such as the model and the data set.
        folder: Where to. `pareto.png` has the axis that is asked for; the others are `pareto_latency.png` and so on.
        axis: `stored`, `resident`, `latency` or `bits`; another one stands for bits where a cell does not tell them.

    Returns:
        What was written.
    """
    points = [point for pareto in fronts.values() for point in pareto.points]
    told = all(point.effective_bits is not None for point in points)
    known = [name for name in dict.fromkeys((axis, *_DRAWN)) if told or name != "bits"]
    drawn = {_file(name, first=known[0]): pareto_figure(fronts, axis=name) for name in known}
    return write_figures(drawn, folder)


def _file(axis: str, *, first: str) -> str:
    return "pareto.png" if axis == first else f"pareto_{axis}.png"


@styled
def pareto_figure(fronts: Mapping[str, Pareto], *, axis: str = "stored") -> "Figure":
    """Accuracy, AUGRC and certified coverage against a cost, a panel each for every front; every point has its name.

    Standings are by all objectives together, so a point may lie behind others in one panel and stand on the front.

    Args:
        fronts: At least one, by what tells them apart, such as the model and the data set.
        axis: `stored`, `resident`, `latency` or `bits`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown = [(where, pareto, metric) for where, pareto in fronts.items() for metric in _qualities(pareto)]
    most = max(len(pareto.points) for pareto in fronts.values())
    where = f"{next(iter(fronts))}: " if len(fronts) == 1 else ""
    title = f"{where}quality by {_AXES[axis][1]}"
    figure, grid = panels(len(shown), title=title, height=3.2 + 0.06 * max(0, most - 8))
    for axes, (where, pareto, metric) in zip(grid, shown, strict=True):
        _draw_points(axes, pareto, metric, axis=axis)
        axes.set_title(_title(where if len(fronts) > 1 else "", pareto, metric))
    legend_below(figure, grid, columns=len(_LOOKS))
    # Labels find their places where all else lies; they move nothing.
    # One renderer for all: each new one is a picture of its own.
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    for axes, (_, pareto, metric) in zip(grid, shown, strict=True):
        _label_points(axes, pareto, _places(pareto, metric, axis=axis), renderer=renderer)
    return figure


def _title(where: str, pareto: Pareto, metric: str) -> str:
    better = "higher is better" if higher_is_better(metric) else "lower is better"
    by = "" if metric == ACCURACY else f" by {pareto.measurements.settings.confidence}"
    return wrapped(f"{where}{' · ' if where else ''}{heading(metric)}{by}, {better}", 52)


def _qualities(pareto: Pareto) -> tuple[str, str, str]:
    settings, known = pareto.measurements.settings, pareto.points[0].qualities
    certified = settings.certified_coverage
    return ACCURACY, AUGRC, certified if certified in known else settings.coverage


def _cost(point: Reliability, metric: str) -> float | None:
    return point.effective_bits if metric == EFFECTIVE_BITS else point.costs[metric]


def _places(pareto: Pareto, metric: str, *, axis: str) -> FloatArray:
    """Where the points of a panel lie, shape `(N, 2)`."""
    cost, _, factor = _AXES[axis]
    found = [(_cost(point, cost), point.qualities[metric].estimate) for point in pareto.points]
    return np.array(found, dtype=np.float64) * (factor, 100.0)


def _draw_points(axes: "Axes", pareto: Pareto, metric: str, *, axis: str) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter

    places = _places(pareto, metric, axis=axis)
    found = [point.qualities[metric].interval(level=pareto.measurements.level) for point in pareto.points]
    # An interval that is skewed may leave its estimate out; a bar of negative length cannot be drawn.
    bars = np.array([(max(0.0, one.estimate - one.low), max(0.0, one.high - one.estimate)) for one in found]) * 100
    standings = np.array([pareto.places[point.name].standing for point in pareto.points])
    for standing, looks in _LOOKS.items():
        own = standings == standing
        if own.any():
            (at, values), yerr = places[own].T, bars[own].T
            style = {"linestyle": "", "markersize": 7, "elinewidth": 1.0, **looks}
            axes.errorbar(at, values, yerr=yerr, label=standing, **style)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.xaxis.set_major_locator(FixedLocator(_WIDTHS) if axis == "bits" else MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.set(xlabel=_AXES[axis][1], ylabel=f"{heading(metric)}, %")


def _label_points(axes: "Axes", pareto: Pareto, places: FloatArray, *, renderer: "RendererBase") -> None:
    """Write the name of every point where it lies on no other name, and lead to it from its point where it is far."""
    from matplotlib.patheffects import withStroke

    points = np.asarray(axes.transData.transform(places))
    # Legible across bars.
    halo = [withStroke(linewidth=2.5, foreground="white")]
    names = short_names([point.name for point in pareto.points])
    texts = [axes.text(0, 0, name, fontsize=_TEXT, path_effects=halo) for name in names]
    boxes = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([(box.width + 3, box.height + 3) for box in boxes])
    marks: list[Box] = [(x - 9, y - 9, x + 9, y + 9) for x, y in points]
    found = place_labels(points, sizes, bounds=axes.bbox.padded(-4).extents, obstacles=[*marks, *_bars(axes)])
    to_data = axes.transData.inverted().transform
    for text, point, box in zip(texts, points, found, strict=True):
        if box is None:
            text.remove()
            continue
        text.set(position=to_data((box[0] + 1.5, box[1] + 1.5)), verticalalignment="bottom", zorder=5)
        text.set_in_layout(False)
        end = nearest_edge(point, box)
        if np.hypot(*(end - point)) > _FAR:
            axes.plot(
                *np.transpose(to_data([point, end])), color=INK, linewidth=0.7, alpha=0.6, scalex=False, scaley=False
            )


def _bars(axes: "Axes") -> list[Box]:
    """The bars of intervals, as boxes on the screen."""
    from matplotlib.collections import LineCollection

    ends = [end for bars in axes.collections if isinstance(bars, LineCollection) for end in bars.get_segments()]
    boxes = [axes.transData.transform(end) for end in ends]
    return [(box[:, 0].min() - 1, box[:, 1].min(), box[:, 0].max() + 1, box[:, 1].max()) for box in boxes]
