"""Reliability metrics as pure functions of confidences and accuracies.

Arguments are one-dimensional tensors, arrays or lists; one that is unusable raises a `ReliabitError` that names it.
Higher confidence is surer; accuracies lie in [0, 1]; results are fractions, not percent, computed in float64; a
threshold accepts confidence >= threshold, and an impossible one is inf. `paper_compat=True` reproduces what the
published evaluators do, faults included, and is meant for comparing with published tables only.
"""

from reliabit.metrics.functional.answers import (
    Variant,
    accuracy_from_matches,
    comparable_answer,
    normalize_answer,
    vqa_accuracy,
)
from reliabit.metrics.functional.area import (
    augrc,
    augrc_parts,
    aurc,
    aurc_boundary,
    aurc_mean,
    e_aurc,
    prediction_rejection_ratio,
)
from reliabit.metrics.functional.calibration import (
    BrierDecomposition,
    ReliabilityDiagram,
    brier_decomposition,
    brier_score,
    calibration_error,
    confidently_wrong,
    negative_log_likelihood,
    reliability_diagram,
)
from reliabit.metrics.functional.discrimination import aupr_error, auroc, tie_share
from reliabit.metrics.functional.effective_reliability import effective_reliability, effective_reliability_threshold
from reliabit.metrics.functional.risk_coverage import (
    OperatingPoint,
    RiskCoverageCurve,
    coverage_at_risk,
    operating_point,
    risk_at_coverage,
    risk_coverage_curve,
)

__all__ = [
    "BrierDecomposition",
    "OperatingPoint",
    "ReliabilityDiagram",
    "RiskCoverageCurve",
    "Variant",
    "accuracy_from_matches",
    "augrc",
    "augrc_parts",
    "aupr_error",
    "aurc",
    "aurc_boundary",
    "aurc_mean",
    "auroc",
    "brier_decomposition",
    "brier_score",
    "calibration_error",
    "comparable_answer",
    "confidently_wrong",
    "coverage_at_risk",
    "e_aurc",
    "effective_reliability",
    "effective_reliability_threshold",
    "negative_log_likelihood",
    "normalize_answer",
    "operating_point",
    "prediction_rejection_ratio",
    "reliability_diagram",
    "risk_at_coverage",
    "risk_coverage_curve",
    "tie_share",
    "vqa_accuracy",
]
