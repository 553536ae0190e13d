"""Hydra's jobs: what is checked before one begins, and the folders that it claims.

Hydra makes a job's folder and writes into it before the job begins. `BeforeRun` comes first: it checks a single run and
claims its folders. The sweeper checks all jobs of a sweep, which write below the folder that it claims.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from reliabit.composition import to_config
from reliabit.config import Config
from reliabit.config_errors import quoted
from reliabit.disk_errors import plain_disk_errors
from reliabit.errors import ReliabitError
from reliabit.outputs import ClaimedFolder, claim, claim_free
from reliabit.tasks.preflight import preflight
from reliabit.tracking.redaction import RECORDS, write_records

WRITING = ("search", "answer", "select", "evaluate", "report", "promote", "pipeline")
"""The tasks that write to `paths.output`."""

OUTPUT, RUN_FOLDER, SWEEP_FOLDER = "paths.output", "hydra.run.dir", "hydra.sweep.dir"

_claimed: list[ClaimedFolder] = []


class JobExit(BaseException):
    """Carries the `error` that ends a job past Hydra, which only warns of its callbacks' errors and prints others."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class BeforeRun(Callback):
    """Checks a single run and claims its folders, before Hydra writes to them; see `release_folders`."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the configuration, and claim the folders."""
        try:
            with current_job(config, folder=Path(str(config.hydra.run.dir))):
                checked = resolve_paths(to_config(config))
                preflight(checked)
                _claim_folders(config, checked)
        except (ReliabitError, OmegaConfBaseException) as error:
            raise JobExit(error) from error


class Records(Callback):
    """Writes the records that Hydra would leave beside a job's output, without credentials."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Write them; where the user has Hydra write its own as well, over those."""
        folder = Path(str(config.hydra.runtime.output_dir), config.hydra.output_subdir or RECORDS)
        try:
            with plain_disk_errors():
                write_records(config, folder)
        except ReliabitError as error:
            raise JobExit(error) from error


def release_folders(*, refused: bool) -> None:
    """Release the folders of a single run.

    Args:
        refused: Whether it came to nothing, so that a folder with nothing but Hydra's records goes as well.
    """
    while _claimed:
        _claimed.pop().release(unless=(RECORDS, "reliabit.log") if refused else ())


@contextmanager
def current_job(config: DictConfig, *, folder: Path) -> Iterator[None]:
    """Make a configuration that of Hydra's current job while it is checked.

    Args:
        config: The composed configuration, Hydra's own included.
        folder: The folder of the job.
    """
    before = HydraConfig.instance().cfg
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def cell_folder(config: DictConfig) -> Path:
    """The folder of a sweep's job, by its composed configuration."""
    return Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)).absolute()


def resolve_paths(config: Config) -> Config:
    """Fill in what Hydra decides for the current job: where it writes and, in a sweep, where its parent is named."""
    from reliabit.tracking.sweep.parent import parent_file

    job = HydraConfig.get()
    config.paths.output = config.paths.output or job.runtime.output_dir
    if job.mode == RunMode.MULTIRUN:
        config.tracking.parent_file = str(parent_file(Path(job.sweep.dir)))
    return config


@contextmanager
def claimed_output(config: Config) -> Iterator[None]:
    """Claim the output folder that a sweep's cell names; those of other jobs are claimed before they begin.

    A cell of a resumed sweep writes beside what its earlier attempt left.

    Raises:
        ReliabitError: It is taken.
    """
    job = HydraConfig.get()
    named = config.paths.output_folder().absolute()
    if job.mode != RunMode.MULTIRUN or config.task.name not in WRITING or named == Path(job.runtime.output_dir):
        yield
        return
    take = claim if config.sweep.resume is None else claim_free
    with take(named, key=OUTPUT) as folder:
        config.paths.output = str(folder)
        yield


def claim_hydra_folder(config: DictConfig, *, key: str) -> ClaimedFolder:
    """Claim the folder that Hydra writes to; where it is named after the time, the next free one, which Hydra is told.

    Args:
        config: The composed configuration, which is changed.
        key: `hydra.run.dir` or `hydra.sweep.dir`.

    Raises:
        ReliabitError: It is taken.
    """
    mode = config.hydra.run if key == RUN_FOLDER else config.hydra.sweep
    plain = OmegaConf.to_container(mode, resolve=False)
    timed = isinstance(plain, dict) and "${now:" in str(plain["dir"])
    resumed = key == SWEEP_FOLDER and config.sweep.resume is not None
    taken = (claim_free if timed or resumed else claim)(Path(str(mode.dir)).absolute(), key=key)
    with read_write(config.hydra), open_dict(config.hydra):
        mode.dir = str(taken.folder)
        # Every cell of a sweep is composed anew from these.
        config.hydra.overrides.hydra.append(f"{key}={quoted(str(taken.folder))}")
    return taken


def _claim_folders(config: DictConfig, checked: Config) -> None:
    run_folder, wanted = Path(str(config.hydra.run.dir)).absolute(), {}
    if checked.task.name in WRITING:
        output = checked.paths.output_folder().absolute()
        wanted[output] = RUN_FOLDER if output == run_folder else OUTPUT
    if _hydra_writes(config):
        wanted[run_folder] = RUN_FOLDER
    # One may lie in the other, and then comes after it.
    for folder, key in sorted(wanted.items(), key=lambda item: len(item[0].parts)):
        _claimed.append(claim_hydra_folder(config, key=key) if key == RUN_FOLDER else claim(folder, key=key))


def _hydra_writes(config: DictConfig) -> bool:
    """Whether Hydra writes records of its own or a log."""
    handlers = OmegaConf.to_container(config.hydra.job_logging, resolve=False)
    found = handlers.get("handlers") or {} if isinstance(handlers, dict) else {}
    return config.hydra.output_subdir is not None or any("filename" in one for one in found.values())
