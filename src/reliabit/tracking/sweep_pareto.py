"""The Pareto fronts of a sweep: one for each model, data set and way of measuring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reliabit.evaluation.settings import ParetoSettings

if TYPE_CHECKING:
    from reliabit.evaluation.cells import Cell
    from reliabit.evaluation.pareto_points import Pareto


def pareto_of_sweep(cells: "Sequence[Cell]", *, policy: ParetoSettings, compared: int) -> "dict[str, Pareto]":
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
    from reliabit.evaluation.paired_reliability import Measurements
    from reliabit.evaluation.pareto_points import pareto_of
    from reliabit.evaluation.roles import MAXPROB

    fronts: dict[str, Pareto] = {}
    for members in families_of([cell for cell in cells if SPEED in cell.metrics]):
        everywhere = all(policy.confidence in cell.confidences for cell in members)
        own = policy if everywhere else replace(policy, confidence=MAXPROB)
        where = numbered(members[0].place, fronts, between=" · ")
        fronts[where] = pareto_of(members, Measurements(own, comparisons=compared))
    return fronts
