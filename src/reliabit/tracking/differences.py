"""What quantization costs: the cells of a sweep against their unquantized baseline, from their recorded predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reliabit.evaluation.cells import Cell


@dataclass(frozen=True)
class Compared:
    """What a sweep's cells say when they are laid side by side, by file name.

    Attributes:
        tables: In Markdown.
        figures: Risk-coverage curves of all cells of a model and data set.
    """

    tables: dict[str, str]
    figures: "dict[str, Figure]"


def compare_with_baselines(cells: "Sequence[Cell]", *, settings: EvaluationConfig) -> Compared:
    """Compare finished cells with the baseline of their model and data set.

    Args:
        cells: The finished cells of a sweep.
        settings: Resamples, level and seed.

    Returns:
        A comparison of each set of cells that differ in their quantization alone and have a baseline; several sets of
        one model and data set are numbered.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.cells import families_of, numbered
    from reliabit.evaluation.comparison import compare, compare_slices
    from reliabit.evaluation.figures import overlay_figure
    from reliabit.evaluation.prediction_columns import MAXPROB, reported_rows, scored_answers

    found = Compared(tables={}, figures={})
    places: list[str] = []
    for members in families_of(cells):
        baselines = [cell for cell in members if cell.unquantized]
        if not baselines or len(members) < 2:
            continue
        answered = {cell.name: cell.answers for cell in sorted(members, key=lambda cell: not cell.unquantized)}
        baseline = baselines[0].name
        where = numbered(baselines[0].place.replace(" · ", "."), places, between=".")
        places.append(where)
        found.tables[f"differences.{where}.md"] = compare(answered, settings, baseline=baseline).markdown()
        if settings.slices:
            found.tables[f"slices.{where}.md"] = compare_slices(answered, settings, baseline=baseline)
        curves = {
            name: scored_answers(reported_rows(table, settings.reported), MAXPROB) for name, table in answered.items()
        }
        found.figures[f"risk_coverage.{where}.png"] = overlay_figure(curves, title=f"{where} · {MAXPROB}")
    return found
