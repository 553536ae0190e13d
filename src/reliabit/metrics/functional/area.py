"""Areas under risk-coverage curves: AURC in its several conventions, AUGRC, excess AURC and the rejection ratio."""

import numpy as np

from reliabit.metrics.functional.inputs import FloatArray, VectorLike
from reliabit.metrics.functional.ranking import TieGroups, rank, ratio, take_last


def aurc(confidence: VectorLike, accuracy: VectorLike, *, paper_compat: bool = False) -> float:
    """Area under the risk-coverage curve, as Whitehead et al. 2022 and Dancette et al. 2023 define it.

    Trapezoids over the points (k/N, R_k), k = 1..N, without a point at coverage 0 and without rescaling, so that a
    model that is always wrong has 1 - 1/N; divided by that it is torch-uncertainty's AURC. Equal confidences count in
    expected order, see `risk_coverage_curve`.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        paper_compat: Order equal confidences by accuracy, best first, as the published evaluators happen to do.

    Returns:
        The area in [0, 1), lower is better.

    >>> round(aurc([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]), 6)
    0.156667
    """
    return float(aurc_of(rank(confidence, accuracy, split_ties=paper_compat).groups()))


def aurc_mean(confidence: VectorLike, accuracy: VectorLike) -> float:
    """Mean of the selective risks, (1/N) sum of R_k in expected order (Geifman et al. 2019; lm-polygraph "rcc-auc").

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The mean in [0, 1], lower is better.

    >>> round(aurc_mean([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]), 6)
    0.196667
    """
    return float(aurc_mean_of(rank(confidence, accuracy).groups()))


def aurc_boundary(confidence: VectorLike, accuracy: VectorLike) -> float:
    """Trapezoids over the attainable thresholds only, from coverage 0 at the risk of the surest group (fd-shifts).

    It draws straight lines of selective risk across groups of equal confidence, which is slightly optimistic.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The area in [0, 1], lower is better.

    >>> round(aurc_boundary([0.9, 0.7, 0.7, 0.7, 0.5], [1, 1, 0, 1, 0]), 6)
    0.14
    """
    groups = rank(confidence, accuracy).groups()
    risk = groups.accepted_loss / (groups.unit * groups.accepted)
    coverage = groups.accepted / groups.total
    return float(np.trapezoid(np.append(risk[0], risk), np.append(0.0, coverage)))


def e_aurc(confidence: VectorLike, accuracy: VectorLike) -> float:
    """Excess AURC: `aurc` less that of the best possible ranking (Geifman et al. 2019).

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The excess in [0, 1), lower is better, 0 for a perfect ranking.

    >>> round(e_aurc([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]), 6)
    0.066667
    """
    return float(e_aurc_of(rank(confidence, accuracy).groups()))


def augrc(confidence: VectorLike, accuracy: VectorLike) -> float:
    """Area under the generalised risk-coverage curve: the mean risk of undetected failures (Traub et al. 2024).

    The integral over coverage of G = (loss of the accepted) / N from (0, 0) on; straight lines between attainable
    thresholds are exact for random orders of equal confidences.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The area in [0, 1/2], lower is better.

    >>> round(augrc([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]), 6)
    0.12
    """
    return float(augrc_of(rank(confidence, accuracy).groups()))


def augrc_parts(confidence: VectorLike, accuracy: VectorLike) -> FloatArray:
    """What each prediction has to do with AUGRC: its influence on it, plus AUGRC.

    AUGRC is the mean, over pairs of predictions, of the loss of the surer one (half of it where both are as sure, a
    prediction and itself among them). A prediction takes part in such pairs as either: `loss * share of the less sure +
    mean loss of the surer - AUGRC`. The mean of the parts is AUGRC, and AUGRC on other weights is their weighted mean
    but for terms of second order (von Mises 1947), so that it can be treated as a mean.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        Shape `(N,)`; a difference of two of them lies in [-1, 1] but for the mean losses.

    >>> augrc_parts([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]).round(2).tolist()
    [-0.12, -0.12, 0.48, 0.08, 0.28]
    """
    ranking = rank(confidence, accuracy)
    groups, n_items = ranking.groups(), ranking.n_items
    # Of a tie, half counts as surer and half as less sure.
    less_sure = np.repeat(n_items - groups.accepted + groups.size / 2, groups.size)
    surer = np.repeat(groups.accepted_loss - groups.loss / 2, groups.size)
    parts = np.empty(n_items)
    parts[ranking.order] = (ranking.loss * less_sure + surer) / (groups.unit * n_items) - augrc_of(groups)
    return parts


def prediction_rejection_ratio(confidence: VectorLike, accuracy: VectorLike) -> float:
    """PRR: how much of the way from a random ranking to the best possible one the confidence goes.

    (risk - M) / (risk - M_oracle), with M the mean selective risk `aurc_mean`, which is the risk itself for a random
    ranking (Malinin et al. 2017, in the form of lm-polygraph: mean quality of what is kept over all rejection rates).

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        At most 1, 0 for a random ranking and negative for a worse one; NaN where all accuracies are equal.

    >>> round(prediction_rejection_ratio([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]), 6)
    0.753086
    """
    return float(prediction_rejection_ratio_of(rank(confidence, accuracy).groups()))


def aurc_of(groups: TieGroups) -> FloatArray:
    """`aurc` of tie groups, shape `()` or `(B,)`."""
    first = np.argmax(groups.size > 0, axis=-1)
    first_risk = ratio(take_last(groups.loss, first), groups.unit * take_last(groups.size, first))
    return ratio(groups.sum_of_risks - (first_risk + groups.risk) / 2, groups.total)


def aurc_mean_of(groups: TieGroups) -> FloatArray:
    """`aurc_mean` of tie groups, shape `()` or `(B,)`."""
    return ratio(groups.sum_of_risks, groups.total)


def e_aurc_of(groups: TieGroups) -> FloatArray:
    """`e_aurc` of tie groups, shape `()` or `(B,)`."""
    return np.maximum(aurc_of(groups) - aurc_of(groups.oracle), 0.0)


def augrc_of(groups: TieGroups) -> FloatArray:
    """`augrc` of tie groups, shape `()` or `(B,)`."""
    doubled = (groups.size * (2 * groups.accepted_loss - groups.loss)).sum(axis=-1, dtype=np.float64)
    return ratio(doubled, 2.0 * groups.unit * groups.total * groups.total)


def prediction_rejection_ratio_of(groups: TieGroups) -> FloatArray:
    """`prediction_rejection_ratio` of tie groups, shape `()` or `(B,)`."""
    possible = groups.risk - aurc_mean_of(groups.oracle)
    # Rounding leaves a trace of a difference where all accuracies are equal.
    possible = np.where(possible > 1e-12, possible, 0.0)
    return ratio(groups.risk - aurc_mean_of(groups), possible)
