"""`task=promote`: what the gate says of the versioned pipeline's cells. It changes nothing: `reliabit promote` does."""

import json
from pathlib import Path
from typing import Any

import yaml

from reliabit.config import Config
from reliabit.evaluation.pareto_report import pareto_figure
from reliabit.files import staged_folder
from reliabit.paths import project_root
from reliabit.progress import step
from reliabit.registry.choosing import Choice, choose
from reliabit.terminal import show_markdown, show_result, shown_path
from reliabit.tracking.recorded_cells import Competing


def promote(config: Config) -> None:
    """Choose among the cells that `params.yaml` names and write the choice, with its reasons and the Pareto plot.

    Raises:
        ReliabitError: A cell is missing, or `task.results` is not set.
    """
    pipeline: dict[str, Any] = yaml.safe_load((project_root() / "params.yaml").read_text(encoding="utf-8"))["pipeline"]
    cells = Competing(config.model.name, config.data.name, quantizers=pipeline["quantizers"], bits=pipeline["bits"])
    with step("reading, certifying and comparing cells", shown=config.trainer.progress_bar):
        choice = choose(cells.read(Path(config.task.place("results"))), config.registry)
    output = config.paths.output_folder()
    _write_choice(choice, output, title=f"{config.model.name} · {config.data.name}")
    show_markdown(choice.markdown())
    found = "no cell passes" if choice.candidate is None else f"the choice is {choice.candidate.name}"
    show_result(f"{found}; nothing is changed", [("folder", shown_path(output))], then="reliabit sync")


def _write_choice(choice: Choice, folder: Path, *, title: str) -> None:
    """Write `choice.md`, `choice.json` and the figure; whole or not at all."""
    with staged_folder(folder) as staging:
        (staging / "choice.md").write_text(choice.markdown(), encoding="utf-8")
        (staging / "choice.json").write_text(json.dumps(choice.to_dict(), indent=1) + "\n", encoding="utf-8")
        if choice.pareto is not None:
            figure = pareto_figure({title: choice.pareto})
            figure.savefig(staging / "pareto.png", format="png", dpi=120)
