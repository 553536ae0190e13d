"""How well a confidence separates right answers from wrong ones, and how often it cannot say."""

from typing import Literal, TypeAlias, get_args

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, IntArray, VectorLike, as_confidence
from reliabit.metrics.functional.ranking import TieGroups, rank, ratio

Criterion: TypeAlias = Literal["half", "any"]


def auroc(confidence: VectorLike, accuracy: VectorLike, *, criterion: Criterion = "half") -> float:
    """AUROC of correctness: the chance that a right answer is surer than a wrong one, ties counting half.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        criterion: What counts as right: `half` for accuracy >= 1/2, `any` for accuracy > 0.

    Returns:
        A number in [0, 1], 1/2 for an uninformative confidence; NaN where all are right or all are wrong.

    >>> auroc([0.9, 0.8, 0.8], [1, 1, 0])
    0.75
    """
    check_criterion(criterion)
    return float(auroc_of(rank(confidence, accuracy).groups(), criterion=criterion))


def aupr_error(confidence: VectorLike, accuracy: VectorLike, *, criterion: Criterion = "half") -> float:
    """Average precision of finding the errors among the least sure predictions (Hendrycks and Gimpel 2017).

    The sum over attainable thresholds of precision times the gain in recall, errors being the positives.

    Args:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        criterion: What counts as right, see `auroc`.

    Returns:
        A number in [0, 1], the error rate for an uninformative confidence; NaN where there are no errors.

    >>> aupr_error([0.9, 0.8, 0.7], [1, 0, 1])
    0.5
    """
    check_criterion(criterion)
    return float(aupr_error_of(rank(confidence, accuracy).groups(), criterion=criterion))


def tie_share(confidence: VectorLike) -> float:
    """Share of predictions whose confidence another one has too; a threshold cannot tell those apart.

    Args:
        confidence: Shape `(N,)`.

    Returns:
        A share in [0, 1].

    Raises:
        ReliabitError: The argument is unusable.

    >>> tie_share([0.9, 0.5, 0.5, 0.1])
    0.5
    """
    _, counts = np.unique(as_confidence(confidence), return_counts=True)
    return float(counts[counts > 1].sum() / counts.sum())


def auroc_of(groups: TieGroups, *, criterion: Criterion = "half") -> FloatArray:
    """`auroc` of tie groups, shape `()` or `(B,)`."""
    wrong, running = _wrong(groups, criterion)
    n_wrong = running[..., -1]
    n_right = groups.total - n_wrong
    # Twice the wrong ones that are surer and once those within: whole numbers until the division.
    surer = np.einsum("...g,...g->...", groups.size - wrong, 2 * running - wrong)
    return 1 - ratio(surer, 2.0 * n_right * n_wrong)


def aupr_error_of(groups: TieGroups, *, criterion: Criterion = "half") -> FloatArray:
    """`aupr_error` of tie groups, shape `()` or `(B,)`."""
    wrong, running = _wrong(groups, criterion)
    n_wrong = running[..., -1]
    found = n_wrong[..., None] - running + wrong
    rejected = groups.total[..., None] - groups.accepted + groups.size
    # Behind the last item of a resample nothing is rejected and no recall is gained: any precision will do.
    precision = found / np.maximum(rejected, 1)
    return ratio(np.einsum("...g,...g->...", precision, wrong), n_wrong)


def tie_share_of(groups: TieGroups) -> FloatArray:
    """`tie_share` of tie groups, shape `()` or `(B,)`; copies of one prediction in a resample are no ties."""
    return groups.mean(groups.ranking.tied)


def _wrong(groups: TieGroups, criterion: Criterion) -> tuple[IntArray, IntArray]:
    if criterion == "any":
        return groups.wrong, groups.accepted_wrong
    return groups.minority, groups.accepted_minority


def check_criterion(criterion: str) -> None:
    """Refuse what is none."""
    if criterion not in get_args(Criterion):
        raise ReliabitError(f"criterion is {criterion!r}; it must be one of {', '.join(get_args(Criterion))}")
