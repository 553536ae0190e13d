"""Hydra's launchers for cells in processes of their own: as jobs of Slurm, or a few at once on this machine.

They launch what hydra-submitit-launcher launches, and differ in what comes after: that one ends a sweep with the first
cell that was killed while others run on; here all cells are waited for, and one that was killed is a failed one. Hydra
imports this module for every run, so what sweeps alone need is imported when there is one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

POLL_SECONDS = 0.5
NAMES = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
"""What submitit calls the same for every cluster; other options begin with the cluster's name."""


class SubmittedCells(Launcher):
    """Cells that submitit starts, each in a process of its own."""

    cluster = ""

    def __init__(self, *, submitit_folder: str, max_num_timeout: int, **options: Any) -> None:
        self._folder, self._timeouts = submitit_folder, max_num_timeout
        self._options = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in options.items()
            if value is not None
        }
        self._setting: dict[str, Any] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what every cell is composed of and run by."""
        self._setting = {"hydra_context": hydra_context, "task_function": task_function, "config": config}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells and wait for all; where that is interrupted, what was started is cancelled."""
        from hydra.core.singleton import Singleton
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

        setup_globals()
        # What is sent to the cells, and calls them there; queued again after a time limit, it begins anew.
        worker = BaseSubmititLauncher()
        worker.setup(**self._setting)
        state = Singleton.get_state()
        cells = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        jobs: list[Job[JobReturn]] = []
        with _cancelled_together(jobs):
            for job in self._started(self._executor(), worker, cells):
                jobs.append(job)
            return [_returned(job, cell[0]) for job, cell in zip(jobs, cells, strict=True)]

    def _started(
        self, executor: "AutoExecutor", worker: Any, cells: Sequence[tuple[Any, ...]]
    ) -> "Iterator[Job[JobReturn]]":
        """Start the cells, in order."""
        yield from executor.map_array(worker, *zip(*cells, strict=True))

    def _executor(self) -> "AutoExecutor":
        from submitit import AutoExecutor

        # What lies there are pickles: whoever can write one runs code as this user.
        Path(self._folder).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        executor = AutoExecutor(
            self._folder, cluster=self.cluster, **{f"{self.cluster}_max_num_timeout": self._timeouts}
        )
        executor.update_parameters(**submitit_names(self._options, cluster=self.cluster))
        return executor


class SlurmCells(SubmittedCells):
    """Every cell a job of a Slurm array, or of several at once where one does not take so many."""

    cluster = "slurm"

    def _started(
        self, executor: "AutoExecutor", worker: Any, cells: Sequence[tuple[Any, ...]]
    ) -> "Iterator[Job[JobReturn]]":
        from reliabit.cluster import largest_array

        arrays = -(-len(cells) // largest_array())
        size = -(-len(cells) // arrays)
        at_once = self._options.get("array_parallelism")
        if at_once is not None:
            executor.update_parameters(slurm_array_parallelism=max(1, at_once // arrays))
        for start in range(0, len(cells), size):
            yield from super()._started(executor, worker, cells[start : start + size])


class LocalPool(SubmittedCells):
    """Every cell a process on this machine, so many at once."""

    cluster = "local"

    def __init__(self, *, at_once: int, **options: Any) -> None:
        super().__init__(**options)
        self._at_once = at_once

    def _started(
        self, executor: "AutoExecutor", worker: Any, cells: Sequence[tuple[Any, ...]]
    ) -> "Iterator[Job[JobReturn]]":
        running: list[Job[JobReturn]] = []
        for cell in cells:
            while len(running := [job for job in running if not job.done()]) >= self._at_once:
                time.sleep(POLL_SECONDS)
            running.append(executor.submit(worker, *cell))
            yield running[-1]


def submitit_names(options: Mapping[str, Any], *, cluster: str) -> dict[str, Any]:
    """Options by the names that submitit has for them.

    >>> submitit_names({"timeout_min": 5, "partition": "gpu"}, cluster="slurm")
    {'timeout_min': 5, 'slurm_partition': 'gpu'}
    """
    return {name if name in NAMES else f"{cluster}_{name}": value for name, value in options.items()}


@contextmanager
def _cancelled_together(jobs: "Sequence[Job[JobReturn]]") -> Iterator[None]:
    try:
        yield
    except BaseException:
        for job in jobs:
            with suppress(Exception):
                job.cancel(check=False)
        raise


def _returned(job: "Job[JobReturn]", overrides: list[str]) -> JobReturn:
    """What a cell came to; one that never said so was killed."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    from reliabit.errors import KilledError

    try:
        return job.results()[0]
    except (FailedJobError, UncompletedJobError) as error:
        told = KilledError(
            f"the job {job.job_id} of a cell ended as {job.state} and left no result ({type(error).__name__}); its log "
            f"is {job.paths.stderr}, and sweep.resume=last repeats the cell"
        )
        return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=told)
