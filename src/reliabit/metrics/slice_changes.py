"""What a change of the model, such as quantization, does to every slice of the data: paired, and corrected for number.

A rate is the mean of a value in [0, 1] a question: how right the answer is, whether it is given, whether it is
confidently wrong. Both sides of a pair are asked the same questions, so a change is the mean of differences, and images
are what is independent. The interval of a change holds for few images and few changed answers
(`reliabit.metrics.cluster_mean`). All intervals hold at once (Bonferroni), p-values are adjusted by Holm's procedure.

That a slice loses says nothing of fairness where every slice does. Its excess is its change less that of all other
questions, with an interval that is recovered from those of the slice and of the whole set, and their correlation over
images (MOVER, Zou and Donner 2008, "Construction of confidence limits about effect measures"), so that it holds for few
changed answers as well, where resamples would all agree. These intervals hold at once too.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.metrics.bootstrap import number_images
from reliabit.metrics.cluster_mean import ClusterMean
from reliabit.metrics.functional.inputs import FloatArray, IntArray
from reliabit.metrics.intervals import Difference, Interval, correct_p_values, corrected_level
from reliabit.metrics.metric import higher_is_better

ALL, EVERY_QUESTION = "all", "all questions"
"""The column and the value that stand for the whole data set."""

SMALL = "all small slices"
"""Slices with too few questions to judge one by one, together."""

MIN_QUESTIONS = 30

Masks = dict[str, npt.NDArray[np.bool_]]
Rates = Mapping[str, FloatArray]
"""By metric the value of each question, in [0, 1]."""


@dataclass(frozen=True)
class SliceChange:
    """One rate of one slice, before and after.

    Attributes:
        configuration: What is compared with the baseline.
        column: The column that is sliced by; `ALL` for the whole data set.
        value: Its value in this slice.
        metric: The rate, as `reliabit.metrics.definitions` names it.
        n_questions: Questions in the slice.
        n_images: Their images.
        before: The rate under the baseline.
        after: The rate under the configuration.
        change: After less before, corrected for all changes that were looked at.
        excess: The change less that of all other questions, corrected for all of its kind; None for the whole set.
    """

    configuration: str
    column: str
    value: str
    metric: str
    n_questions: int
    n_images: int
    before: float
    after: float
    change: Difference
    excess: Interval | None

    @property
    def harm(self) -> float:
        """How much worse the rate is after than before; negative where it is better."""
        return -self._sign * self.change.estimate

    @property
    def worse(self) -> bool:
        """Whether the whole interval of the change lies on the side of harm."""
        return _is_above_zero(self.change, -self._sign)

    @property
    def better(self) -> bool:
        """Whether the whole interval of the change lies on the other side."""
        return _is_above_zero(self.change, self._sign)

    @property
    def hit_harder(self) -> bool:
        """Whether it surely fares worse than all other questions do."""
        return self.excess is not None and _is_above_zero(self.excess, -self._sign)

    @property
    def _sign(self) -> int:
        return 1 if higher_is_better(self.metric) else -1


def slice_changes(
    configurations: Mapping[str, Rates],
    image_ids: Sequence[Hashable] | npt.NDArray[Any],
    columns: Mapping[str, Sequence[Hashable]],
    *,
    baseline: str,
    level: float = 0.95,
    min_questions: int = MIN_QUESTIONS,
) -> tuple[SliceChange, ...]:
    """Compare every rate of every slice with the baseline's.

    Args:
        configurations: Name to rates, all about the same N questions in the same order; the same metrics each.
        image_ids: Shape `(N,)`, the image of each question.
        columns: Name to a value a question, such as the question type. One with a single value has no slices.
        baseline: The configuration that others are compared with.
        level: Confidence level of all intervals of changes together, and of all of excesses.
        min_questions: Smaller slices of a column are judged together, or left out where even all are too few.

    Returns:
        One entry a configuration other than the baseline, slice and metric; the whole data set first.

    Raises:
        ReliabitError: The baseline is unknown, or lengths differ.

    Example:
        >>> before = {"accuracy/mean": np.ones(400)}
        >>> kinds = ["count", "colour"] * 200
        >>> after = {"accuracy/mean": np.array([0.0 if kind == "count" else 1.0 for kind in kinds])}
        >>> found = slice_changes({"bf16": before, "int2": after}, range(400), {"type": kinds}, baseline="bf16")
        >>> [(one.value, one.harm, one.worse, one.hit_harder) for one in found]
        [('all questions', 0.5, True, False), ('colour', -0.0, False, False), ('count', 1.0, True, True)]
    """
    if baseline not in configurations:
        raise ReliabitError(f"baseline is {baseline!r}; it must be one of {', '.join(configurations)}")
    clusters, n_clusters = number_images(image_ids)
    parts = _parts(columns, len(clusters), min_questions=min_questions)
    others = [name for name in configurations if name != baseline]
    differences = {
        (name, metric): _checked(name, configurations[name][metric], len(clusters))
        - _checked(baseline, values, len(clusters))
        for name in others
        for metric, values in configurations[baseline].items()
    }
    if not differences:
        return ()
    by_image = _SumsByImage(
        counts=_summed(np.stack(list(parts.values()), axis=1).astype(np.float64), clusters, n_clusters),
        totals={
            key: _summed(np.stack([gain * mask for mask in parts.values()], axis=1), clusters, n_clusters)
            for key, gain in differences.items()
        },
    )
    changes = _changes(by_image, level=level)
    excesses = _excesses(by_image, changes)

    def rate(name: str, metric: str, mask: npt.NDArray[np.bool_]) -> float:
        return float(np.asarray(configurations[name][metric])[mask].mean())

    return tuple(
        SliceChange(
            configuration=name,
            column=column,
            value=value,
            metric=metric,
            n_questions=int(mask.sum()),
            n_images=int((by_image.counts[:, place] > 0).sum()),
            before=rate(baseline, metric, mask),
            after=rate(name, metric, mask),
            change=changes[name, metric, place],
            excess=excesses.get((name, metric, place)),
        )
        for name in others
        for place, ((column, value), mask) in enumerate(parts.items())
        for metric in configurations[baseline]
    )


def large_slices(values: Sequence[Hashable] | npt.NDArray[Any], *, smallest: int) -> tuple[Masks, int]:
    """The slices of a column to judge, as masks, and how many questions are in none of them.

    Args:
        values: Shape `(N,)`, the column.
        smallest: Slices with fewer questions are taken together.

    >>> slices, left_out = large_slices(["a", "a", "b", "c"], smallest=2)
    >>> {name: int(mask.sum()) for name, mask in slices.items()}, left_out
    ({'a': 2, 'all small slices': 2}, 0)
    """
    texts = np.array([str(value) for value in values])
    names, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    large = {
        str(name): codes == code
        for code, (name, count) in enumerate(zip(names, counts, strict=True))
        if count >= smallest
    }
    rest = ~np.isin(texts, list(large))
    if rest.sum() >= smallest:
        return {**large, SMALL: rest}, 0
    return large, int(rest.sum())


def _parts(
    columns: Mapping[str, Sequence[Hashable]], n_rows: int, *, min_questions: int
) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    """The whole set, and each slice of each column that has several."""
    parts = {(ALL, EVERY_QUESTION): np.ones(n_rows, dtype=bool)}
    for name, values in columns.items():
        if len(values) != n_rows:
            raise ReliabitError(f"columns[{name!r}] has {len(values)} values and image_ids has {n_rows}")
        slices, _ = large_slices(values, smallest=min_questions)
        # A slice that is all there is has no others to be compared with.
        parts |= {(name, value): mask for value, mask in slices.items() if not mask.all()}
    return parts


def _checked(name: str, values: FloatArray, n_rows: int) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n_rows,):
        raise ReliabitError(f"{name} has {len(found)} values and image_ids has {n_rows}")
    return found


@dataclass(frozen=True, eq=False)
class _SumsByImage:
    """Questions, and by configuration and metric sums of differences, of each of J images in each of S slices.

    The first slice is the whole set.
    """

    counts: FloatArray
    totals: Mapping[tuple[str, str], FloatArray]

    def mean(self, key: tuple[str, str], place: int) -> ClusterMean:
        """The mean difference on a slice."""
        return _mean(self.totals[key][:, place], self.counts[:, place])

    def correlation(self, key: tuple[str, str], place: int) -> float:
        """Between the changes of a slice and of the whole set, over images."""
        totals, counts = self.totals[key][:, [place, 0]], self.counts[:, [place, 0]]
        one, other = (totals - counts * totals.sum(axis=0) / counts.sum(axis=0)).T
        scale = np.sqrt((one @ one) * (other @ other))
        return float(one @ other / scale) if scale > 0 else 0.0


def _mean(totals: FloatArray, counts: FloatArray) -> ClusterMean:
    inside = counts > 0
    return ClusterMean(totals[inside], counts[inside], low=-1.0, high=1.0)


def _summed(values: FloatArray, clusters: IntArray, n_clusters: int) -> FloatArray:
    """Sum the rows of each image, shape `(J, S)`."""
    sums = np.zeros((n_clusters, values.shape[1]))
    np.add.at(sums, clusters, values)
    return sums


def _changes(by_image: _SumsByImage, *, level: float) -> dict[tuple[str, str, int], Difference]:
    places = range(by_image.counts.shape[1])
    means = {(*key, place): by_image.mean(key, place) for key in by_image.totals for place in places}
    own = corrected_level(level, len(means))
    adjusted = correct_p_values([_two_sided(mean, level=own) for mean in means.values()], "holm")
    found = {}
    for (key, mean), p_value in zip(means.items(), adjusted, strict=True):
        ends = mean.interval(level=own)
        found[key] = Difference(ends.estimate, ends.low, ends.high, own, p_value, len(means))
    return found


def _two_sided(mean: ClusterMean, *, level: float) -> float:
    """How likely data as far from no change would be at most; below 1 - level where the interval leaves zero out."""
    # On the other side of zero there is less evidence still.
    seen = mean if mean.estimate > 0 else mean.times(-1.0)
    return min(1.0, 2 * seen.p_value(0.0, level=level))


def _excesses(
    by_image: _SumsByImage, changes: Mapping[tuple[str, str, int], Difference]
) -> dict[tuple[str, str, int], Interval]:
    """The change of each slice but the first less that of all other questions, at the level of the changes."""
    sizes = by_image.counts.sum(axis=0)
    return {
        (name, metric, place): _less(
            change,
            changes[name, metric, 0],
            correlation=by_image.correlation((name, metric), place),
            share=float(sizes[place] / sizes[0]),
        )
        for (name, metric, place), change in changes.items()
        if place > 0
    }


def _less(part: Interval, whole: Interval, *, correlation: float, share: float) -> Interval:
    """The mean of a part less that of the rest, from the mean of the part less that of the whole.

    The latter is smaller by the share of the rest.
    """

    def reach(own: float, others: float) -> float:
        return float(np.sqrt(max(0.0, own**2 + others**2 - 2 * correlation * own * others))) / (1 - share)

    estimate = (part.estimate - whole.estimate) / (1 - share)
    low = estimate - reach(part.estimate - part.low, whole.high - whole.estimate)
    high = estimate + reach(part.high - part.estimate, whole.estimate - whole.low)
    return Interval(estimate, low, high, part.level)


def _is_above_zero(found: Interval, sign: int) -> bool:
    return found.low > 0 if sign > 0 else found.high < 0
