"""How every figure looks: one column that a telephone shows, large type, colors that all eyes tell apart.

A figure is as wide as `WIDTH`; on a screen of 390 pixels its smallest letters are then 9 pixels high.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from reliabit.files import inside, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")

WIDTH, DPI = 6.0, 160
"""Inches, and dots an inch."""

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
"""The palette of Okabe and Ito (2008), which people with any color vision tell apart."""
INK, GREY, FAINT = "#222222", "#767676", "#c8c8c8"

_SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK)
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"

STYLE: Mapping[str, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.size": 11.5,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 10.5,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "white",
    "legend.handlelength": 2.4,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
}


def styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Draw in this style, whatever the process or somebody's `matplotlibrc` says."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawn:
        from matplotlib import style

        with style.context(["default", dict(STYLE)]):
            return draw(*args, **kwargs)

    return drawn


def panels(
    count: int, *, title: str, height: float = 3.4, columns: int = 1, ratios: Sequence[float] | None = None
) -> "tuple[Figure, list[Axes]]":
    """Panels of one size below each other, below a title.

    Args:
        count: How many.
        title: What the figure shows; broken into lines where it is long.
        height: Of a panel, in inches.
        columns: How many stand side by side.
        ratios: Of the heights of rows, where they differ.
    """
    # Not pyplot: it keeps every figure alive, and chooses a backend for the whole process.
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    heading = wrapped(title, 48)
    figure = Figure(figsize=(WIDTH, 0.45 + 0.2 * heading.count("\n") + height * rows), layout="constrained")
    figure.suptitle(heading, x=0.02, ha="left")
    grid = [
        axes for row in figure.subplots(rows, columns, squeeze=False, height_ratios=ratios).tolist() for axes in row
    ]
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def wrapped(text: str, width: int) -> str:
    r"""A text in lines, which break at spaces and before the dots of a run's name.

    >>> wrapped("qwen2_vl_tiny·hqq·4b·s0 · easy_vqa", 20)
    'qwen2_vl_tiny·hqq·4b\n·s0 · easy_vqa'
    """
    lines = [""]
    for word in re.split(r"(?<=\s)|(?<=\S)(?=·)", text):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.strip() for line in lines)


def series_style(number: int) -> dict[str, Any]:
    """Color and line of a curve among several: no two of the first 28 share both.

    >>> series_style(0), series_style(7)
    ({'color': '#0072B2', 'linestyle': '-'}, {'color': '#0072B2', 'linestyle': '--'})
    """
    return {
        "color": _SERIES[number % len(_SERIES)],
        "linestyle": _DASHES[number // len(_SERIES) % len(_DASHES)],
    }


def series_marker(number: int) -> str:
    """The mark of a point among several."""
    return _MARKERS[number % len(_MARKERS)]


def legend_below(figure: "Figure", sources: "Iterable[Axes]", *, columns: int = 2) -> None:
    """One legend below all panels, each entry once."""
    entries: dict[str, Any] = {}
    for axes in sources:
        handles, labels = axes.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


@styled
def write_figures(drawn: "Mapping[str, Figure]", folder: Path) -> list[Path]:
    """Write figures under their names, each whole or not at all."""
    for name, figure in drawn.items():
        with replacing(inside(folder, name)) as unfinished:
            # Without the version of what drew it, a figure depends on what it shows alone.
            figure.savefig(unfinished, format="png", dpi=DPI, metadata={"Software": None})
    return [folder / name for name in drawn]
