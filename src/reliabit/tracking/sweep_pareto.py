"""The Pareto fronts of a sweep: one for each model, data set and way of measuring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reliabit.config import RegistryConfig

if TYPE_CHECKING:
    from reliabit.evaluation.cells import Cell
    from reliabit.evaluation.pareto import Pareto


def pareto_of_sweep(cells: "Sequence[Cell]", *, policy: RegistryConfig, compared: int) -> "dict[str, Pareto]":
    """Place the finished cells of a sweep.

    Args:
        cells: The finished cells. Those from before costs were measured are left out.
        policy: What will choose among them: its confidence (MaxProb where a cell has no other), risk, delta, resamples
            and level.
        compared: How many cells the sweep has, finished or not: what the gate corrects for.

    Returns:
        Fronts by model and data set, numbered where a sweep has several sets of cells of both.

    Raises:
        ReliabitError: A cell has no predictions, or lacks the split that reports.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.cells import SPEED, families_of, numbered
    from reliabit.evaluation.paired_reliability import Measurements, pareto_settings
    from reliabit.evaluation.pareto import pareto_front
    from reliabit.evaluation.prediction_columns import MAXPROB

    settings = pareto_settings(policy)
    fronts: dict[str, Pareto] = {}
    for members in families_of([cell for cell in cells if SPEED in cell.metrics]):
        everywhere = all(settings.confidence in cell.confidences for cell in members)
        own = settings if everywhere else replace(settings, confidence=MAXPROB)
        where = numbered(members[0].place, fronts, between=" · ")
        fronts[where] = pareto_front(members, Measurements(own, comparisons=compared))
    return fronts
