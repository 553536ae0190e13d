"""Reliability metrics: pure functions in `reliabit.metrics.functional`, torchmetrics classes and statistics here.

The torchmetrics classes are loaded when first used, so that all else needs no torch.
"""

from typing import TYPE_CHECKING

from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap
from reliabit.metrics.certify import Certificate, certify_threshold, one_per_image
from reliabit.metrics.intervals import Difference, Interval
from reliabit.metrics.metric import Metric, higher_is_better
from reliabit.metrics.slices import SliceGap, SliceReport, SliceValue, slice_report
from reliabit.metrics.suite import Predictions, Suite, evaluate, full_suite

if TYPE_CHECKING:
    from reliabit.metrics.ranked import (
        AUGRC,
        AURC,
        AUROC,
        EAURC,
        AdaptiveCalibrationError,
        CoverageAtRisk,
        PredictionRejectionRatio,
        ReliabilitySuite,
        RiskAtCoverage,
    )
    from reliabit.metrics.running import (
        BrierScore,
        CalibrationError,
        EffectiveReliability,
        MeanAccuracy,
        NegativeLogLikelihood,
        VQAAccuracy,
    )

__all__ = [
    "AUGRC",
    "AURC",
    "AUROC",
    "EAURC",
    "AdaptiveCalibrationError",
    "Bootstrap",
    "BrierScore",
    "CalibrationError",
    "Certificate",
    "CoverageAtRisk",
    "Difference",
    "EffectiveReliability",
    "Interval",
    "MeanAccuracy",
    "Metric",
    "NegativeLogLikelihood",
    "PredictionRejectionRatio",
    "Predictions",
    "ReliabilitySuite",
    "RiskAtCoverage",
    "SliceGap",
    "SliceReport",
    "SliceValue",
    "Suite",
    "VQAAccuracy",
    "certify_threshold",
    "cluster_bootstrap",
    "evaluate",
    "full_suite",
    "higher_is_better",
    "one_per_image",
    "slice_report",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reliabit.metrics import ranked, running

    return getattr(ranked if hasattr(ranked, name) else running, name)
