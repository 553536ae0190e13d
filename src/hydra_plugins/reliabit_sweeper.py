"""Hydra's sweeper, with the unquantized baseline beside every sweep and all cells checked before the first runs.

Hydra loads sweepers from the namespace `hydra_plugins` only, for every run; this is the one module that Reliabit keeps
there, and it imports what sweeps alone need when there is one.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

T = TypeVar("T")


class BaselineSweeper(BasicSweeper):
    """A grid over the command line's lists, run by whichever launcher is configured, under one parent run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what is swept, once what launches it is known to be there.

        Raises:
            ReliabitError: The launcher lacks something.
        """
        from reliabit.cluster import check_launcher

        check_launcher(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells.

        Raises:
            ReliabitError: A cell is refused, and none is run; or the sweep's folder or parent run is; or one failed.
        """
        from reliabit.cluster import share_folders
        from reliabit.jobs import SWEEP_FOLDER, claim_hydra_folder
        from reliabit.registry.verdict import verdicts
        from reliabit.tracking.redaction import write_redacted
        from reliabit.tracking.sweep.running import sweep_parent

        swept, cells = self._swept(), self._cells(arguments)
        asked = self._check(cells)
        with claim_hydra_folder(swept, key=SWEEP_FOLDER) as folder:
            share_folders(swept)
            write_redacted(swept, folder / "multirun.yaml")
            judge = partial(verdicts, policy=OmegaConf.to_object(swept.registry))
            with sweep_parent(swept, asked=asked, judge=judge):
                return self._launch(cells)

    def _cells(self, arguments: Sequence[str]) -> list[list[str]]:
        """The overrides of every cell, the baselines first."""
        parser = OverridesParser.create(config_loader=self._loader())
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        [cells] = self.split_arguments(overrides, None)
        return with_baselines(cells) if self._swept().sweep.baseline else cells

    def _check(self, cells: Sequence[Sequence[str]]) -> int:
        """Check every cell before the first one runs; returns how many different ones there are."""
        from reliabit.composition import to_config, to_mapping
        from reliabit.identity import cell_digest
        from reliabit.jobs import OUTPUT, WRITING, cell_folder, current_job, resolve_paths
        from reliabit.outputs import check_distinct
        from reliabit.progress import counted
        from reliabit.tasks.preflight import preflight

        folders: list[Path] = []
        outputs: list[Path] = []
        asked: set[str] = set()
        for number, cell in enumerate(counted(cells, "checking", total=len(cells), unit="cells")):
            composed = self._loader().load_sweep_config(self._swept(), list(cell))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            folder = cell_folder(composed)
            with current_job(composed, folder=folder):
                config = resolve_paths(to_config(composed))
            preflight(config)
            folders.append(folder)
            if config.task.name in WRITING:
                outputs.append(config.paths.output_folder())
            asked.add(cell_digest(to_mapping(config)))
        check_distinct(folders, key="hydra.sweep.subdir", remedy="put ${hydra.job.num} into it, or leave it out")
        check_distinct(outputs, key=OUTPUT, remedy="leave it out, or put into it what differs, such as ${quant.bits}")
        return len(asked)

    def _launch(self, cells: Sequence[Sequence[str]]) -> list[Any]:
        """Run the cells, all at once or, where those after a failed one are not to run, one by one."""
        from reliabit.tracking.redaction import redact

        launcher = _set_up(self.launcher)
        size = 1 if self._swept().sweep.on_failure == "stop" else len(cells)
        returns = []
        for first in range(0, len(cells), size):
            results = launcher.launch(cells[first : first + size], initial_job_idx=first)
            for result in results:
                if result.status == JobStatus.FAILED:
                    # `return_value` raises the same, and prints the overrides with whatever passwords are in them.
                    sys.stderr.write(f"the cell {redact(' '.join(result.overrides))} failed\n")
                    raise result._return_value
            returns.append(results)
        return returns

    def _swept(self) -> DictConfig:
        return _set_up(self.config)

    def _loader(self) -> Any:
        return _set_up(self.hydra_context).config_loader


def _set_up(part: T | None) -> T:
    if part is None:
        raise RuntimeError("Hydra sets the sweeper up before it asks for cells")
    return part


def with_baselines(cells: Sequence[list[str]]) -> list[list[str]]:
    """Put the unquantized baseline before the cells of a sweep, once for all that differ in `quant` alone.

    Args:
        cells: The overrides of each cell.

    Returns:
        The cells, with baselines first and every cell once.

    >>> with_baselines([["quant.bits=4"], ["quant.bits=2"]])
    [['quant=none'], ['quant.bits=4'], ['quant.bits=2']]
    >>> with_baselines([["quant=none", "quant.bits=4"], ["quant=hqq", "quant.bits=4"]])
    [['quant=none'], ['quant=hqq', 'quant.bits=4']]
    """
    baselines = [[*(part for part in cell if _key(part).split(".")[0] != "quant"), "quant=none"] for cell in cells]
    quantized = [cell for cell in cells if "quant=none" not in cell]
    unique: list[list[str]] = []
    for cell in [*baselines, *quantized]:
        if cell not in unique:
            unique.append(cell)
    return unique


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
