"""The Hydra entry: composes a configuration, checks it, and hands it to the task it names."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import conf_folder, register, to_config
from reliabit.config import Config, ModelConfig
from reliabit.config_errors import in_one_line
from reliabit.disk_errors import plain_disk_errors
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from omegaconf import DictConfig

RESUME = "sweep.resume="
NO_CELL = ("-m", "--multirun", "sweep.", "tracking", "hydra", "paths.", "trainer.")
"""Arguments that say how and where a sweep runs, and not which cells it has."""


def run_task(config: Config) -> float | None:
    """Run the task that a configuration names.

    Returns:
        What a sweep may minimize: the AURC, for tasks that measure one.
    """
    from reliabit.models.quantization_record import as_quantized
    from reliabit.tasks.preflight import preflight

    preflight(config)
    config.model.path = _model_folder(config.model)
    config.quant = as_quantized(config.quant, Path(config.model.path))
    # Tasks import torch, transformers and MLflow; `--help` and a refused configuration must not wait for them.
    module = import_module(f"reliabit.tasks.{config.task.name}")
    task: Callable[[Config], float | None] = getattr(module, config.task.name)
    return task(config)


def _model_folder(model: ModelConfig) -> str:
    """The folder that every task takes the model from, found on the hub's terms where it is pinned."""
    from reliabit.models.hub import find_checkpoint, is_pinned

    if not is_pinned(model.path, revision=model.revision):
        return model.path
    return str(find_checkpoint(model.path, revision=model.revision, download=model.download))


def main() -> None:
    """Run from the command line; what the user can put right ends in one line and status 2."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    register()
    show_traceback = "HYDRA_FULL_ERROR" in os.environ
    # Hydra would print exceptions itself, over several lines, and exit; ours to do.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    refused: list[ReliabitError] = []

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    def application(composed: "DictConfig") -> float | None:
        try:
            with plain_disk_errors():
                return run_task(_placed(to_config(composed)))
        except ReliabitError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            # Raised from here, it would be reported by Hydra as well.
            refused.append(error)
            return None

    try:
        sys.argv[1:] = resumed(sys.argv[1:])
        application()
        if refused:
            raise refused[0]
    except (ReliabitError, HydraException, OmegaConfBaseException) as error:
        if show_traceback:
            raise
        sys.stderr.write(in_one_line(error))
        sys.exit(2)
    finally:
        _close_abandoned_sweep()


def resumed(arguments: list[str]) -> list[str]:
    """The arguments of a sweep to go on with, where the command line says no more than which one it is.

    They are put in before anything is composed: the cells, the evaluation and the report are then those of the sweep.

    Raises:
        ReliabitError: There is no such sweep.
    """
    named = [argument for argument in arguments if argument.startswith(RESUME)]
    if not named or not all(argument.startswith(NO_CELL) for argument in arguments):
        return arguments
    from hydra import compose, initialize_config_dir

    from reliabit.tracking.opening import open_tracker
    from reliabit.tracking.resuming import find_sweep, overrides_of

    overrides = [argument for argument in arguments if not argument.startswith(("-", "hydra."))]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        tracking = to_config(compose("config", overrides=overrides)).tracking
    sweep = find_sweep(open_tracker(tracking), named[-1].removeprefix(RESUME))
    return ["-m", *overrides_of(sweep), *(argument for argument in arguments if argument not in ("-m", "--multirun"))]


def _placed(config: Config) -> Config:
    """Fill in what Hydra decides for a job: where it writes and, in a sweep, where its parent run is named."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from reliabit.tracking.tracker import parent_file

    job = HydraConfig.get()
    config.paths.output = config.paths.output or job.runtime.output_dir
    if job.mode == RunMode.MULTIRUN:
        config.tracking.parent_file = str(parent_file(Path(job.sweep.dir)))
    return config


def _close_abandoned_sweep() -> None:
    # Hydra does not tell its callbacks when a sweep raises; the module is loaded only where there was a sweep.
    sweep_parent = sys.modules.get("reliabit.tracking.sweep_parent")
    if sweep_parent is not None:
        sweep_parent.close_abandoned()
