"""`task=promote`: what the gate says of the versioned pipeline's cells. It changes nothing: `reliabit promote` does."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from reliabit.config import Config
from reliabit.evaluation.pareto_figures import write_pareto
from reliabit.files import staged_folder
from reliabit.paths import project_root
from reliabit.registry.choosing import Choice, choose
from reliabit.tracking.recorded_cells import Competing


def promote(config: Config) -> None:
    """Choose among the cells that `params.yaml` names and write the choice, with its reasons and the Pareto plot.

    Raises:
        ReliabitError: A cell is missing, or `task.results` is not set.
    """
    pipeline: dict[str, Any] = yaml.safe_load((project_root() / "params.yaml").read_text(encoding="utf-8"))["pipeline"]
    cells = Competing(config.model.name, config.data.name, quantizers=pipeline["quantizers"], bits=pipeline["bits"])
    choice = choose(cells.read(Path(config.task.place("results"))), config.registry)
    title = f"{config.model.name} · {config.data.name}"
    _write_choice(choice, config.paths.output_folder(), title=title, axis=config.sweep.pareto_axis)
    sys.stdout.write(choice.markdown())


def _write_choice(choice: Choice, folder: Path, *, title: str, axis: str) -> None:
    """Write `choice.md`, `choice.json` and the figures; whole or not at all."""
    with staged_folder(folder) as staging:
        (staging / "choice.md").write_text(choice.markdown(), encoding="utf-8")
        (staging / "choice.json").write_text(json.dumps(choice.to_dict(), indent=1) + "\n", encoding="utf-8")
        if choice.pareto is not None:
            write_pareto({title: choice.pareto}, staging, axis=axis)
