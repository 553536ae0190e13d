"""How sure a metric is: bootstrap by image, with the same resamples for every configuration.

Questions about one image share its difficulty, so images are drawn, not questions (cluster bootstrap, Field and Welsh
2007). Every configuration and slice sees the same draws, which makes differences much surer than their parts.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, IntArray
from reliabit.metrics.functional.ranking import Ranking
from reliabit.metrics.intervals import (
    Correction,
    Difference,
    Interval,
    correct_p_values,
    corrected_level,
    interval,
    two_sided_p_value,
)
from reliabit.metrics.suite import Predictions, Suite, suite_for

Key = TypeVar("Key", bound=Hashable)

# Elements of one array that stay in the cache of a core between the passes over them.
_CACHED_ELEMENTS = 1 << 17
DRAWN_ELEMENTS = 1 << 20


@dataclass(frozen=True, eq=False)
class Job:
    """One set of predictions to resample.

    Attributes:
        ranking: The predictions, sorted once.
        clusters: Shape `(N,)`, the image at each position of the ranking, in the numbering that all jobs share.
        thresholds: Cost to threshold, see `Predictions`.
    """

    ranking: Ranking
    clusters: IntArray
    thresholds: Mapping[float, float]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Metrics of several configurations on the data and on its resamples.

    Attributes:
        estimates: Configuration to metric to value.
        replicates: Configuration to metric to values of shape `(n_resamples,)`, paired across configurations.
    """

    estimates: Mapping[str, Mapping[str, float]]
    replicates: Mapping[str, Mapping[str, FloatArray]]

    def interval(self, configuration: str, metric: str, *, level: float = 0.95) -> Interval:
        """The metric of one configuration with its interval."""
        return interval(self.estimates[configuration][metric], self.replicates[configuration][metric], level=level)

    def compare(
        self,
        baseline: str,
        metric: str,
        *,
        others: Sequence[str] | None = None,
        correction: Correction = "holm",
        level: float = 0.95,
    ) -> dict[str, Difference]:
        """Differences of other configurations to a baseline, corrected for their number.

        Args:
            baseline: The configuration to subtract.
            metric: The metric.
            others: Those that are compared with it; all by default.
            correction: Of the p-values. Unless `none`, the intervals hold all at once (Bonferroni) in either case,
                because Holm's procedure has no intervals of its own.
            level: Confidence level of all intervals together.

        Returns:
            Configuration to difference.

        Raises:
            ReliabitError: The baseline is not among the configurations.
        """
        if baseline not in self.estimates:
            raise ReliabitError(f"baseline is {baseline!r}; it must be one of {', '.join(self.estimates)}")
        others = [name for name in self.estimates if name != baseline] if others is None else others
        comparisons = 1 if correction == "none" else max(1, len(others))
        deltas = {name: self.replicates[name][metric] - self.replicates[baseline][metric] for name in others}
        p_values = correct_p_values([two_sided_p_value(delta) for delta in deltas.values()], correction)
        found = {}
        for (name, delta), p_value in zip(deltas.items(), p_values, strict=True):
            estimate = self.estimates[name][metric] - self.estimates[baseline][metric]
            ends = interval(estimate, delta, level=corrected_level(level, comparisons))
            found[name] = Difference(ends.estimate, ends.low, ends.high, ends.level, p_value, comparisons)
        return found


def cluster_bootstrap(
    configurations: Mapping[str, Predictions],
    image_ids: Sequence[Hashable] | npt.NDArray[Any],
    *,
    suite: Suite | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    workers: int = 1,
) -> Bootstrap:
    """Resample images with replacement and compute every metric of every configuration on each resample.

    Args:
        configurations: Name to predictions, all about the same N questions in the same order.
        image_ids: Shape `(N,)`, the image of each question.
        suite: Which metrics; every one by default.
        n_resamples: How many resamples.
        seed: Seed of the draws; resample i is the same for the same seed and number of images, whatever else differs.
        workers: Threads; the result does not depend on them.

    Returns:
        Estimates and replicates.

    Raises:
        ReliabitError: An argument is unusable or lengths differ.

    >>> data = Predictions([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    >>> result = cluster_bootstrap({"bf16": data}, ["a", "a", "b", "c"], n_resamples=200)
    >>> result.interval("bf16", "accuracy/mean").estimate
    0.75
    """
    chosen = suite or suite_for(configurations.values())
    clusters, n_clusters = number_images(image_ids)
    jobs = {}
    for name, predictions in configurations.items():
        ranking = chosen.rank(predictions)
        check_rows(name, ranking.n_items, len(clusters))
        jobs[name] = Job(ranking, clusters[ranking.order], predictions.thresholds)
    estimates = {name: estimate(job, chosen) for name, job in jobs.items()}
    drawn = replicate(jobs, n_clusters, suite=chosen, n_resamples=n_resamples, seed=seed, workers=workers)
    return Bootstrap(estimates, drawn)


def check_rows(name: str, n_rows: int, n_images: int) -> None:
    """Refuse predictions that are not about the same questions as the image ids."""
    if n_rows != n_images:
        raise ReliabitError(f"configurations[{name!r}] has {n_rows} predictions and image_ids has {n_images}")


def estimate(job: Job, suite: Suite) -> dict[str, float]:
    """The metrics on the data itself."""
    return {name: float(value) for name, value in suite.values(job.ranking.groups(), job.thresholds).items()}


def number_images(image_ids: Sequence[Hashable] | npt.NDArray[Any]) -> tuple[IntArray, int]:
    """Number images in order of appearance.

    >>> number_images(["b", "a", "b"])
    (array([0, 1, 0]), 2)
    """
    numbers: dict[Hashable, int] = {}
    keys = image_ids.tolist() if isinstance(image_ids, np.ndarray) else image_ids
    codes = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=len(keys))
    if not len(codes):
        raise ReliabitError("image_ids is empty; at least one value is needed")
    return codes, len(numbers)


def replicate(
    jobs: Mapping[Key, Job], n_clusters: int, *, suite: Suite, n_resamples: int, seed: int, workers: int = 1
) -> dict[Key, dict[str, FloatArray]]:
    """The metrics of each job on the same resamples, each of shape `(n_resamples,)`."""
    if n_resamples < 1:
        raise ReliabitError(f"n_resamples is {n_resamples}; it must be at least 1")
    rows = max(1, min(-(-n_resamples // max(1, workers)), DRAWN_ELEMENTS // n_clusters))
    spans = [range(start, min(start + rows, n_resamples)) for start in range(0, n_resamples, rows)]

    def run(span: range) -> dict[Key, list[dict[str, FloatArray]]]:
        counts = draw_counts(n_clusters, span, seed)
        return {key: list(_job_values(job, counts, suite)) for key, job in jobs.items()}

    with ThreadPoolExecutor(max(1, workers)) as pool:
        parts = list(pool.map(run, spans))
    return {key: _concatenate([chunk for part in parts for chunk in part[key]]) for key in jobs}


@lru_cache(maxsize=8)
def draw_counts(n_clusters: int, resamples: range, seed: int) -> IntArray:
    """How often each image occurs in each resample, shape `(len(resamples), n_clusters)`; not to be written to.

    What was drawn last is kept, as whoever compares configurations draws the same again and again.
    """
    counts = np.empty((len(resamples), n_clusters), dtype=np.int64)
    for row, index in enumerate(resamples):
        # A generator a resample makes it independent of how resamples are grouped or spread over threads.
        drawn = np.random.default_rng([seed, index]).integers(n_clusters, size=n_clusters)
        counts[row] = np.bincount(drawn, minlength=n_clusters)
    counts.flags.writeable = False
    return counts


def _job_values(job: Job, counts: IntArray, suite: Suite) -> Iterator[dict[str, FloatArray]]:
    rows = max(1, _CACHED_ELEMENTS // job.ranking.n_items)
    for start in range(0, len(counts), rows):
        weights = counts[start : start + rows].take(job.clusters, axis=1)
        yield suite.values(job.ranking.groups(weights), job.thresholds)


def _concatenate(chunks: list[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
