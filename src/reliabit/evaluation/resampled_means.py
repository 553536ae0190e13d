"""Means on resampled images without a metric suite: fast enough for every slice of every pair of configurations."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from reliabit.evaluation.contrasts import Resampled
from reliabit.metrics.bootstrap import DRAWN_ELEMENTS, draw_counts, number_images
from reliabit.metrics.functional.inputs import FloatArray


def resampled_mean(
    values: FloatArray,
    images: Sequence[Hashable],
    *,
    rows: npt.NDArray[np.bool_] | None = None,
    n_resamples: int,
    seed: int,
) -> Resampled:
    """The mean of a value a question on the same resamples of images as those of `reliabit.metrics.cluster_bootstrap`.

    The mean of paired differences is the difference of means, so this resamples both sides of a pair at once.

    Args:
        values: Shape `(N,)`.
        images: Shape `(N,)`, the image of each question.
        rows: Shape `(N,)`, the questions that count; all by default. Resamples are of all
            images even so, which pairs slices with one another and with the whole.
        n_resamples: How many.
        seed: Of the draws.

    Returns:
        The mean; NaN on resamples without a question that counts.

    >>> found = resampled_mean(np.array([1.0, 0.0, 1.0]), ["a", "a", "b"], n_resamples=200, seed=0)
    >>> round(found.estimate, 3), sorted(set(found.replicates.round(3).tolist()))
    (0.667, [0.5, 0.667, 1.0])
    """
    clusters, n_clusters = number_images(images)
    counted = np.ones(len(values)) if rows is None else rows.astype(np.float64)
    sums = np.stack(
        [np.bincount(clusters, weights=one, minlength=n_clusters) for one in (values * counted, counted)], axis=1
    )
    parts = []
    step = max(1, DRAWN_ELEMENTS // n_clusters)
    for start in range(0, n_resamples, step):
        drawn = draw_counts(n_clusters, range(start, min(start + step, n_resamples)), seed)
        with np.errstate(invalid="ignore"):
            parts.append(np.divide(*(drawn @ sums).T))
    return Resampled(float(np.divide(*sums.sum(axis=0))), np.concatenate(parts))
