"""`task=promote`: what the gate says of the versioned pipeline's cells. It changes nothing: `reliabit promote` does."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from reliabit.config import Config
from reliabit.evaluation.cells import Cell, common_confidence
from reliabit.evaluation.pareto_figures import write_pareto
from reliabit.evaluation.prediction_columns import reported_rows, scored_answers
from reliabit.evaluation.short_names import short_names
from reliabit.evaluation.tables import cells_table
from reliabit.files import staged_folder
from reliabit.paths import project_root
from reliabit.progress import step
from reliabit.registry.choosing import Choice, choose
from reliabit.registry.policy import Policy
from reliabit.terminal import show_markdown, show_result, shown_path
from reliabit.tracking.recorded_cells import Competing


def promote(config: Config) -> None:
    """Choose among the cells that `params.yaml` names and write the choice, with its reasons and the Pareto plot.

    Raises:
        ReliabitError: A cell is missing, or `task.results` is not set.
    """
    pipeline: dict[str, Any] = yaml.safe_load((project_root() / "params.yaml").read_text(encoding="utf-8"))["pipeline"]
    competing = Competing(config.model.name, config.data.name, quantizers=pipeline["quantizers"], bits=pipeline["bits"])
    with step("reading, certifying and comparing cells", shown=config.trainer.progress_bar):
        cells = competing.read(Path(config.task.place("results")))
        choice = choose(cells, config.registry)
        curves = _curves(cells, config.registry)
    output, title = config.paths.output_folder(), f"{config.model.name} · {config.data.name}"
    _write_choice(choice, curves, output, title=title, axis=config.sweep.pareto_axis)
    show_markdown(choice.markdown())
    found = "no cell passes" if choice.candidate is None else f"the choice is {choice.candidate.name}"
    show_result(f"{found}; nothing is changed", [("folder", shown_path(output))], then="reliabit sync")


def _curves(cells: Sequence[Cell], policy: Policy) -> str:
    """What the answers of all cells risk by how many are given, by the policy's confidence."""
    confidence = common_confidence(cells, wanted=policy.confidence)
    answers = [scored_answers(reported_rows(cell.answers, policy.reported), confidence) for cell in cells]
    return cells_table(dict(zip(short_names([cell.name for cell in cells]), answers, strict=True)))


def _write_choice(choice: Choice, curves: str, folder: Path, *, title: str, axis: str) -> None:
    """Write `choice.md`, `choice.json`, the curves and the figures; whole or not at all."""
    with staged_folder(folder) as staging:
        (staging / "choice.md").write_text(choice.markdown(), encoding="utf-8")
        (staging / "choice.json").write_text(json.dumps(choice.to_dict(), indent=1) + "\n", encoding="utf-8")
        (staging / "risk_coverage.csv").write_text(curves, encoding="utf-8")
        if choice.pareto is not None:
            write_pareto({title: choice.pareto}, staging, axis=axis)
