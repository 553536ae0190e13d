"""Figures of one run: how far confidence can be trusted, and what abstaining buys."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliabit.metrics import Certificate
from reliabit.metrics.functional import operating_point, reliability_diagram

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

COLOR = "#2b6cb0"
FAINT = "#a0aec0"
ALARM = "#e53e3e"
RIGHT = "#2f855a"


def reliability_figure(confidence: "FloatArray", accuracy: "FloatArray", *, title: str, n_bins: int = 15) -> "Figure":
    """Mean accuracy against mean confidence in bins of equal width, bins drawn as large as they are full.

    Args:
        confidence: `[questions]`, in [0, 1].
        accuracy: `[questions]`, in [0, 1].
        title: What is shown.
        n_bins: Number of bins.
    """
    figure, axes = _axes(title)
    bins = reliability_diagram(confidence, accuracy, n_bins)
    full = bins.size > 0
    at, mean = bins.confidence[full], bins.accuracy[full]
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="confidence = accuracy")
    axes.vlines(at, mean, at, color=ALARM, alpha=0.5, label="gap")
    axes.scatter(at, mean, s=15 + 400 * bins.size[full] / bins.size.sum(), color=COLOR, alpha=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="mean confidence", ylabel="mean accuracy")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def operating_points(
    confidence: "FloatArray", accuracy: "FloatArray", certificates: Sequence[Certificate]
) -> list[tuple[str, float, float]]:
    """Where certified thresholds lie on the curve of some data: label, coverage and realized risk.

    A certificate that abstains from everything has no point.
    """
    points = []
    for certificate in certificates:
        point = operating_point(confidence, accuracy, certificate.threshold)
        if point.coverage > 0:
            points.append((f"certified for {certificate.risk:g}", float(point.coverage), float(point.risk)))
    return points


def risk_coverage_figure(
    coverage: "FloatArray", risk: "FloatArray", *, points: Sequence[tuple[str, float, float]], title: str
) -> "Figure":
    """Selective risk against coverage, with certified thresholds where they fall on this data.

    Args:
        coverage: `[points]`, increasing.
        risk: `[points]`, the risk among the questions answered at each coverage.
        points: Label, coverage and risk of the certified thresholds.
        title: What is shown.
    """
    figure, axes = _axes(title)
    axes.plot(coverage, risk, color=COLOR)
    axes.fill_between(coverage, risk, color=COLOR, alpha=0.12)
    for number, (label, at, realized) in enumerate(points):
        axes.scatter([at], [realized], color=ALARM, marker="os^Dv"[number % 5], zorder=3, label=label)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage", ylabel="selective risk")
    if points:
        axes.legend(loc="upper left", fontsize=8)
    return figure


def confidence_histogram(confidence: "FloatArray", accuracy: "FloatArray", *, title: str) -> "Figure":
    """How confident right and wrong answers are; an answer of accuracy 0.3 counts as 0.3 right and 0.7 wrong."""
    figure, axes = _axes(title)
    axes.hist(
        [confidence, confidence],
        bins=20,
        range=(0, 1),
        weights=[accuracy, 1 - accuracy],
        color=[RIGHT, ALARM],
        label=["right", "wrong"],
        stacked=True,
    )
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="questions")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def effective_reliability_figure(
    costs: Sequence[float], phi: Sequence[float], *, always: Sequence[float], title: str
) -> "Figure":
    """Effective reliability against the cost of a wrong answer, with abstention and without.

    Args:
        costs: The costs.
        phi: Effective reliability at thresholds that another split chose.
        always: Effective reliability of answering everything.
        title: What is shown.
    """
    figure, axes = _axes(title)
    axes.plot(costs, phi, color=COLOR, marker="o", label="abstains below the threshold of its cost")
    axes.plot(costs, always, color=FAINT, marker=".", linestyle="--", label="answers everything")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set(xlabel="cost of a wrong answer", ylabel="effective reliability", ylim=(-1.02, 1.02))
    axes.set_xscale("symlog")
    axes.set_xticks(list(costs), [f"{cost:g}" for cost in costs])
    axes.minorticks_off()
    axes.legend(loc="lower left", fontsize=8)
    return figure


def _axes(title: str) -> "tuple[Figure, Axes]":
    # Not pyplot: it keeps every figure alive, and chooses a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    return figure, axes
