"""The curve of the training that joined the pretrained parts: its loss, and what is right of each kind of question.

    python bench/training_curve.py models/idefics3_smollm2_parts/training.json docs/pretrained_curve.png

Both are in the record that the training writes beside what it learned.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.evaluation.figure_style import legend_below, panels, series_style, styled, write_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT = "right/"


def series(curve: Sequence[dict[str, float]], source: str) -> dict[str, list[tuple[float, float]]]:
    """The share that is right of each kind of question of a source, by step.

    >>> series([{"step": 5, "right/a": 0.4, "right/a.x": 0.5, "right/b.y": 1.0}], "a")
    {'all': [(5, 0.4)], 'x': [(5, 0.5)]}
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in curve:
        for name, value in row.items():
            of, _, kind = name.removeprefix(RIGHT).partition(".")
            if name.startswith(RIGHT) and of == source:
                found.setdefault(kind or "all", []).append((row["step"], value))
    return found


@styled
def curve_figure(record: dict[str, Any]) -> "Figure":
    """Draw the loss, and below it a panel for each source."""
    curve, sources = record["curve"], list(record["trained_on"])
    figure, axes = panels(1 + len(sources), title="Joining the pretrained parts", height=2.6)
    losses = [(row["step"], row["loss"]) for row in curve if "loss" in row]
    axes[0].plot(*zip(*losses, strict=True), **series_style(0))
    axes[0].set(ylabel="loss", ylim=(0, None), title="Cross-entropy of answer tokens, mean of an epoch")
    for place, source in zip(axes[1:], sources, strict=True):
        for number, (kind, points) in enumerate(sorted(series(curve, source).items())):
            place.plot(*zip(*points, strict=True), label=f"{source}: {kind}", **series_style(number))
        place.set(ylabel="right", ylim=(0, 1.02), title=f"Questions of val that are right, {source}")
    axes[-1].set_xlabel("step")
    legend_below(figure, axes[1:])
    return figure


def main() -> None:
    """Read the record of a training and draw its curve."""
    training, target = (Path(argument) for argument in sys.argv[1:])
    write_figures({target.name: curve_figure(json.loads(training.read_text()))}, target.parent)


if __name__ == "__main__":
    main()
