"""Which configurations are worth having: the Pareto front over costs and qualities, with uncertainty.

One point dominates another where it is no worse in every objective and better in one. Costs are known (bytes) or
compared in steps (a latency that was measured once); qualities are estimates on one draw of questions, so a domination
by point values may be luck. It is sure where, in each quality, the lower confidence bound of the paired difference is
at least zero. To dominate is to be no worse everywhere, an intersection-union test: each part is tested at the full
level without a correction for their number (Berger 1982, Multiparameter hypothesis testing and acceptance sampling).

The bound is `difference - z * standard error`, with the standard error of the paired bootstrap (Efron and Tibshirani
1993, chapter 13), and not a percentile: standard errors of differences obey the triangle inequality, and so sure
domination is transitive. A configuration is then never thrown out by way of one that is thrown out itself. What is
subtracted is no less than what could be lost without one loss being seen (`reliabit.metrics.cluster_mean`), since a
bootstrap without a difference has no standard error; that is one number for all pairs, and the larger of two distances
is a distance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import LATENCY, STORED, Cell
from reliabit.evaluation.paired_reliability import Measurements, Reliability, label
from reliabit.metrics.intervals import corrected_level
from reliabit.metrics.metric import higher_is_better

Standing: TypeAlias = Literal["front", "undecided", "dominated"]


@dataclass(frozen=True)
class Place:
    """Where a point stands.

    Attributes:
        standing: `front`: no other point dominates it by point values. `undecided`: one does, but not surely, so it
            stays. `dominated`: one surely does.
        by: The points that dominate it: surely if it is `dominated`, else by point values.
    """

    standing: Standing
    by: tuple[str, ...] = ()

    @property
    def stays(self) -> bool:
        """Whether it is worth having as far as the data tell."""
        return self.standing != "dominated"


@dataclass(frozen=True, eq=False)
class Pareto:
    """Cells and where they stand.

    Attributes:
        points: The cells, widest stored weights first.
        places: Where each stands.
        measurements: How they were measured.
    """

    points: tuple[Reliability, ...]
    places: Mapping[str, Place]
    measurements: Measurements

    @property
    def certified_label(self) -> str:
        """What certified coverage is called here and elsewhere."""
        measurements = self.measurements
        settings = measurements.settings
        return label(settings.certified_coverage, settings.confidence, comparisons=measurements.comparisons)

    @property
    def certified(self) -> dict[str, float]:
        """The certified coverage of each cell for which one was measured."""
        metric = self.measurements.settings.certified_coverage
        return {point.name: point.qualities[metric].estimate for point in self.points if metric in point.qualities}


def pareto_front(cells: Sequence[Cell], measurements: Measurements) -> Pareto:
    """Measure cells on the same questions and place them.

    Args:
        cells: The cells.
        measurements: What to measure, and for the best of how many; every one of them counts as a rival, also those
            that could not be measured.

    Raises:
        ReliabitError: They were not asked the same questions, or one lacks a cost, the confidence or the split.
    """
    settings = measurements.settings
    points = sorted(measurements.of(cells), key=lambda point: -point.costs[STORED])
    return Pareto(
        points=tuple(points),
        places=places(
            points,
            level=level_of_each(settings.level, points=measurements.comparisons),
            steps={LATENCY: settings.latency_tolerance},
        ),
        measurements=measurements,
    )


def places(
    points: Sequence[Reliability], *, level: float, steps: Mapping[str, float] | None = None
) -> dict[str, Place]:
    """Where each point stands.

    Args:
        points: All with the same costs and qualities.
        level: Confidence, in (0.5, 1), of each single "surely"; see `level_of_each`.
        steps: For costs that are measured with noise, the relative difference that means nothing: they are compared
            rounded down to powers of 1 + step. Two values that are closer may still fall into different steps, which
            can only keep a point. A tolerance for each pair would avoid that, but 1.00 would be like 1.04 and 1.04 like
            1.08 and yet 1.00 unlike 1.08: domination would not be transitive.

    Returns:
        Name to place, in the order of the points; at least one point is on the front.

    Raises:
        ReliabitError: Points lack a name of their own, an objective that others have, or a number.

    >>> from reliabit.evaluation.paper._contrasts import Resampled
    >>> accuracy = lambda *values: {"accuracy/mean": Resampled(np.mean(values), np.array(values))}
    >>> found = places(
    ...     [
    ...         Reliability("4 bits", {"bytes": 4}, accuracy(0.80, 0.90)),
    ...         Reliability("rival", {"bytes": 5}, accuracy(0.75, 0.94)),
    ...         Reliability("loser", {"bytes": 5}, accuracy(0.70, 0.80)),
    ...     ],
    ...     level=0.95,
    ... )
    >>> {name: place.standing for name, place in found.items()}
    {'4 bits': 'front', 'rival': 'undecided', 'loser': 'dominated'}
    """
    _check(points, level=level)
    reach = NormalDist().inv_cdf(level)
    stepped = {point.name: _stepped(point.costs, steps or {}) for point in points}

    def dominates(one: Reliability, other: Reliability, *, reach: float) -> bool:
        saved = [stepped[other.name][cost] - stepped[one.name][cost] for cost in one.costs]
        gains = [_lowest_gain(metric, one, other, reach=reach) for metric in one.qualities]
        return min([*saved, *gains]) >= 0 < max([*saved, *gains])

    found = {}
    for point in points:
        rivals = [other for other in points if other is not point and dominates(other, point, reach=0.0)]
        sure = tuple(other.name for other in rivals if dominates(other, point, reach=reach))
        standing: Standing = "dominated" if sure else "undecided" if rivals else "front"
        found[point.name] = Place(standing, sure or tuple(other.name for other in rivals))
    return found


def level_of_each(level: float, *, points: int) -> float:
    """The level of each comparison, so that a point that nothing dominates stays with the probability `level`.

    Any of the other points may throw it out by luck (Bonferroni); the objectives of one comparison need no correction.

    >>> round(level_of_each(0.95, points=6), 6)
    0.99
    """
    return corrected_level(level, points - 1)


def _lowest_gain(metric: str, one: Reliability, other: Reliability, *, reach: float) -> float:
    """By how much one point is better than another in a quality, less so many standard errors of the difference."""
    difference = one.qualities[metric].minus(other.qualities[metric])
    gain = difference if higher_is_better(metric) else difference.times(-1.0)
    slack = reach * float(np.std(gain.replicates))
    if gain.mean and reach > 0:
        # Of an interval with the lower end of so many standard errors.
        unseen = gain.mean.unseen(level=2 * NormalDist().cdf(reach) - 1)
        slack = max(slack, -gain.mean.low * unseen)
    return gain.estimate - slack


def _stepped(costs: Mapping[str, float], steps: Mapping[str, float]) -> dict[str, float]:
    return {
        name: floor(log(value) / log(1 + steps[name])) if steps.get(name) else value for name, value in costs.items()
    }


def _check(points: Sequence[Reliability], *, level: float) -> None:
    if not points:
        raise ReliabitError("there is no configuration to compare; finish at least one")
    if not 0.5 < level < 1:
        raise ReliabitError(f"level is {level:g}; it must lie in (0.5, 1)")
    if len({point.name for point in points}) < len(points):
        raise ReliabitError("two configurations have the same name; tell them apart")
    first = points[0]
    for point in points:
        for kind, own, others in (
            ("cost", point.costs, first.costs),
            ("quality", point.qualities, first.qualities),
        ):
            if set(own) != set(others):
                raise ReliabitError(
                    f"{point.name} and {first.name} differ in which {kind} is known "
                    f"({', '.join(sorted(set(own) ^ set(others)))}); measure both alike"
                )
        values = [*point.costs.values(), *(quality.estimate for quality in point.qualities.values())]
        if not np.isfinite(values).all() or min(point.costs.values(), default=1) <= 0:
            raise ReliabitError(
                f"{point.name} has an objective that is no number, or a cost of nothing; measure it again"
            )
        if any(np.isnan(quality.replicates).any() for quality in point.qualities.values()):
            raise ReliabitError(f"{point.name} has a quality that resamples leave undefined; leave it out or ask more")
