"""Figures of a sweep: what each width costs, and how configurations fare the more questions are shifted."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from reliabit.evaluation.cells import SELECTOR, Cell
from reliabit.evaluation.figure_style import GREY, legend_below, panels, series_style, styled
from reliabit.evaluation.figures import draw_with_interval
from reliabit.evaluation.paper._claims import DATA_AWARE, DATA_FREE
from reliabit.evaluation.paper._measurement import PaperRow, PaperRows, mixture_of
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at
from reliabit.metrics.metric import Metric
from reliabit.quant.settings import UNQUANTIZED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OF_WIDTHS = (ACCURACY, coverage_at(0.01), AURC)
_OF_MIXTURES = (coverage_at(0.01), AURC)
_LINES = {MAXPROB: "--", SELECTOR: "-"}
"""The confidences that are drawn; tables have the others."""

_HEIGHT = 3.0
"""Inches of a panel."""

_SHOWN_BITS = (4, 2)
"""The widths that figures of mixtures show beside the unquantized model."""

_SHOWN_QUANTIZERS = (DATA_FREE, DATA_AWARE)
"""The quantizers that they show where there are more, which would take more colors than can be told apart."""


def paper_figures(rows: PaperRows) -> "dict[str, Figure]":
    """All figures by file name.

    Args:
        rows: What was measured.
    """
    drawn = {"widths.png": widths_figure(rows)}
    drawn |= {f"mixtures.{model.replace('/', '_')}.png": mixtures_figure(rows, model) for model in rows.models}
    return {name: figure for name, figure in drawn.items() if figure is not None}


@styled
def widths_figure(rows: PaperRows) -> "Figure | None":
    """Accuracy, C@1% and AURC against bits, a panel each for every model.

    A line a quantizer and confidence, and the unquantized model as a horizontal band. Accuracy is drawn once a
    quantizer, as it does not depend on the confidence. `None` where nothing was quantized.
    """
    models = {model: _drawn(rows.of(model)) for model in rows.models}
    quantizers = sorted({row.cell.quantizer for found in models.values() for row in found} - {UNQUANTIZED})
    if not quantizers:
        return None
    colors = {UNQUANTIZED: GREY} | {name: _color(number) for number, name in enumerate(quantizers)}
    shown = [(model, found, metric) for model, found in models.items() for metric in _OF_WIDTHS]
    figure, grid = panels(len(shown), title="Widths, questions as they are", height=_HEIGHT)
    for axes, (model, found, metric) in zip(grid, shown, strict=True):
        _draw_widths(axes, found, metric=metric, colors=colors)
        axes.set(title=model, xlabel="bits", ylabel=metric.axis)
    # Accuracy has one line a quantizer; the last panel has all.
    legend_below(figure, grid[-1:])
    return figure


@styled
def mixtures_figure(rows: PaperRows, model: str) -> "Figure | None":
    """C@1% and AURC of a model against the share of shifted questions, a panel each for every mixture.

    A line for the unquantized model and each quantizer at 4 and 2 bits, with MaxProb and the Selector; of more than two
    quantizers those that the paper compares. `None` without mixtures.
    """
    sets = rows.sets(model, kind="mixture")
    mixtures = list(dict.fromkeys(mixture_of(name) for name in sets))
    if not mixtures:
        return None
    quantizers = {row.cell.quantizer for row in rows.of(model)} - {UNQUANTIZED}
    shown = [(mixture, metric) for mixture in mixtures for metric in _OF_MIXTURES]
    figure, grid = panels(len(shown), title=f"{model}: shifted questions", height=_HEIGHT)
    for axes, (mixture, metric) in zip(grid, shown, strict=True):
        found = [_drawn(rows.of(model, set_name=name)) for name in sets if mixture_of(name) == mixture]
        # Rows of all sets come in the same order of cells and confidences.
        series = [same for same in zip(*found, strict=True) if _is_shown(same[0].cell, quantizers)]
        names = list(dict.fromkeys(same[0].cell.quantization for same in series))
        for same in series:
            at = [100 * row.measured.shifted_share for row in same]
            _line(axes, at, same, metric=metric, color=_color(names.index(same[0].cell.quantization)))
        axes.set(title=mixture, xlabel="shifted questions, %", ylabel=metric.axis, ylim=(0, None))
    legend_below(figure, grid)
    return figure


def _is_shown(cell: Cell, quantizers: Collection[str]) -> bool:
    if cell.unquantized:
        return True
    few = len(quantizers) <= len(_SHOWN_QUANTIZERS)
    return cell.bits in _SHOWN_BITS and (few or cell.quantizer in _SHOWN_QUANTIZERS)


def _draw_widths(axes: "Axes", found: Sequence[PaperRow], *, metric: Metric, colors: Mapping[str, str]) -> None:
    widths = sorted({row.cell.bits for row in found if not row.cell.unquantized})
    for quantizer, color in colors.items():
        for confidence in (MAXPROB,) if metric is ACCURACY else _LINES:
            line = [row for row in found if (row.cell.quantizer, row.measured.confidence) == (quantizer, confidence)]
            if line and quantizer == UNQUANTIZED:
                _band(axes, line[0], metric=metric, color=color)
            elif line:
                _line(axes, [row.cell.bits for row in line], line, metric=metric, color=color, label=quantizer)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(bits) for bits in widths])
    axes.minorticks_off()


def _line(
    axes: "Axes", at: Sequence[float], line: Sequence[PaperRow], *, metric: Metric, color: str, label: str = ""
) -> None:
    cell, confidence = line[0].cell, line[0].measured.confidence
    values = [row.measured.values[metric.name] for row in line]
    label = f"{label or cell.quantization}, {confidence}"
    draw_with_interval(
        axes, at, values, metric=metric, alpha=0.12, color=color, linestyle=_LINES[confidence], label=label
    )


def _band(axes: "Axes", row: PaperRow, *, metric: Metric, color: str) -> None:
    value, confidence = row.measured.values[metric.name], row.measured.confidence
    axes.axhspan(100 * value.low, 100 * value.high, alpha=0.12, color=color, linewidth=0)
    axes.axhline(100 * value.estimate, color=color, linestyle=_LINES[confidence], label=f"{UNQUANTIZED}, {confidence}")


def _drawn(rows: Sequence[PaperRow]) -> list[PaperRow]:
    return [row for row in rows if row.measured.confidence in _LINES]


def _color(number: int) -> str:
    """Whether a line is solid says whose confidence it is, so that a configuration has its color alone."""
    return str(series_style(number)["color"])
