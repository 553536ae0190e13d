"""What the page draws of one configuration and one confidence: its curves, and what each risk target comes to."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.prediction_columns import ScoredAnswers, reported_rows, scored_answers
from reliabit.evaluation.sets import evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.metrics.functional import (
    aurc,
    coverage_at_risk,
    operating_point,
    reliability_diagram,
    risk_coverage_curve,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from reliabit.metrics.functional.inputs import FloatArray

Json: TypeAlias = dict[str, Any]

RISKS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
"""The risk targets of the page, with those that the policy certifies."""

POINTS = 90
"""Points of a risk-coverage curve that are drawn."""

BINS, PER_BIN = 10, 20
"""Bins of equally many questions at most, and questions in one at least."""


def risk_coverage(answers: ScoredAnswers) -> list[list[float]]:
    """Coverage and risk, both in per cent, at equal steps of coverage; the first is that of the surest answer.

    >>> risk_coverage(ScoredAnswers(np.array([0.9, 0.5]), np.array([1.0, 0.0]), ["a", "b"]))
    [[50.0, 0.0], [100.0, 50.0]]
    """
    curve = risk_coverage_curve(answers.confidence, answers.accuracy)
    shown = np.unique(np.linspace(0, len(curve.coverage) - 1, POINTS).round().astype(np.int64))
    return [
        [round(100 * float(coverage), 2), round(100 * float(risk), 2)]
        for coverage, risk in zip(curve.coverage[shown], curve.risk[shown], strict=True)
    ]


def reliability_bins(answers: ScoredAnswers, *, level: float) -> list[list[float]]:
    """Bins of equally many questions: confidence, accuracy, the ends of its interval (per cent) and how many they are.

    Args:
        answers: The answers; there are no bins of a confidence that is no probability.
        level: Of the intervals, which are by image.

    >>> reliability_bins(ScoredAnswers(np.full(40, 2.0), np.ones(40), ["a"] * 40), level=0.95)
    []
    """
    confidence = answers.confidence
    if not 0 <= confidence.min() <= confidence.max() <= 1:
        return []
    count = int(np.clip(len(confidence) // PER_BIN, 1, BINS))
    bins = reliability_diagram(confidence, answers.accuracy, count, binning="mass")
    found = []
    for number in np.flatnonzero(bins.size > 0):
        within = answers.take(np.flatnonzero((confidence >= bins.lower[number]) & (confidence <= bins.upper[number])))
        interval = cluster_mean(within.accuracy, within.images).interval(level=level)
        shares = (bins.confidence[number], interval.estimate, interval.low, interval.high)
        found.append([*(round(100 * float(share), 2) for share in shares), int(bins.size[number])])
    return found


def risk_targets(policy: ParetoSettings) -> list[float]:
    """The risks that a reader may ask for, ascending, those that the policy certifies among them."""
    return sorted({*RISKS, *policy.certified_risks, policy.required_risk})


def operating_points(
    predictions: "pa.Table", confidence: str, *, policy: ParetoSettings, comparisons: int
) -> list[Json]:
    """What each risk target comes to on the reported answers, one entry a target of `risk_targets`.

    Args:
        predictions: The predictions of one configuration.
        confidence: What abstains.
        policy: The level of the certificates, and the split that reports.
        comparisons: Among how many configurations a reader chooses.

    Returns:
        Of each the `threshold` (None where nothing is answered), whether it is `certified` or else was read off the
        reported answers themselves; `promised`, the share of the calibration answers that it accepts; and on the
        reported answers `coverage` and `risk`, all in per cent (None where there is none).
    """
    answers = scored_answers(reported_rows(predictions, policy.reported), confidence)
    targets = risk_targets(policy)
    certificates = certificates_of(
        predictions,
        confidence=confidence,
        risks=targets,
        delta=policy.delta,
        seed=policy.seed,
        comparisons=comparisons,
    )
    # Without a calibration split there is only what these very answers show.
    thresholds = [found.threshold for found in certificates] or [
        coverage_at_risk(answers.confidence, answers.accuracy, risk)[1] for risk in targets
    ]
    promised: list[float | None] = [round(100 * found.coverage, 2) for found in certificates]
    points = []
    for threshold, share in zip(thresholds, promised or [None] * len(targets), strict=True):
        point = operating_point(answers.confidence, answers.accuracy, threshold)
        answered = point.coverage > 0
        points.append(
            {
                "threshold": float(f"{threshold:.7g}") if math.isfinite(threshold) else None,
                "certified": bool(certificates),
                "promised": share,
                "coverage": round(100 * point.coverage, 2),
                "risk": round(100 * point.risk, 2) if answered else None,
            }
        )
    return points


def shifted_sets(predictions: "pa.Table", confidences: Sequence[str], *, settings: EvaluationConfig) -> list[Json]:
    """Accuracy and AURC, in per cent, of the questions as they are, of each shift and of the mixtures.

    Args:
        predictions: The predictions of one configuration.
        confidences: Those whose AURC is shown.
        settings: The split that reports, and the mixtures.

    Returns:
        One entry a set; empty where nothing was asked but the questions as they are.
    """
    import pyarrow.compute as pc

    rows = predictions.filter(pc.equal(predictions["split"], settings.reported))
    sets = evaluation_sets(rows, settings)
    if len(sets) < 2:
        return []
    accuracy = rows["accuracy"].to_numpy()
    columns: dict[str, FloatArray] = {name: scored_answers(rows, name).confidence for name in confidences}
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "share": round(100 * one.shifted_share),
            "n": len(one.rows),
            "accuracy": round(100 * float(accuracy[one.rows].mean()), 2),
            "aurc": {
                name: round(100 * float(aurc(column[one.rows], accuracy[one.rows])), 2)
                for name, column in columns.items()
            },
        }
        for one in sets
    ]
