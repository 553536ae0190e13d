"""Calibration: how far confidences are from the accuracies they promise. Confidences must be probabilities."""

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, IntArray, VectorLike, as_accuracy, as_pair, as_scalar
from reliabit.metrics.functional.ranking import Sums, TieGroups, cross_entropy, rank, ratio, take_last

Binning: TypeAlias = Literal["width", "mass"]
Closed: TypeAlias = Literal["right", "left"]


class ReliabilityDiagram(NamedTuple):
    """Bins of a reliability diagram, from the lowest confidences to the highest; all of shape `(n_bins,)`.

    Attributes:
        lower: Lower edge; for bins of equal mass the smallest confidence inside, NaN where empty.
        upper: Upper edge; for bins of equal mass the largest confidence inside, NaN where empty.
        size: Predictions inside.
        confidence: Their mean confidence, NaN where empty.
        accuracy: Their mean accuracy, NaN where empty.
    """

    lower: FloatArray
    upper: FloatArray
    size: IntArray
    confidence: FloatArray
    accuracy: FloatArray


class BrierDecomposition(NamedTuple):
    """The terms of a Brier score.

    Attributes:
        reliability: Mean squared calibration gap, lower is better.
        resolution: Variance of the accuracy between bins, higher is better.
        uncertainty: Variance of the accuracy; no confidence changes it.
    """

    reliability: float
    resolution: float
    uncertainty: float


def calibration_error(
    confidence: VectorLike,
    accuracy: VectorLike,
    n_bins: int = 15,
    *,
    binning: Binning = "width",
    closed: Closed = "right",
    paper_compat: bool = False,
) -> float:
    """Expected calibration error: sum over bins of (n_b/N) |mean accuracy - mean confidence| (Naeini et al. 2015).

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1]; soft accuracies are used as they are.
        n_bins: How many bins; record it with the number. 15 is the custom since Guo et al. 2017.
        binning: `width` for bins of equal width, `mass` for bins of equally many predictions (adaptive ECE). A group of
            equal confidences is never split: it belongs to the bin of its middle rank.
        closed: Equal width only. `right` for bins (lo, hi] of which the first also has 0; `left` for [lo, hi) with a
            bin more for exactly 1, which is torchmetrics' rule.
        paper_compat: Put a confidence of exactly 0 in no bin, as the published evaluators do.

    Returns:
        The error in [0, 1], lower is better.

    >>> round(calibration_error([0.95, 0.85, 0.75, 0.65], [1, 1, 0, 1], 10), 6)
    0.325
    """
    _check_bins(n_bins, binning, closed)
    groups = rank(confidence, accuracy, probability=True).groups()
    if binning == "mass":
        return float(equal_mass_error_of(groups, n_bins))
    cuts = _equal_width_cuts(groups.confidence, n_bins, closed=closed, drop_zero=paper_compat)
    return float(_error(groups, cuts))


def reliability_diagram(
    confidence: VectorLike, accuracy: VectorLike, n_bins: int = 15, *, binning: Binning = "width"
) -> ReliabilityDiagram:
    """The bins behind `calibration_error`, as a reliability diagram draws them (DeGroot and Fienberg 1983).

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1].
        n_bins: How many bins.
        binning: See `calibration_error`.

    Returns:
        The bins.

    >>> reliability_diagram([0.2, 0.9, 0.8], [0, 1, 1], 2).size.tolist()
    [1, 2]
    """
    _check_bins(n_bins, binning, "right")
    groups = rank(confidence, accuracy, probability=True).groups()
    if binning == "width":
        cuts = _equal_width_cuts(groups.confidence, n_bins)
        lower, upper = np.arange(n_bins) / n_bins, np.arange(1, n_bins + 1) / n_bins
    else:
        cuts = _equal_mass_cuts(groups, n_bins)
        held = cuts[1:] > cuts[:-1]
        upper = np.where(held, groups.confidence[np.minimum(cuts[:-1], len(groups.confidence) - 1)], np.nan)[::-1]
        lower = np.where(held, groups.confidence[cuts[1:] - 1], np.nan)[::-1]
    size = _between(groups.size, cuts)[::-1]
    promised, kept = _between(groups.size * groups.confidence, cuts)[::-1], _between(groups.accuracy, cuts)[::-1]
    return ReliabilityDiagram(lower, upper, size, ratio(promised, size), ratio(kept, size))


def brier_score(confidence: VectorLike, accuracy: VectorLike) -> float:
    """Brier score, the mean squared difference of confidence and accuracy (Brier 1950), on soft targets as they are.

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The score in [0, 1], lower is better.

    >>> round(brier_score([0.8, 0.4], [1.0, 0.3]), 6)
    0.025
    """
    return float(brier_score_of(rank(confidence, accuracy, probability=True).groups()))


def brier_decomposition(confidence: VectorLike, accuracy: VectorLike, n_bins: int = 15) -> BrierDecomposition:
    """Murphy's partition of the Brier score over bins of equal width: reliability - resolution + uncertainty.

    The three add up to the score where all confidences of a bin are equal, and nearly so otherwise (Murphy 1973).

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1].
        n_bins: How many bins.

    Returns:
        The three terms.

    >>> [round(term, 6) for term in brier_decomposition([0.8, 0.8, 0.2], [1, 0, 0], 5)]
    [0.073333, 0.055556, 0.222222]
    """
    bins = reliability_diagram(confidence, accuracy, n_bins)
    held, kept = bins.size > 0, as_accuracy(accuracy)
    share = bins.size[held] / bins.size.sum()
    reliability = share @ np.square(bins.confidence[held] - bins.accuracy[held])
    resolution = share @ np.square(bins.accuracy[held] - kept.mean())
    return BrierDecomposition(float(reliability), float(resolution), float(kept.var()))


def negative_log_likelihood(confidence: VectorLike, accuracy: VectorLike, *, eps: float = 1e-12) -> float:
    """Cross-entropy with the accuracy as a soft target, the mean of -[a log c + (1 - a) log(1 - c)], in nats.

    Its minimum is the mean entropy of the targets and not 0 (a = 0.3 alone has 0.6109).

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1].
        eps: Confidences are clipped to [eps, 1 - eps]. Products of probabilities do saturate at 1, and one wrong
            answer there would make the mean infinite; 0 shows that.

    Returns:
        A number from 0, lower is better.

    >>> round(negative_log_likelihood([0.3], [0.3]), 4)
    0.6109
    """
    if not 0 <= eps < 0.5:
        raise ReliabitError(f"eps is {eps:g}; it must lie in [0, 0.5)")
    promised, kept = as_pair(confidence, accuracy, probability=True)
    return float(cross_entropy(promised, kept, eps=eps).mean())


def confidently_wrong(confidence: VectorLike, accuracy: VectorLike, sure: float = 0.9) -> float:
    """The share of all predictions that are surer than a level and wrong.

    Wrong is an accuracy below 1/2: most annotators said something else. These are the errors that nobody who trusts a
    confidence looks for ("unknown unknowns", Lakkaraju et al. 2017); calibration errors average over them, since a
    model may be as sure as it ought to be and make as many.

    Args:
        confidence: Shape `(N,)` in [0, 1].
        accuracy: Shape `(N,)` in [0, 1].
        sure: The level, in [0, 1); a confidence of exactly this is not above it.

    Returns:
        A number in [0, 1], lower is better.

    >>> confidently_wrong([0.95, 0.99, 0.9, 0.2], [0, 1, 0, 0])
    0.25
    """
    as_scalar(sure, "sure", allowed=lambda value: 0 <= value < 1, rule="must lie in [0, 1)")
    return float(confidently_wrong_of(rank(confidence, accuracy, probability=True).groups(), sure))


def confidently_wrong_parts(confidence: FloatArray, accuracy: FloatArray, sure: float) -> FloatArray:
    """What each prediction adds to `confidently_wrong`, whose mean it is; shape `(N,)`."""
    return ((confidence > sure) & (accuracy < 0.5)).astype(np.float64)


def equal_width_error_of(groups: TieGroups, n_bins: int) -> FloatArray:
    """`calibration_error` with bins of equal width of tie groups, shape `()` or `(B,)`."""
    return _error(groups, _equal_width_cuts(groups.confidence, n_bins))


def confidently_wrong_of(groups: TieGroups, sure: float) -> FloatArray:
    """`confidently_wrong` of tie groups, shape `()` or `(B,)`."""
    last = np.flatnonzero(groups.confidence > sure).size - 1
    return ratio(take_last(groups.accepted_minority, np.broadcast_to(last, groups.total.shape)), groups.total)


def equal_mass_error_of(groups: TieGroups, n_bins: int) -> FloatArray:
    """`calibration_error` with bins of equal mass of tie groups, shape `()` or `(B,)`."""
    return _error(groups, _equal_mass_cuts(groups, n_bins))


def brier_score_of(groups: TieGroups) -> FloatArray:
    """`brier_score` of tie groups, shape `()` or `(B,)`."""
    return groups.mean(groups.ranking.squared_error)


def negative_log_likelihood_of(groups: TieGroups) -> FloatArray:
    """`negative_log_likelihood` of tie groups, shape `()` or `(B,)`."""
    return groups.mean(groups.ranking.clipped_cross_entropy)


def _error(groups: TieGroups, cuts: IntArray) -> FloatArray:
    running = groups.running_excess
    at_cuts = np.take_along_axis(running, cuts, axis=-1) if cuts.ndim == running.ndim else running[..., cuts]
    return ratio(np.abs(np.diff(at_cuts, axis=-1)).sum(axis=-1), groups.total)


def _between(values: Sums, cuts: IntArray) -> Sums:
    return np.diff(np.append(0, np.cumsum(values))[cuts])


def _equal_width_cuts(
    confidence: FloatArray, n_bins: int, *, closed: Closed = "right", drop_zero: bool = False
) -> IntArray:
    """Where descending confidences change bins, from the highest bin down: positions from 0 to G.

    Edges are the doubles nearest to i/n, so that a confidence written as 0.3 lies on the edge 3/10 exactly.
    """
    ascending = confidence[::-1]
    n_edges = n_bins if closed == "right" else n_bins + 1
    edges = np.arange(n_edges)[::-1] / n_bins
    cuts = len(ascending) - np.searchsorted(ascending, edges, side="right" if closed == "right" else "left")
    if closed == "right" and not drop_zero:
        cuts[-1] = len(ascending)
    return np.append(0, cuts)


def equal_width_bins(confidence: FloatArray, n_bins: int) -> IntArray:
    """Bin of each confidence, in bins (lo, hi] of equal width of which the first also has 0.

    >>> equal_width_bins(np.array([0.0, 0.3, 0.31]), 10).tolist()
    [0, 2, 3]
    """
    edges = np.arange(n_bins) / n_bins
    return np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)


def _equal_mass_cuts(groups: TieGroups, n_bins: int) -> IntArray:
    """Positions from 0 to G that give each bin its share, shape `(n_bins + 1,)` or `(B, n_bins + 1)`.

    A group of equal confidences goes whole to the bin of its middle rank.
    """
    # Doubled middle ranks are whole, so the comparison with the doubled bin limits is exact.
    doubled = np.atleast_2d(2 * groups.accepted - groups.size)
    limits = -(-2 * np.atleast_1d(groups.total)[:, None] * np.arange(1, n_bins) // n_bins)
    inner = [np.searchsorted(middle, limit) for middle, limit in zip(doubled, limits, strict=True)]
    cuts = np.pad(np.stack(inner), ((0, 0), (1, 1)), constant_values=(0, doubled.shape[-1]))
    return cuts.reshape(*groups.total.shape, n_bins + 1)


def _check_bins(n_bins: int, binning: str, closed: str) -> None:
    """Refuse what no binning is."""
    if n_bins < 1:
        raise ReliabitError(f"n_bins is {n_bins}; it must be at least 1")
    if binning not in get_args(Binning):
        raise ReliabitError(f"binning is {binning!r}; it must be one of {', '.join(get_args(Binning))}")
    if closed not in get_args(Closed):
        raise ReliabitError(f"closed is {closed!r}; it must be one of {', '.join(get_args(Closed))}")
