"""The Hydra entry: composes a configuration, checks it, and hands it to the task it names."""

import logging
import os
import string
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit import __version__
from reliabit.process import rare_collections
from reliabit.progress import step

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from reliabit.config import Config
    from reliabit.models.settings import ModelConfig

RESUME = "sweep.resume="
NO_CELL = ("-m", "--multirun", "sweep.", "tracking", "hydra", "paths.", "trainer.")
"""Arguments that say how and where a sweep runs, and not which cells it has."""

HELP = (["--help"], ["-h"])

INTERRUPTED = 130
"""The status of what was stopped with Ctrl-C, as shells report it: 128 and the number of SIGINT."""


def run_task(config: "Config") -> float | None:
    """Run the task that a configuration names.

    Returns:
        What a sweep may minimize: the AURC, for tasks that measure one.
    """
    if config.engine.loads_checkpoint:
        _name_checkpoint(config)
    else:
        config.model.name = config.engine.model or config.model.name
    # Tasks import torch, transformers and MLflow; `--help` and a refused configuration must not wait for them.
    with rare_collections(), step("loading libraries", shown=config.trainer.progress_bar):
        module = import_module(f"reliabit.tasks.{config.task.name}")
    task: Callable[[Config], float | None] = getattr(module, config.task.name)
    return task(config)


def _name_checkpoint(config: "Config") -> None:
    """Find the folder of the model, and what it and its quantization are called."""
    from reliabit.composition import as_quantized, model_name
    from reliabit.tasks._plans import planned

    config.model.path = _model_folder(config.model)
    config.model.name = model_name(config.model)
    config.quant = as_quantized(planned(config, config.model.folder), config.model.folder)


def _model_folder(model: "ModelConfig") -> str:
    """The folder that every task takes the model from, found on the hub's terms where it is pinned."""
    from reliabit.models.checkpoint_folder import find_checkpoint, is_pinned

    if not is_pinned(model.place, revision=model.revision):
        return model.place
    return str(find_checkpoint(model.place, revision=model.revision, download=model.download))


def main() -> None:
    """Run from the command line; what the user can put right ends in one line and status 2, Ctrl-C in one and 130."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"Reliabit {__version__}\n")
        return
    # A log that cannot be written, on a full disk, ends nothing and needs no traceback.
    logging.raiseExceptions = False
    show_traceback = "HYDRA_FULL_ERROR" in os.environ
    # Hydra would print exceptions itself, over several lines, and exit; ours to do.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    error: Exception | None = None
    try:
        with rare_collections():
            from reliabit.config_errors import in_one_line, refusals
            from reliabit.tracking.redaction import print_redacted, redact

        sys.excepthook = print_redacted
        error = _run()
    except BaseException as ended:
        if not _was_interrupted(ended):
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    if error is not None:
        if show_traceback or not isinstance(error, refusals()):
            raise error
        sys.stderr.write(redact(in_one_line(error)))
        sys.exit(2)


def _run() -> Exception | None:
    """Compose and run what the command line says; returns what ended it, for `main` to show without secrets."""
    from reliabit.config_errors import check_arguments, check_plain_arguments, options_are_added, refusals

    try:
        check_plain_arguments(sys.argv[1:])
    except refusals() as error:
        return error
    if sys.argv[1:2] == ["-sc"]:
        from reliabit.completion import answer_query

        if answer_query(sys.argv[1:]):
            return None
    if sys.argv[1:] in HELP and not options_are_added():
        with rare_collections():
            sys.stdout.write(help_text())
        return None
    with rare_collections():
        import hydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from reliabit.cluster import check_cell
        from reliabit.composition import register, to_config
        from reliabit.disk_errors import plain_disk_errors
        from reliabit.jobs import JobExit, claimed_output, release_folders, resolve_paths
        from reliabit.paths import conf_folder

    register()

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    def application(composed: "DictConfig") -> float | None:
        try:
            with plain_disk_errors():
                config = resolve_paths(to_config(composed))
                check_cell(parent_file=config.tracking.parent_file, cache=Path(config.paths.cache))
                with claimed_output(config):
                    return run_task(config)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            # Raised as it is, it would be reported by Hydra as well, with the overrides, passwords and all.
            raise JobExit(error) from error

    refused = False
    try:
        check_arguments(sys.argv[1:])
        sys.argv[1:] = resumed(sys.argv[1:])
        # Hydra makes folders and opens logs before the task begins.
        with plain_disk_errors():
            application()
    except refusals() as error:
        refused = True
        return error
    except JobExit as refusal:
        refused = isinstance(refusal.error, refusals())
        return refusal.error
    finally:
        release_folders(refused=refused)
    return None


def help_text() -> str:
    """What Hydra prints for `--help`; Hydra itself copies the whole configuration for each folder of options."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf, open_dict

    from reliabit.composition import register
    from reliabit.paths import conf_folder

    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", return_hydra_config=True)
    options = {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(conf_folder().iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }
    template = string.Template(composed.hydra.help.template)
    groups = "".join(f"{group}: {', '.join(names)}\n" for group, names in options.items())
    with open_dict(composed):
        del composed.hydra
    return template.substitute(APP_CONFIG_GROUPS=groups, CONFIG=OmegaConf.to_yaml(composed)) + "\n"


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C ended a run; Lightning makes an exit of its own of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__ if isinstance(error, SystemExit) else None
    return error is not None


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

    from reliabit.composition import to_config
    from reliabit.paths import conf_folder
    from reliabit.tracking.sweep.parent import overrides_of, sweep_to_resume
    from reliabit.tracking.tracker import open_tracker

    overrides = [argument for argument in arguments if not argument.startswith(("-", "hydra."))]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        tracking = to_config(compose("config", overrides=overrides)).tracking
    sweep = sweep_to_resume(open_tracker(tracking), named[-1].removeprefix(RESUME))
    others = [argument for argument in arguments if argument not in ("-m", "--multirun", *named)]
    # Another one may have become the last by the time that it is opened.
    return ["-m", *overrides_of(sweep), *others, f"{RESUME}{sweep.info.run_id}"]
