"""How far confidences can be trusted: the reliability diagram, and the risk of what each would answer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.evaluation.figure_style import (
    FAINT,
    GREY,
    legend_below,
    panels,
    series_marker,
    series_style,
    styled,
)
from reliabit.evaluation.prediction_columns import ScoredAnswers
from reliabit.metrics import Certificate
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.metrics.functional import operating_point, reliability_diagram, risk_coverage_curve
from reliabit.metrics.functional.inputs import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ZOOM = 2.0
"""The axis of risk ends at so many times the largest risk of interest."""

_BINS, _PER_BIN, _COUNTED = 12, 20, 20
"""Bins of equally many questions at most, questions in one at least, and bars of counts."""


@styled
def reliability_figure(answers: Mapping[str, ScoredAnswers], *, title: str, level: float = 0.95) -> "Figure":
    """Accuracy against confidence in bins of equally many questions, and below it how many questions are how sure.

    Args:
        answers: The same answers with each confidence, by its name; one that is no probability is left out.
        title: What is shown.
        level: Of the intervals, which are by image.
    """
    shown = {name: found for name, found in answers.items() if _probabilities(found.confidence)}
    figure, (axes, counts) = panels(2, title=title, height=3.0, ratios=(2.4, 1.0))
    start = 0.0
    for number, (name, found) in enumerate(shown.items()):
        _draw_bins(axes, found, number=number, label=name, level=level)
        counts.hist(found.confidence, bins=_COUNTED, range=(0, 1), histtype="step", linewidth=2, **series_style(number))
    if shown:
        start = np.floor(10 * min(axes.dataLim.y0, *(found.confidence.min() for found in shown.values()))) / 10
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as sure as right", zorder=1)
    margin = 0.03 * (1 - start)
    axes.set(xlim=(start - margin, 1 + margin), ylim=(start - margin, 1 + margin), ylabel="accuracy")
    counts.set(xlim=(start - margin, 1 + margin), xlabel="confidence", ylabel="questions")
    axes.legend(loc="best")
    return figure


def _draw_bins(axes: "Axes", found: ScoredAnswers, *, number: int, label: str, level: float) -> None:
    """Bins as points with their intervals; marks are whole where they lie on the edge of the panel."""
    bins = reliability_diagram(
        found.confidence,
        found.accuracy,
        int(np.clip(len(found.accuracy) // _PER_BIN, 1, _BINS)),
        binning="mass",
    )
    full = bins.size > 0
    ends = []
    for low, high in zip(bins.lower[full], bins.upper[full], strict=True):
        within = found.take(np.flatnonzero((found.confidence >= low) & (found.confidence <= high)))
        interval = cluster_mean(within.accuracy, within.images).interval(level=level)
        ends.append((interval.estimate - interval.low, interval.high - interval.estimate))
    style = series_style(number)
    axes.errorbar(
        bins.confidence[full],
        bins.accuracy[full],
        yerr=np.transpose(ends),
        fmt=series_marker(number),
        elinewidth=1.2,
        color=style["color"],
        label=label,
        clip_on=False,
    )


def _probabilities(confidence: FloatArray) -> bool:
    return bool(len(confidence)) and 0 <= confidence.min() <= confidence.max() <= 1


@styled
def risk_coverage_figure(
    answers: Mapping[str, ScoredAnswers],
    *,
    confidence: str,
    certificates: Sequence[Certificate] = (),
    risks: Sequence[float] = (),
    title: str,
) -> "Figure":
    """What the questions that a confidence answers risk, up to twice the largest risk of interest.

    Args:
        answers: The same answers with each confidence, by its name.
        confidence: The one that decides; the others are drawn faintly.
        certificates: Its certified thresholds, which are marked where they fall on these answers.
        risks: Risks of interest beside those that are certified.
        title: What is shown.
    """
    figure, (axes,) = panels(1, title=title, height=4.6)
    for name, found in answers.items():
        if name != confidence:
            _draw_curve(axes, found, label=name, color=GREY, linestyle="--", linewidth=1.4)
    own = answers[confidence]
    _draw_curve(axes, own, label=confidence, **series_style(0))
    for number, certificate in enumerate(certificates, start=1):
        color = series_style(number)["color"]
        axes.axhline(100 * certificate.risk, color=color, linestyle=":", linewidth=1.4)
        point = operating_point(own.confidence, own.accuracy, certificate.threshold)
        at, realized = (100 * point.coverage, 100 * point.risk) if point.coverage > 0 else (np.nan, np.nan)
        axes.plot(
            [at],
            [realized],
            color=color,
            marker=series_marker(number),
            markersize=9,
            linestyle="",
            label=_certified(certificate, at, realized),
            clip_on=False,
            zorder=3,
        )
    _zoom(axes, [own, *answers.values()], risks=[*risks, *(certificate.risk for certificate in certificates)])
    axes.legend(loc="upper left")
    return figure


def _certified(certificate: Certificate, coverage: float, risk: float) -> str:
    """What a certified threshold does on these answers, in words."""
    promised = f"at most {100 * certificate.risk:g} % wrong"
    if np.isnan(coverage):
        return f"{promised}: no threshold certified"
    return f"{promised}: answers {coverage:.0f} %, {risk:.2g} % wrong"


@styled
def overlay_figure(
    answers: Mapping[str, ScoredAnswers], *, title: str, risks: Sequence[float] = (), columns: int = 2
) -> "Figure":
    """Risk-coverage curves below each other's, up to twice the largest risk of interest where there is one.

    Args:
        answers: The answers by what tells them apart: a confidence, or a configuration.
        title: What is shown.
        risks: Risks of interest; dotted.
        columns: Of the legend.
    """
    figure, (axes,) = panels(1, title=title, height=4.2 + 0.2 * -(-len(answers) // columns))
    for number, (name, found) in enumerate(answers.items()):
        _draw_curve(axes, found, label=name, **series_style(number))
    for risk in risks:
        axes.axhline(100 * risk, color=FAINT, linestyle=":", linewidth=1.4)
    _zoom(axes, list(answers.values()), risks=risks)
    legend_below(figure, [axes], columns=columns)
    return figure


def _draw_curve(axes: "Axes", found: ScoredAnswers, **style: Any) -> None:
    curve = risk_coverage_curve(found.confidence, found.accuracy)
    axes.plot(100 * curve.coverage, 100 * curve.risk, **style)


def _zoom(axes: "Axes", every: Sequence[ScoredAnswers], *, risks: Sequence[float]) -> None:
    """Show no more risk than matters, nor more than there is."""
    highest = max(1.0 - float(found.accuracy.mean()) for found in every)
    top = min(ZOOM * max(risks), 1.25 * highest) if risks and highest else 1.25 * highest
    axes.set(xlim=(0, 101), ylim=(0, 100 * max(top, 0.01)), xlabel="coverage: questions answered, %")
    axes.set_ylabel("risk: wrong among these, %")
