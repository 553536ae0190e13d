"""Bits by layer and component: what a plan gives to each part of a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reliabit.evaluation.figure_style import BLUE, FAINT, panels, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAN_FIGURE = "plan.png"
"""What the file is called."""

_AS_IT_IS = "as is"


@styled
def plan_figure(widths: Mapping[tuple[str, int | None], int | None], *, offered: Sequence[int], title: str) -> "Figure":
    """Draw the width of each part: a panel for each component that has layers, one for all others.

    Args:
        widths: Bits by component and layer; the layer is None for components that have one width, and the bits are for
            what stays as it is.
        offered: The widths that there were to choose among.
        title: What is shown.

    Example:
        >>> figure = plan_figure({("language_mlp", 0): 3, ("lm_head", None): None}, offered=[2, 3], title="a plan")
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['language mlp', 'other parts']
    """
    layered = list(dict.fromkeys(component for component, layer in widths if layer is not None))
    others = [component for component, layer in widths if layer is None]
    figure, axes = panels(len(layered) + bool(others), title=title, height=2.1)
    labels = [*map(str, sorted(offered)), _AS_IT_IS]
    for panel, component in zip(axes, layered, strict=False):
        found = {layer: bits for (name, layer), bits in widths.items() if name == component and layer is not None}
        _bars(panel, list(found), [_label(bits) for bits in found.values()], labels=labels)
        panel.set(title=_words(component), xlabel="decoder layer")
        panel.locator_params(axis="x", integer=True)
    if others:
        _bars(axes[-1], range(len(others)), [_label(widths[one, None]) for one in others], labels=labels)
        axes[-1].set_xticks(range(len(others)), [_words(one) for one in others])
        axes[-1].set(title="other parts")
    return figure


def _bars(axes: "Axes", places: Sequence[int], found: Sequence[str], *, labels: Sequence[str]) -> None:
    """Bars as high as the place of a width among those offered: 8 bits are one step above 4."""
    heights = [1 + labels.index(one) for one in found]
    colors = [FAINT if one == _AS_IT_IS else BLUE for one in found]
    axes.bar(places, heights, color=colors, width=0.8)
    axes.set_yticks(range(1, len(labels) + 1), labels)
    axes.set(ylabel="bits", ylim=(0, len(labels) + 0.3))
    axes.grid(visible=False, axis="x")


def _label(bits: int | None) -> str:
    return _AS_IT_IS if bits is None else str(bits)


def _words(component: str) -> str:
    return component.replace("_", " ")
