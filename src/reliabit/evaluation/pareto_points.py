"""The Pareto front of measured cells: what they cost, and what their answers to the same questions are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reliabit.evaluation.cells import LATENCY, STORED, Cell
from reliabit.evaluation.paired_reliability import Measurements, Reliability, label
from reliabit.evaluation.pareto import Place, level_of_each, places


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


def pareto_of(cells: Sequence[Cell], measurements: Measurements) -> Pareto:
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
