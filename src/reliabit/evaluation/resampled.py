"""Quantities on resampled images, and their differences; means without a suite, fast enough for every slice."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reliabit.metrics.bootstrap import DRAWN_ELEMENTS, draw_counts, number_images
from reliabit.metrics.cluster_mean import ClusterMean
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.intervals import Interval, interval


@dataclass(frozen=True, eq=False)
class Resampled:
    """A quantity on the data and on its resamples.

    Attributes:
        estimate: On the data itself.
        replicates: Shape `(n_resamples,)`.
        mean: The same as a mean of bounded values by image, where it is one: its interval holds for few images and few
            differences, of which resamples know nothing.
    """

    estimate: float
    replicates: FloatArray
    mean: ClusterMean | None = None

    def minus(self, other: "Resampled") -> "Resampled":
        """The difference to another quantity on the same resamples.

        >>> one = Resampled(2.0, np.array([1.0, 3.0]))
        >>> one.minus(one).replicates.tolist()
        [0.0, 0.0]
        """
        mean = self.mean.minus(other.mean) if self.mean and other.mean else None
        return Resampled(self.estimate - other.estimate, self.replicates - other.replicates, mean)

    def minus_independent(self, other: "Resampled") -> "Resampled":
        """The difference to a quantity of other images.

        Resample i draws the same positions wherever sets have equally many images; one resample apart, draws are
        independent. Where the images do overlap, the interval is wider than it need be.

        >>> one = Resampled(2.0, np.array([1.0, 3.0]))
        >>> one.minus_independent(one).replicates.tolist()
        [-2.0, 2.0]
        """
        return Resampled(self.estimate - other.estimate, self.replicates - np.roll(other.replicates, 1))

    def times(self, factor: float) -> "Resampled":
        """A multiple."""
        mean = self.mean.times(factor) if self.mean else None
        return Resampled(factor * self.estimate, factor * self.replicates, mean)

    def interval(self, *, level: float) -> Interval:
        """That of the mean by image, if it is one; else see `reliabit.metrics.intervals.interval`.

        >>> Resampled(500.0, np.arange(1001.0)).interval(level=0.5)
        Interval(estimate=500.0, low=250.0, high=750.0, level=0.5)
        """
        if self.mean:
            return self.mean.interval(level=level)
        return interval(self.estimate, self.replicates, level=level)


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
