"""What quantization costs: the cells of a sweep against their unquantized baseline, from their recorded predictions."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.tracking.summary import labels
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run


def compare_with_baselines(runs: "Sequence[Run]", *, tracker: Tracker, settings: EvaluationConfig) -> dict[str, str]:
    """Compare finished cells with the baseline of their model and data set.

    Args:
        runs: The finished cells of a sweep.
        tracker: Where they are recorded.
        settings: Resamples, level and seed.

    Returns:
        A table in Markdown by file name, one for each model and data set that has a baseline and other cells.
    """
    # scipy and pyarrow take a second to import, and a sweep of baselines needs neither.
    from reliabit.evaluation.comparison import compare, compare_slices

    names = labels(runs)
    families: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        families[run.data.tags.get("model", ""), run.data.tags.get("data", "")].append(run)
    tables = {}
    for (model, data), members in families.items():
        baselines = [run for run in members if run.data.tags.get("quant") == "none"]
        if not baselines or len(members) < 2:
            continue
        with TemporaryDirectory() as folder:
            predictions = {
                names[run.info.run_id]: read_predictions(
                    tracker.fetch(run.info.run_id, PREDICTIONS, _made(Path(folder) / run.info.run_id))
                )
                for run in [*baselines, *members]
            }
        baseline = names[baselines[0].info.run_id]
        tables[f"differences.{model}.{data}.md"] = compare(predictions, settings, baseline=baseline).markdown()
        if settings.slices:
            tables[f"slices.{model}.{data}.md"] = compare_slices(predictions, settings, baseline=baseline)
    return tables


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
