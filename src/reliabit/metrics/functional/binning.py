"""Where ranked confidences change bins: bins of equal width, and bins of equal mass."""

from typing import Literal, TypeAlias, get_args

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, IntArray
from reliabit.metrics.functional.ranking import TieGroups

Binning: TypeAlias = Literal["width", "mass"]
Closed: TypeAlias = Literal["right", "left"]


def equal_width_cuts(
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


def equal_mass_cuts(groups: TieGroups, n_bins: int) -> IntArray:
    """Positions from 0 to G that give each bin its share, shape `(n_bins + 1,)` or `(B, n_bins + 1)`.

    A group of equal confidences goes whole to the bin of its middle rank.
    """
    # Doubled middle ranks are whole, so the comparison with the doubled bin limits is exact.
    doubled = np.atleast_2d(2 * groups.accepted - groups.size)
    limits = -(-2 * np.atleast_1d(groups.total)[:, None] * np.arange(1, n_bins) // n_bins)
    inner = [np.searchsorted(middle, limit) for middle, limit in zip(doubled, limits, strict=True)]
    cuts = np.pad(np.stack(inner), ((0, 0), (1, 1)), constant_values=(0, doubled.shape[-1]))
    return cuts.reshape(*groups.total.shape, n_bins + 1)


def check_bins(n_bins: int, binning: str, closed: str) -> None:
    """Refuse what no binning is."""
    if n_bins < 1:
        raise ReliabitError(f"n_bins is {n_bins}; it must be at least 1")
    if binning not in get_args(Binning):
        raise ReliabitError(f"binning is {binning!r}; it must be one of {', '.join(get_args(Binning))}")
    if closed not in get_args(Closed):
        raise ReliabitError(f"closed is {closed!r}; it must be one of {', '.join(get_args(Closed))}")
