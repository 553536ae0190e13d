"""The slices that are hit hardest as a figure: each rate before, and after with the interval of the change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reliabit.evaluation.figure_style import (
    GREY,
    INK,
    legend_below,
    panels,
    series_marker,
    series_style,
    styled,
    wrapped,
)
from reliabit.evaluation.slice_comparison import SliceComparison, slice_name
from reliabit.evaluation.slice_rates import rate_name
from reliabit.metrics.slice_changes import ALL, SliceChange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLICES, CONFIGURATIONS = 6, 6
"""So many are drawn at most, those that are hit hardest."""

_SPREAD = 0.6
"""The share of a row that its marks take up."""


@styled
def slice_figure(found: SliceComparison, *, title: str) -> "Figure":
    """Rates of the slices that are hit hardest, and of all questions: a panel a rate, a row a slice, a mark a cell.

    Args:
        found: What was compared.
        title: What it is of.
    """
    names = sorted(found.configurations, key=lambda name: -max(one.harm for one in _of(found, [name])))
    drawn = [name for name in found.configurations if name in names[:CONFIGURATIONS]]
    left_out = len(names) - len(drawn)
    told = f", {len(drawn)} of {len(names)} configurations" if left_out else ""
    rows = {metric: _rows(found, metric, drawn) for metric in found.metrics}
    height = 0.9 + 0.115 * max(map(len, rows.values())) * max(3, len(drawn))
    figure, grid = panels(len(rows), title=f"{title} · slices before and after{told}", height=height)
    for axes, (metric, slices) in zip(grid, rows.items(), strict=True):
        _draw(axes, found, metric, slices, drawn)
        axes.set_title(rate_name(metric))
    grid[-1].set_xlabel("per cent of the slice's questions")
    legend_below(figure, grid[:1], columns=3)
    return figure


def _of(found: SliceComparison, names: Sequence[str]) -> list[SliceChange]:
    return [one for one in found.changes if one.configuration in names]


def _rows(found: SliceComparison, metric: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The slices of a panel from the top: all questions, then the hardest hit by any configuration."""
    own = [one for one in _of(found, names) if one.metric == metric]
    hardest = sorted(
        (one for one in own if one.column != ALL), key=lambda one: (one.worse, one.worse and one.hit_harder, one.harm)
    )
    ordered = dict.fromkeys((one.column, one.value) for one in reversed(hardest))
    whole = [(one.column, one.value) for one in own if one.column == ALL][:1]
    return [*whole, *list(ordered)[:SLICES]]


def _draw(
    axes: "Axes", found: SliceComparison, metric: str, rows: Sequence[tuple[str, str]], names: Sequence[str]
) -> None:
    known = {(one.configuration, one.column, one.value): one for one in found.changes if one.metric == metric}
    places = -np.arange(len(rows), dtype=float)
    before = [100 * known[(names[0], *row)].before for row in rows]
    axes.vlines(before, places - 0.4, places + 0.4, color=INK, linewidth=2.2, label=found.short[found.baseline])
    offsets = np.linspace(_SPREAD / 2, -_SPREAD / 2, len(names)) if len(names) > 1 else [0.0]
    for number, (name, offset) in enumerate(zip(names, offsets, strict=True)):
        own = [known[(name, *row)] for row in rows]
        axes.errorbar(
            [100 * one.after for one in own],
            places + offset,
            xerr=np.transpose([_reach(one) for one in own]),
            fmt=series_marker(number),
            color=series_style(number)["color"],
            elinewidth=1.2,
            markersize=5,
            label=found.short[name],
        )
        for one, place in zip(own, places + offset, strict=True):
            axes.plot([100 * one.before, 100 * one.after], [place, place], color=GREY, linewidth=0.8, zorder=1)
    labels = [
        wrapped(f"{slice_name(known[(names[0], *row)])} ({known[(names[0], *row)].n_questions})", 26) for row in rows
    ]
    axes.set_yticks(places, labels, fontsize=9.5)
    axes.set_ylim(places[-1] - 0.6, 0.6)
    axes.grid(visible=False, axis="y")
    low, high = axes.dataLim.x0, axes.dataLim.x1
    axes.set_xlim(max(-1.0, low - 2), min(101.0, high + 2))


def _reach(one: SliceChange) -> tuple[float, float]:
    """Bars of what the rate after may be, were the one before exact; shares end at 0 and 1."""
    low, high = max(0.0, one.before + one.change.low), min(1.0, one.before + one.change.high)
    return 100 * max(0.0, one.after - low), 100 * max(0.0, high - one.after)
