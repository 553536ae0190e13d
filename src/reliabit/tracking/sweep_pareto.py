"""The Pareto fronts of a recorded sweep: one for each model, data set and way of measuring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reliabit.config import RegistryConfig
from reliabit.tracking.differences import families_of
from reliabit.tracking.recorded_predictions import RecordedPredictions
from reliabit.tracking.summary import labels

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.pareto_points import Pareto


def pareto_of_sweep(
    runs: "Sequence[Run]", *, predictions: RecordedPredictions, policy: RegistryConfig
) -> "dict[str, Pareto]":
    """Place the finished cells of a sweep, from the predictions that they recorded.

    Args:
        runs: The finished cells. Those from before costs were measured are left out.
        predictions: What they recorded.
        policy: What will choose among them: its confidence (MaxProb where a cell has no other), risk, delta, resamples
            and level.

    Returns:
        Fronts by model and data set, numbered where a sweep has several sets of cells of both.

    Raises:
        ReliabitError: A cell has no predictions, or lacks the split that reports.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.paired_reliability import pareto_settings
    from reliabit.evaluation.pareto_points import SPEED, pareto_of
    from reliabit.evaluation.roles import MAXPROB, confidences_of

    names = labels(runs)
    settings = pareto_settings(policy)
    fronts: dict[str, Pareto] = {}
    for members in families_of([run for run in runs if SPEED in run.data.metrics]):
        tables = {names[run.info.run_id]: predictions.read(run) for run in members}
        everywhere = all(settings.confidence in confidences_of(table) for table in tables.values())
        confidence = settings.confidence if everywhere else MAXPROB
        where = f"{members[0].data.tags.get('model', '')} · {members[0].data.tags.get('data', '')}"
        same = sum(name == where or name.startswith(f"{where} · ") for name in fronts)
        fronts[f"{where} · {same + 1}" if same else where] = pareto_of(
            tables,
            {names[run.info.run_id]: run.data.metrics for run in members},
            replace(settings, confidence=confidence),
        )
    return fronts
