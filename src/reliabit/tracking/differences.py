"""What quantization costs: the cells of a sweep against their unquantized baseline, from their recorded predictions."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.tracking.recorded_predictions import RecordedPredictions
from reliabit.tracking.summary import decides, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run


@dataclass(frozen=True)
class Compared:
    """What a sweep's cells say when they are laid side by side, by file name.

    Attributes:
        tables: In Markdown.
        figures: Risk-coverage curves of all cells of a model and data set.
    """

    tables: dict[str, str]
    figures: "dict[str, Figure]"


def compare_with_baselines(
    runs: "Sequence[Run]", *, predictions: RecordedPredictions, settings: EvaluationConfig
) -> Compared:
    """Compare finished cells with the baseline of their model and data set.

    Args:
        runs: The finished cells of a sweep.
        predictions: What they recorded.
        settings: Resamples, level and seed.

    Returns:
        A comparison of each set of cells that differ in their quantization alone and have a baseline; several sets of
        one model and data set are numbered.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.comparison import compare, compare_slices
    from reliabit.evaluation.confidence_figures import overlay_figure
    from reliabit.evaluation.roles import MAXPROB, judged, reported_rows

    names = labels(runs)
    found = Compared(tables={}, figures={})
    for members in families_of(runs):
        baselines = [run for run in members if run.data.tags.get("quant") == "none"]
        if not baselines or len(members) < 2:
            continue
        others = [run for run in members if run not in baselines]
        answered = {names[run.info.run_id]: predictions.read(run) for run in [*baselines, *others]}
        baseline = names[baselines[0].info.run_id]
        where = _place(baselines[0], taken=found.tables)
        found.tables[f"differences.{where}.md"] = compare(answered, settings, baseline=baseline).markdown()
        if settings.slices:
            found.tables[f"slices.{where}.md"] = compare_slices(answered, settings, baseline=baseline)
        curves = {name: judged(reported_rows(table, settings.reported), MAXPROB) for name, table in answered.items()}
        found.figures[f"risk_coverage.{where}.png"] = overlay_figure(curves, title=f"{where} · {MAXPROB}")
    return found


def families_of(runs: "Sequence[Run]") -> "list[list[Run]]":
    """Put together the runs that differ in their quantization alone."""
    families: dict[tuple[tuple[str, str], ...], list[Run]] = defaultdict(list)
    for run in runs:
        families[_but_for_quantization(run)].append(run)
    return list(families.values())


def _but_for_quantization(run: "Run") -> tuple[tuple[str, str], ...]:
    # What a cell must share with its baseline: the questions, and everything else but how weights are stored.
    shared = {key: value for key, value in run.data.params.items() if not key.startswith("quant.") and decides(key)}
    return tuple(sorted(shared.items()))


def _place(baseline: "Run", *, taken: Collection[str]) -> str:
    """The model and data set of a family, numbered where a sweep has several of them."""
    name = f"{baseline.data.tags.get('model', '')}.{baseline.data.tags.get('data', '')}"
    same = sum(file.startswith(f"differences.{name}.") for file in taken)
    return f"{name}.{same + 1}" if same else name
