"""Launchers of cells in processes of their own, with a stand-in for submitit; a slow test has the real one."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus

from functional.place import Place
from hydra_plugins.reliabit_launchers import LocalPool, SlurmCells, SubmittedCells
from reliabit.errors import ReliabitError

WITHOUT = importlib.util.find_spec("submitit") is None
SMALL = [
    "data.splits={dev: 12, val: 12, cal: 12, test: 12}",
    "data.ask={dev: 12, val: 12, cal: 12, test: 12}",
    "evaluation.resamples=20",
    "confidence=maxprob",
    "trainer.threads=1",
]


class KilledError(Exception):
    """What submitit raises for a job that left no result."""


class Job:
    """A job that ends a while after it was submitted."""

    state, paths = "OUT_OF_MEMORY", SimpleNamespace(stderr="/logs/3.err")

    def __init__(self, number, outcome):
        self.job_id, self.outcome, self.ends, self.cancelled = number, outcome, time.monotonic() + 0.02, False

    def done(self):
        return time.monotonic() > self.ends

    def results(self):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return [self.outcome]

    def cancel(self, check):
        self.cancelled = True


class Executor:
    """Takes cells and counts how many run at once."""

    def __init__(self, outcomes):
        self.outcomes, self.jobs, self.at_once = list(outcomes), [], []
        self.arrays, self.parameters = [], {}

    def submit(self, worker, overrides, *_):
        self.jobs.append(Job(len(self.jobs), self.outcomes[len(self.jobs)]))
        self.at_once.append(sum(not job.done() for job in self.jobs))
        return self.jobs[-1]

    def map_array(self, worker, overrides, *_):
        self.arrays.append(len(overrides))
        return [self.submit(worker, one) for one in overrides]

    def update_parameters(self, **parameters):
        self.parameters |= parameters


@pytest.fixture
def launched(monkeypatch):
    """Launches cells with the outcomes given; gives back what they came to, and the executor."""
    names = ["submitit", "submitit.core", "submitit.core.utils", "hydra_plugins.hydra_submitit_launcher"]
    modules = {name: ModuleType(name) for name in [*names, f"{names[-1]}.submitit_launcher"]}
    modules["submitit.core.utils"].UncompletedJobError = KilledError
    modules["submitit.core.utils"].FailedJobError = KilledError
    modules[f"{names[-1]}.submitit_launcher"].BaseSubmititLauncher = lambda: SimpleNamespace(setup=lambda **_: None)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("hydra_plugins.reliabit_launchers.POLL_SECONDS", 0.001)
    monkeypatch.setattr("reliabit.cluster.largest_array", lambda: 3)

    def launch(launcher, outcomes):
        executor = Executor(outcomes)
        monkeypatch.setattr(SubmittedCells, "_executor", lambda self: executor)
        return lambda: launcher.launch([[f"seed={number}"] for number in range(len(outcomes))], 0), executor

    return launch


def done():
    return JobReturn(status=JobStatus.COMPLETED)


def pool(at_once):
    return LocalPool(submitit_folder="x/%j", max_num_timeout=0, at_once=at_once)


def slurm():
    return SlurmCells(submitit_folder="x/%j", max_num_timeout=3)


def test_so_many_cells_run_at_once(launched):
    launch, executor = launched(pool(2), [done() for _ in range(5)])
    assert [one.status for one in launch()] == [JobStatus.COMPLETED] * 5
    assert max(executor.at_once) == 2


@pytest.mark.parametrize(
    ("cells", "at_once", "arrays", "each"), [(3, 8, [3], 8), (7, 8, [3, 3, 1], 2), (7, 2, [3, 3, 1], 1)]
)
def test_more_cells_than_an_array_takes_are_several_that_share_what_may_run_at_once(
    cells, at_once, arrays, each, launched
):
    launcher = SlurmCells(submitit_folder="x/%j", max_num_timeout=3, array_parallelism=at_once)
    launch, executor = launched(launcher, [done() for _ in range(cells)])
    assert len(launch()) == cells
    assert (executor.arrays, executor.parameters) == (arrays, {"slurm_array_parallelism": each})


@pytest.mark.parametrize("launcher", [pool(2), slurm()], ids=["local_pool", "slurm"])
def test_a_killed_cell_is_a_failed_one_and_the_others_are_waited_for(launcher, launched):
    launch, _ = launched(launcher, [KilledError(), done(), done()])
    first, *others = launch()
    assert [one.status for one in others] == [JobStatus.COMPLETED] * 2
    assert (first.status, first.overrides) == (JobStatus.FAILED, ["seed=0"])
    with pytest.raises(ReliabitError) as told:
        raise first._return_value
    assert str(told.value) == (
        "the job 0 of a cell ended as OUT_OF_MEMORY and left no result (KilledError); its log is /logs/3.err, and "
        "sweep.resume=last repeats the cell"
    )


@pytest.mark.parametrize("launcher", [pool(3), slurm()], ids=["local_pool", "slurm"])
def test_whoever_interrupts_a_sweep_cancels_its_cells(launcher, launched):
    launch, executor = launched(launcher, [done(), KeyboardInterrupt(), done()])
    with pytest.raises(KeyboardInterrupt):
        launch()
    assert [job.cancelled for job in executor.jobs] == [True] * 3


@pytest.mark.medium
@pytest.mark.skipif(WITHOUT, reason="submitit is not installed: pip install 'reliabit[slurm]'")
def test_a_cell_is_recorded_by_a_process_of_its_own(tmp_path):
    place = Place(tmp_path)
    done = place.run("-m", "hydra/launcher=local_pool", "quant=none", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells finished" in done.stdout
    cell, sweep = place.runs("cell")[0], place.runs("sweep")[0]
    assert cell.data.tags["heartbeat.pid"] != sweep.data.tags["heartbeat.pid"]
    # What is sent to the cell is run by whoever reads it: nobody else may write it.
    assert Path(place.output, ".submitit").stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT, reason="submitit is not installed: pip install 'reliabit[slurm]'")
def test_a_local_pool_runs_cells_in_processes_of_their_own(tmp_path):
    place = Place(tmp_path)
    done = place.run("-m", "hydra/launcher=local_pool", "quant.bits=2,4", *SMALL)
    assert done.returncode == 0, done.stderr
    pids = {run.data.tags["heartbeat.pid"] for run in place.runs("cell")}
    assert len(pids) == 3
    assert Path(place.output, ".submitit").is_dir()
