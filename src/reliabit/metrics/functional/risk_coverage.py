"""The risk-coverage curve and what is read off it: coverage at a risk, risk at a coverage, an operating point."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from reliabit.metrics.functional.inputs import (
    BoolArray,
    FloatArray,
    IntArray,
    VectorLike,
    as_decimal,
    as_pair,
    as_risk,
    as_scalar,
)
from reliabit.metrics.functional.ranking import TieGroups, rank, ratio, take_last

# Only for losses that no unit makes whole; whole ones are compared exactly.
RELATIVE_TOLERANCE = 1e-12
INT64_ROOM = 2**62


class RiskCoverageCurve(NamedTuple):
    """One point a prediction, from the surest on; all of shape `(N,)`.

    Attributes:
        coverage: k/N.
        risk: Selective risk of the k surest.
        threshold: Confidence of the k-th.
    """

    coverage: FloatArray
    risk: FloatArray
    threshold: FloatArray


class OperatingPoint(NamedTuple):
    """What happens when every confidence from a threshold on is accepted.

    Attributes:
        coverage: Share that is accepted.
        risk: Mean of 1 - accuracy over the accepted, NaN when there are none.
        accuracy: 1 - risk.
        threshold: The threshold.
    """

    coverage: float
    risk: float
    accuracy: float
    threshold: float


def risk_coverage_curve(
    confidence: VectorLike, accuracy: VectorLike, *, paper_compat: bool = False
) -> RiskCoverageCurve:
    """Selective risk R_k = (1/k) sum of the k largest-confidence losses, k = 1..N (El-Yaniv and Wiener 2010).

    Inside a group of m equal confidences after n0 surer ones, the loss grows linearly: S_{n0+j} = S_{n0} + s j/m. That
    is its exact mean over random orders of the group, and does not depend on the order of the input.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        paper_compat: Order equal confidences by accuracy, best first, as the published evaluators happen to do.

    Returns:
        The curve.

    >>> risk_coverage_curve([0.9, 0.5, 0.5], [1, 1, 0]).risk.round(4).tolist()
    [0.0, 0.25, 0.3333]
    """
    groups = rank(confidence, accuracy, split_ties=paper_compat).groups()
    k = np.arange(1, groups.ranking.n_items + 1)
    within = k - np.repeat(groups.ranking.starts, groups.size)
    before = np.repeat(groups.accepted_loss - groups.loss, groups.size)
    loss = before + np.repeat(groups.loss / groups.size, groups.size) * within
    return RiskCoverageCurve(k / len(k), loss / (groups.unit * k), np.repeat(groups.confidence, groups.size))


def coverage_at_risk(
    confidence: VectorLike,
    accuracy: VectorLike,
    risk: float | Fraction,
    *,
    strict: bool = False,
    paper_compat: bool = False,
) -> tuple[float, float]:
    """C@R, the largest coverage whose selective risk does not exceed a tolerance (Whitehead et al. 2022).

    C@R(rho) = max {k/N : R_k <= rho, and the k-th and k+1-th confidences differ or k = N}. Risks are compared exactly
    wherever accuracies are VQA accuracies, and the tolerance is read as the decimal that was written; otherwise to
    a relative 1e-12. The threshold is chosen with the labels of the very data it is measured on, so C@R describes a
    curve and is no operating point; see `reliabit.metrics.certify_threshold` for one.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        risk: The tolerance rho in [0, 1].
        strict: Ask for R_k < rho, as the published training-time scorers do; their evaluators ask for <=.
        paper_compat: Compare floating-point running means, and return the threshold 0.0 where none qualifies, as the
            published evaluators do.

    Returns:
        Coverage in [0, 1], and the threshold from which to accept; 0 and inf where no threshold qualifies.

    >>> coverage_at_risk([0.9, 0.7, 0.7, 0.5], [1, 1, 0, 1], 0.3)
    (1.0, 0.5)
    >>> coverage_at_risk([0.9, 0.7, 0.7, 0.5], [1, 1, 0, 1], 0.1)
    (0.25, 0.9)
    """
    if paper_compat:
        return _published_coverage_at_risk(confidence, accuracy, as_risk(risk), strict=strict)
    groups = rank(confidence, accuracy).groups()
    last = last_within_risk(groups, as_risk(risk), strict=strict)
    return float(covered(groups, last)), float(take_last(groups.confidence, last, empty=np.inf))


def last_within_risk(groups: TieGroups, risk: Fraction, *, strict: bool = False) -> IntArray:
    """Index of the last group at which a threshold keeps the risk, -1 where none does; shape `()` or `(B,)`."""
    within = _within_risk(groups, risk, np.less if strict else np.less_equal)
    last = within.shape[-1] - 1 - np.argmax(within[..., ::-1], axis=-1)
    return np.where(within.any(axis=-1), last, -1)


def _within_risk(groups: TieGroups, risk: Fraction, below: np.ufunc) -> BoolArray:
    largest = groups.unit * int(np.max(groups.total))
    if groups.loss.dtype == np.int64 and largest * max(risk.denominator, risk.numerator) < INT64_ROOM:
        whole = below(groups.accepted_loss * risk.denominator, groups.accepted * (groups.unit * risk.numerator))
        return np.asarray(whole, dtype=np.bool_)
    slack = -RELATIVE_TOLERANCE if below is np.less else RELATIVE_TOLERANCE
    near = below(groups.accepted_loss, groups.accepted * (groups.unit * float(risk) * (1 + slack)))
    return np.asarray(near, dtype=np.bool_)


def covered(groups: TieGroups, last: IntArray) -> FloatArray:
    """Coverage of the thresholds at the given groups."""
    return ratio(take_last(groups.accepted, last), groups.total)


def _published_coverage_at_risk(
    confidence: VectorLike, accuracy: VectorLike, risk: Fraction, *, strict: bool
) -> tuple[float, float]:
    ranked, scored = as_pair(confidence, accuracy)
    order = np.lexsort((-scored, -ranked))
    k = np.arange(1, len(order) + 1)
    running_risk = np.cumsum(1.0 - scored[order]) / k
    boundary = np.append(ranked[order][1:] != ranked[order][:-1], True)
    within = running_risk < float(risk) if strict else running_risk <= float(risk)
    found = np.flatnonzero(boundary & within)
    return (float(k[found[-1]] / len(k)), float(ranked[order][found[-1]])) if len(found) else (0.0, 0.0)


def risk_at_coverage(confidence: VectorLike, accuracy: VectorLike, coverage: float | Fraction = 0.8) -> float:
    """Selective risk of the k = ceil(coverage N) surest predictions, in expected order where the k-th is tied.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        coverage: In (0, 1].

    Returns:
        Risk in [0, 1].

    >>> risk_at_coverage([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0], 0.8)
    0.25
    """
    as_scalar(coverage, "coverage", allowed=lambda value: 0 < value <= 1, rule="must lie in (0, 1]")
    return float(risk_at_coverage_of(rank(confidence, accuracy).groups(), as_decimal(coverage)))


def risk_at_coverage_of(groups: TieGroups, coverage: Fraction) -> FloatArray:
    """`risk_at_coverage` of tie groups, shape `()` or `(B,)`."""
    k = -(-groups.total * coverage.numerator // coverage.denominator)
    index = (groups.accepted < np.asarray(k)[..., None]).sum(axis=-1)
    index = np.minimum(index, groups.accepted.shape[-1] - 1)
    size, loss = take_last(groups.size, index), take_last(groups.loss, index)
    missing = take_last(groups.accepted, index) - k
    return ratio(take_last(groups.accepted_loss, index) - ratio(loss * missing, size), groups.unit * k)


def operating_point(confidence: VectorLike, accuracy: VectorLike, threshold: float) -> OperatingPoint:
    """Coverage and risk of a threshold that was chosen elsewhere; accept confidence >= threshold.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        threshold: Any number; inf abstains on everything.

    Returns:
        The operating point.

    >>> operating_point([0.9, 0.8, 0.7], [1, 0, 1], 0.8)
    OperatingPoint(coverage=0.6666666666666666, risk=0.5, accuracy=0.5, threshold=0.8)
    """
    as_scalar(threshold, "threshold", allowed=lambda value: not np.isnan(value), rule="must be a number or inf")
    groups = rank(confidence, accuracy).groups()
    last = last_accepted(groups, threshold)
    risk = float(ratio(take_last(groups.accepted_loss, last), groups.unit * take_last(groups.accepted, last)))
    return OperatingPoint(float(covered(groups, last)), risk, 1 - risk, float(threshold))


def last_accepted(groups: TieGroups, threshold: float) -> IntArray:
    """Index of the last group that a threshold accepts, -1 where it accepts none; shape `()`."""
    ascending = groups.confidence[::-1]
    return np.asarray(len(ascending) - np.searchsorted(ascending, threshold, side="left") - 1)
