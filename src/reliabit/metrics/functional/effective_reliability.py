"""Effective reliability: what a model is worth when a wrong answer costs more than silence."""

from fractions import Fraction

import numpy as np

from reliabit.metrics.functional.inputs import FloatArray, VectorLike, as_cost, as_pair, as_scalar
from reliabit.metrics.functional.ranking import Sums, TieGroups, rank, ratio, take_last
from reliabit.metrics.functional.risk_coverage import INT64_ROOM, RELATIVE_TOLERANCE, last_accepted


def effective_reliability(
    confidence: VectorLike, accuracy: VectorLike, cost: float | Fraction, threshold: float
) -> float:
    """Effective reliability Phi_c of a threshold (Whitehead et al. 2022).

    The mean over all N predictions of: the accuracy a if accepted and a > 0; -c if accepted and a = 0; 0 if not
    accepted. Without abstention it is the value at the threshold -inf; its upper limit is the mean accuracy.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        cost: The cost c of an answer that no annotator agrees with, from 0.
        threshold: Accept confidence >= threshold; inf abstains on everything. Choose it on another split, see
            `effective_reliability_threshold`.

    Returns:
        A number in [-c, 1], higher is better.

    >>> effective_reliability([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 10, 0.75)
    -2.25
    """
    charge = as_cost(cost)
    as_scalar(threshold, "threshold", allowed=lambda value: not np.isnan(value), rule="must be a number or inf")
    return float(effective_reliability_of(rank(confidence, accuracy).groups(), charge, threshold))


def effective_reliability_threshold(
    confidence: VectorLike, accuracy: VectorLike, cost: float | Fraction, *, paper_compat: bool = False
) -> float:
    """The threshold with the largest effective reliability, to be chosen on one split and applied on another.

    Candidates are every attainable threshold and inf, which abstains on everything; among equals the lowest wins,
    which answers most.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        cost: The cost of a wrong answer, from 0.
        paper_compat: Never abstain on everything, and let the best point lie inside a group of equal confidences in
            input order, as the published evaluators do.

    Returns:
        The threshold from which to accept, possibly inf.

    >>> effective_reliability_threshold([0.85, 0.75, 0.65, 0.55], [1, 1, 0, 1], 10)
    0.75
    >>> effective_reliability_threshold([0.9, 0.8], [0, 0], 1)
    inf
    """
    charge = as_cost(cost)
    if paper_compat:
        return _published_threshold(*as_pair(confidence, accuracy), float(charge))
    groups = rank(confidence, accuracy).groups()
    utility = np.append(0, _utility(groups, charge))
    slack = 0 if utility.dtype == np.int64 else RELATIVE_TOLERANCE * max(1.0, float(np.abs(utility).max()))
    best = int(np.flatnonzero(utility >= utility.max() - slack)[-1])
    return float(groups.confidence[best - 1]) if best else np.inf


def effective_reliability_of(groups: TieGroups, cost: Fraction, threshold: float) -> FloatArray:
    """`effective_reliability` of tie groups, shape `()` or `(B,)`."""
    last = np.broadcast_to(last_accepted(groups, threshold), groups.total.shape)
    right = take_last(groups.accepted, last) - take_last(groups.accepted_loss, last) / groups.unit
    return ratio(right - float(cost) * take_last(groups.accepted_wrong, last), groups.total)


def _utility(groups: TieGroups, cost: Fraction) -> Sums:
    # Whole units of utility where losses and cost allow it, so that equal utilities compare equal.
    largest = groups.unit * int(groups.total) * max(cost.numerator, cost.denominator)
    if groups.loss.dtype == np.int64 and largest < INT64_ROOM:
        right = groups.unit * groups.accepted - groups.accepted_loss
        return cost.denominator * right - cost.numerator * groups.unit * groups.accepted_wrong
    return np.cumsum(groups.accuracy) - float(cost) * groups.accepted_wrong


def _published_threshold(confidence: FloatArray, accuracy: FloatArray, cost: float) -> float:
    order = np.argsort(-confidence, kind="stable")
    utility = np.cumsum(np.where(accuracy > 0, accuracy, -cost)[order])
    return float(confidence[order][np.flatnonzero(utility == utility.max())[-1]])
