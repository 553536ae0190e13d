"""A sweep at a glance: what each configuration costs and how far it can be trusted."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reliabit.tracking.summary import labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

SIZE = "efficiency/stored_bytes"
AXES = (("accuracy/mean", "accuracy, %", True), ("selective/aurc", "AURC, %", False))
MIB = 2**20


def pareto_front(points: Mapping[str, tuple[float, float]], *, larger_is_better: bool) -> list[str]:
    """The configurations that no other beats in both size and quality, smallest first.

    Args:
        points: Size (smaller is better) and quality by configuration.
        larger_is_better: Whether a larger quality is better.

    >>> pareto_front({"a": (1, 0.8), "b": (2, 0.9), "c": (3, 0.85), "d": (1, 0.7)}, larger_is_better=True)
    ['a', 'b']
    """
    sign = 1 if larger_is_better else -1
    front: list[str] = []
    best = float("-inf")
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -sign * item[1][1])):
        if sign * quality > best:
            best = sign * quality
            front.append(name)
    return front


def pareto_figure(runs: "Sequence[Run]") -> "Figure | None":
    """Accuracy and AURC against the size of the model, a row of panels a model; `None` without finished runs."""
    from matplotlib.figure import Figure

    names = labels(runs)
    families: dict[str, list[Run]] = {}
    for run in runs:
        if SIZE in run.data.metrics:
            families.setdefault(f"{run.data.tags.get('model')} · {run.data.tags.get('data')}", []).append(run)
    if not families:
        return None
    figure = Figure(figsize=(11, 0.6 + 3.6 * len(families)), layout="constrained")
    grid = figure.subplots(len(families), len(AXES), squeeze=False)
    for row, (family, members) in zip(grid, families.items(), strict=True):
        for axes, (metric, label, larger) in zip(row, AXES, strict=True):
            points = {
                names[run.info.run_id]: (run.data.metrics[SIZE] / MIB, 100 * run.data.metrics[metric])
                for run in members
                if metric in run.data.metrics
            }
            front = pareto_front(points, larger_is_better=larger)
            axes.plot(*zip(*(points[name] for name in front), strict=True), color="#a0aec0", linewidth=1, zorder=0)
            for name, (size, quality) in points.items():
                axes.scatter([size], [quality], color="#2b6cb0" if name in front else "#a0aec0", s=22)
                axes.annotate(_short(name), (size, quality), fontsize=6, xytext=(3, 3), textcoords="offset points")
            axes.margins(x=0.15)
            axes.set(title=family, xlabel="stored MiB", ylabel=label)
    return figure


def _short(name: str) -> str:
    """A run's name without the model, which the panel names, and the seed.

    >>> _short("qwen2_vl_tiny·hqq·4b·s0")
    'hqq·4b'
    """
    parts = name.split("·")
    return "·".join(part for part in parts[1:] if not part.startswith("s0")) or name
