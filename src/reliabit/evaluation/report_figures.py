"""The figures of a report, drawn of its numbers and of the predictions that they were measured on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.evaluation import figures
from reliabit.evaluation.confidence_figures import mixture_figure, overlay_figure, severity_figure
from reliabit.evaluation.confidences import ConfidenceReport
from reliabit.evaluation.report import Report
from reliabit.evaluation.roles import MAXPROB, THRESHOLDS, Judged, confidences_of, judged, reported_rows, rows_of
from reliabit.files import replacing
from reliabit.metrics import Certificate
from reliabit.metrics.functional import effective_reliability, effective_reliability_threshold, risk_coverage_curve

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

COST_CURVE = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def report_figures(predictions: "pa.Table", report: Report, *, split: str, title: str) -> "dict[str, Figure]":
    """Draw a report.

    Args:
        predictions: What was measured.
        report: Its report.
        split: The split that it reports.
        title: What the figures show.

    Returns:
        Figures by file name.
    """
    test = judged(reported_rows(predictions, split), MAXPROB)
    return {
        **_maxprob_figures(predictions, test, certificates=report.certificates[MAXPROB], title=title),
        **_confidence_figures(predictions, report.confidences, split=split, title=title),
    }


def write_figures(drawn: "dict[str, Figure]", folder: Path) -> list[Path]:
    """Write figures under their names, each whole or not at all."""
    for name, figure in drawn.items():
        with replacing(folder / name) as unfinished:
            figure.savefig(unfinished, format="png", dpi=120)
    return [folder / name for name in drawn]


def _maxprob_figures(
    predictions: "pa.Table", test: Judged, *, certificates: Sequence[Certificate], title: str
) -> "dict[str, Figure]":
    curve = risk_coverage_curve(test.confidence, test.accuracy)
    points = figures.operating_points(test.confidence, test.accuracy, certificates)
    drawn = {
        "reliability_diagram.png": figures.reliability_figure(test.confidence, test.accuracy, title=title),
        "risk_coverage.png": figures.risk_coverage_figure(curve.coverage, curve.risk, points=points, title=title),
        "confidence_histogram.png": figures.confidence_histogram(test.confidence, test.accuracy, title=title),
    }
    rows = rows_of(predictions, THRESHOLDS)
    if rows.num_rows:
        val = judged(rows, MAXPROB)
        chosen = [effective_reliability_threshold(val.confidence, val.accuracy, cost) for cost in COST_CURVE]
        phi = [
            effective_reliability(test.confidence, test.accuracy, cost, threshold)
            for cost, threshold in zip(COST_CURVE, chosen, strict=True)
        ]
        always = [effective_reliability(test.confidence, test.accuracy, cost, float("-inf")) for cost in COST_CURVE]
        drawn["effective_reliability.png"] = figures.effective_reliability_figure(
            COST_CURVE, phi, always=always, title=title
        )
    return drawn


def _confidence_figures(
    predictions: "pa.Table", confidences: ConfidenceReport, *, split: str, title: str
) -> "dict[str, Figure]":
    drawn = {
        "shifts.png": severity_figure(confidences, title=title),
        "mixtures.png": mixture_figure(confidences, title=title),
    }
    names = confidences_of(predictions)
    if len(names) > 1:
        rows = reported_rows(predictions, split)
        drawn["confidences.png"] = overlay_figure({name: judged(rows, name) for name in names}, title=title)
    return {name: figure for name, figure in drawn.items() if figure is not None}
