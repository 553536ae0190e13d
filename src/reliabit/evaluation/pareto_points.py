"""The points of a Pareto front: what configurations cost, and what their answers to the same questions are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.paired_reliability import ParetoSettings, measure_reliability
from reliabit.evaluation.pareto import Place, Point, level_of_each, places

if TYPE_CHECKING:
    import pyarrow as pa

STORED, RESIDENT = "efficiency/stored_bytes", "efficiency/resident_bytes"
SPEED = "efficiency/samples_per_second"
LATENCY = "efficiency/seconds_per_question"
"""One over `SPEED`, so that less is better in every cost."""


@dataclass(frozen=True, eq=False)
class Pareto:
    """Configurations and where they stand.

    Attributes:
        points: The configurations, widest stored weights first.
        places: Where each stands.
        settings: How they were measured.
    """

    points: tuple[Point, ...]
    places: Mapping[str, Place]
    settings: ParetoSettings


def pareto_of(
    tables: "Mapping[str, pa.Table]", efficiency: Mapping[str, Mapping[str, float]], settings: ParetoSettings
) -> Pareto:
    """Measure configurations on the same questions and place them.

    Args:
        tables: Predictions by configuration; see `reliabit.inference.predictions`.
        efficiency: The metrics `efficiency/...` of each of them.
        settings: What to measure. Certificates are recomputed for the best of all these configurations to be picked.

    Raises:
        ReliabitError: They were not asked the same questions, or one lacks a cost, the confidence or the split.
    """
    reliability = measure_reliability(tables, settings, comparisons=len(tables))
    points = [Point(name, costs_of(name, efficiency[name]), reliability[name].qualities) for name in tables]
    points.sort(key=lambda point: -point.costs[STORED])
    return Pareto(
        points=tuple(points),
        places=places(
            points,
            level=level_of_each(settings.level, points=len(points)),
            steps={LATENCY: settings.latency_tolerance},
        ),
        settings=settings,
    )


def costs_of(name: str, efficiency: Mapping[str, float]) -> dict[str, float]:
    """Stored bytes, resident bytes and seconds a question.

    Raises:
        ReliabitError: One of them was not measured.

    >>> found = costs_of("a", {STORED: 2e6, RESIDENT: 3e6, SPEED: 50.0, "efficiency/effective_bits": 4.5})
    >>> found[LATENCY]
    0.02
    """
    missing = [metric for metric in (STORED, RESIDENT, SPEED) if metric not in efficiency]
    if missing:
        raise ReliabitError(f"{name} has no {', '.join(missing)}; run it again to measure what it costs")
    return {STORED: efficiency[STORED], RESIDENT: efficiency[RESIDENT], LATENCY: 1 / efficiency[SPEED]}
