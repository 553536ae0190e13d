"""Elementary operations on sums of shape `(G,)`, or `(B, G)` for B bootstrap resamples."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reliabit.metrics.functional.inputs import FloatArray

Sums: TypeAlias = npt.NDArray[Any]  # int64 where losses are whole units, else float64


def cross_entropy(confidence: FloatArray, accuracy: FloatArray, *, eps: float) -> FloatArray:
    """-[a log c + (1 - a) log(1 - c)] of each prediction, with c clipped to [eps, 1 - eps].

    >>> cross_entropy(np.array([1.0, 0.5]), np.array([1.0, 0.5]), eps=0.0).round(4).tolist()
    [0.0, 0.6931]
    """
    clipped = np.clip(confidence, eps, 1 - eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        right, wrong = accuracy * np.log(clipped), (1 - accuracy) * np.log1p(-clipped)
    # 0 log 0 is 0: a confidence of 1 that is fully right costs nothing even without clipping.
    return np.abs(np.nan_to_num(right, neginf=-np.inf) + np.nan_to_num(wrong, neginf=-np.inf))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """Divide, with NaN instead of a warning where the denominator is 0.

    >>> ratio([1, 0], [2, 0]).tolist()
    [0.5, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return quotient


def take_last(values: npt.NDArray[Any], index: npt.ArrayLike, *, empty: float = 0.0) -> npt.NDArray[Any]:
    """Read each row of `(..., G)` at its own index `(...,)`, with `empty` where the index is -1.

    >>> take_last(np.array([[1, 2], [3, 4]]), [1, -1])
    array([2, 0])
    """
    where = np.asarray(index)
    if values.ndim == 1:
        found = values[np.maximum(where, 0)]
    else:
        found = np.take_along_axis(values, np.maximum(where, 0)[..., None], axis=-1)[..., 0]
    return np.where(where >= 0, found, np.asarray(empty, dtype=values.dtype))
