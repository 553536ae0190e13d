"""Metrics by question type, answer type, source or any other column, and how unequal the slices are."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.metrics.bootstrap import Job, check_rows, estimate, number_images, replicate
from reliabit.metrics.functional.inputs import FloatArray, IntArray, as_pair
from reliabit.metrics.intervals import Interval, corrected_level, interval
from reliabit.metrics.metric import higher_is_better
from reliabit.metrics.suite import Predictions, Suite, suite_for

Column = Sequence[Hashable] | npt.NDArray[Any]
Key = tuple[str, str, str]  # configuration, column, value


@dataclass(frozen=True)
class SliceValue:
    """One metric of one configuration on one slice.

    Attributes:
        configuration: Whose predictions.
        column: The column that is sliced by.
        value: Its value in this slice.
        metric: The metric.
        n_questions: Questions in the slice.
        n_images: Their images.
        interval: The metric with its interval.
    """

    configuration: str
    column: str
    value: str
    metric: str
    n_questions: int
    n_images: int
    interval: Interval


@dataclass(frozen=True)
class SliceGap:
    """How far one configuration's best and worst slices are apart.

    Attributes:
        configuration: Whose predictions.
        column: The column that is sliced by.
        metric: The metric.
        best: The slice with the best value.
        worst: The slice with the worst value.
        gap: By how much the best is better, from 0; its interval is corrected for the choice of the pair.
        change: How much larger the gap between these two slices is than under the baseline; None without a baseline.
    """

    configuration: str
    column: str
    metric: str
    best: str
    worst: str
    gap: Interval
    change: Interval | None


@dataclass(frozen=True)
class SliceReport:
    """Every metric of every slice, and the gap of every metric.

    Attributes:
        values: One entry a configuration, column, value and metric.
        gaps: One entry a configuration, column and metric for which two slices are large enough.
    """

    values: tuple[SliceValue, ...]
    gaps: tuple[SliceGap, ...]

    def gap(self, configuration: str, column: str, metric: str) -> SliceGap:
        """The gap of one metric, which names the worst slice."""
        for found in self.gaps:
            if (found.configuration, found.column, found.metric) == (configuration, column, metric):
                return found
        raise ReliabitError(
            f"there is no gap of {metric} by {column} for {configuration}: fewer than two slices have it"
        )


@dataclass(frozen=True, eq=False)
class _Slices:
    """The parts of one column, and the results on each."""

    positions: dict[str, IntArray]
    estimates: Mapping[Key, Mapping[str, float]]
    replicates: Mapping[Key, Mapping[str, FloatArray]]

    def delta(self, configuration: str, column: str, metric: str, pair: tuple[str, str]) -> tuple[float, FloatArray]:
        first, second = ((configuration, column, value) for value in pair)
        sign = 1 if higher_is_better(metric) else -1
        estimated = sign * (self.estimates[first][metric] - self.estimates[second][metric])
        return estimated, sign * (self.replicates[first][metric] - self.replicates[second][metric])


def slice_report(
    configurations: Mapping[str, Predictions],
    image_ids: Sequence[Hashable] | npt.NDArray[Any],
    columns: Mapping[str, Column],
    *,
    baseline: str | None = None,
    suite: Suite | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    min_questions: int = 30,
    seed: int = 0,
    workers: int = 1,
) -> SliceReport:
    """Compute every metric on every slice, with the same resamples of images for all slices and configurations.

    Args:
        configurations: Name to predictions, all about the same N questions in the same order.
        image_ids: Shape `(N,)`, the image of each question.
        columns: Name to a value a question, such as the question type.
        baseline: The configuration that changes of gaps are measured against.
        suite: Which metrics.
        n_resamples: How many resamples.
        level: Confidence level.
        min_questions: Smaller slices are reported but cannot be best or worst.
        seed: Seed of the draws.
        workers: Threads.

    Returns:
        The report.

    Raises:
        ReliabitError: An argument is unusable or lengths differ.

    >>> data = Predictions([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    >>> kinds = {"answer_type": ["yes/no", "yes/no", "other", "other"]}
    >>> report = slice_report({"bf16": data}, ["a", "a", "b", "c"], kinds, n_resamples=100, min_questions=1)
    >>> report.gap("bf16", "answer_type", "accuracy/mean").worst
    'other'
    """
    chosen = suite or suite_for(configurations.values())
    if baseline is not None and baseline not in configurations:
        raise ReliabitError(f"baseline is {baseline!r}; it must be one of {', '.join(configurations)}")
    clusters, n_clusters = number_images(image_ids)
    parts = {name: _partition(name, column, len(clusters)) for name, column in columns.items()}
    jobs = _jobs(configurations, clusters, parts, chosen)
    estimates = {key: estimate(job, chosen) for key, job in jobs.items()}
    drawn = replicate(jobs, n_clusters, suite=chosen, n_resamples=n_resamples, seed=seed, workers=workers)
    gaps = [
        gap
        for column, positions in parts.items()
        for configuration in configurations
        for gap in _gaps(
            configuration, column, _Slices(_large(positions, min_questions), estimates, drawn), baseline, level
        )
    ]
    return SliceReport(tuple(_values(jobs, estimates, drawn, level)), tuple(gaps))


def _values(
    jobs: Mapping[Key, Job],
    estimates: Mapping[Key, Mapping[str, float]],
    drawn: Mapping[Key, Mapping[str, FloatArray]],
    level: float,
) -> Iterator[SliceValue]:
    for key, metrics in estimates.items():
        n_questions, n_images = jobs[key].ranking.n_items, len(np.unique(jobs[key].clusters))
        for metric, value in metrics.items():
            ends = interval(value, drawn[key][metric], level=level)
            yield SliceValue(*key, metric, n_questions, n_images, ends)


def _partition(name: str, column: Column, n_rows: int) -> dict[str, IntArray]:
    if len(column) != n_rows:
        raise ReliabitError(f"columns[{name!r}] has {len(column)} values and image_ids has {n_rows}")
    values, codes = np.unique(np.array([str(value) for value in column]), return_inverse=True)
    return {str(value): np.flatnonzero(codes == code) for code, value in enumerate(values)}


def _large(positions: dict[str, IntArray], min_questions: int) -> dict[str, IntArray]:
    return {value: where for value, where in positions.items() if len(where) >= min_questions}


def _jobs(
    configurations: Mapping[str, Predictions],
    clusters: IntArray,
    parts: Mapping[str, dict[str, IntArray]],
    suite: Suite,
) -> dict[Key, Job]:
    jobs = {}
    for name, predictions in configurations.items():
        pair = as_pair(predictions.confidence, predictions.accuracy, probability=suite.probability)
        check_rows(name, len(pair[0]), len(clusters))
        for column, positions in parts.items():
            for value, where in positions.items():
                ranking = suite.rank(Predictions(pair[0][where], pair[1][where]))
                jobs[name, column, value] = Job(ranking, clusters[where][ranking.order], predictions.thresholds)
    return jobs


def _gaps(configuration: str, column: str, slices: _Slices, baseline: str | None, level: float) -> list[SliceGap]:
    names = list(slices.positions)
    if len(names) < 2:
        return []
    # The best and the worst are one pair among all, so the interval has to hold for every pair.
    corrected = corrected_level(level, len(names) * (len(names) - 1) // 2)
    gaps = []
    for metric in slices.estimates[configuration, column, names[0]]:
        ranked = _ranked(configuration, column, metric, slices)
        if len(ranked) < 2:
            continue
        pair = ranked[-1], ranked[0]
        gap, drawn = slices.delta(configuration, column, metric, pair)
        change = None
        if baseline is not None and baseline != configuration:
            before, drawn_before = slices.delta(baseline, column, metric, pair)
            change = interval(gap - before, drawn - drawn_before, level=corrected)
        gaps.append(
            SliceGap(configuration, column, metric, *pair, gap=interval(gap, drawn, level=corrected), change=change)
        )
    return gaps


def _ranked(configuration: str, column: str, metric: str, slices: _Slices) -> list[str]:
    sign = 1 if higher_is_better(metric) else -1
    values = {value: slices.estimates[configuration, column, value][metric] for value in slices.positions}
    return sorted((value for value in values if not np.isnan(values[value])), key=lambda value: sign * values[value])
