"""Sweeps on a local Slurm that something happens to, and what is left of them afterwards."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGUSR2

from mlflow import MlflowClient

from launching import PROJECT, environment
from slurm.local_cluster import LocalCluster, TrackingServer

IMAGES = "{dev: 12, val: 12, cal: 12, test: 12}"
TINY = [
    *(f"data.splits={IMAGES}", f"data.ask={IMAGES}", "evaluation.resamples=20", "confidence=maxprob"),
    *("trainer.threads=1", "trainer.progress_bar=false"),
]
TWELVE = ["quant.bits=2,3,4", "seed=0,1,2"]
"""Nine cells, and the unquantized baseline of each seed."""

FOUR = ["quant.bits=2,3,4", "seed=0"]
"""A part of them."""

SLURM = ["hydra/launcher=slurm_cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
COMPARED = ("accuracy/mean", "selective/aurc", "calibration/ece_15")


@dataclass
class Place:
    """Where a sweep records and writes."""

    folder: Path
    cluster: LocalCluster
    server: TrackingServer
    experiment: str
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a sweep in a process of its own."""
        number = len(self.started)
        placed = [
            *(f"hydra.sweep.dir={self.folder}/sweep-{number}", f"paths.data={self.folder}/data"),
            *(f"paths.cache={self.folder}/cache", "tracking=server", f"tracking.experiment={self.experiment}"),
        ]
        process = subprocess.Popen(
            [sys.executable, "src/run.py", *arguments, *placed],
            cwd=PROJECT,
            env={
                **environment(),
                **self.cluster.environment,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT / "src"), os.environ.get("PYTHONPATH")])),
                "MLFLOW_TRACKING_URI": self.server.uri,
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def runs(self, kind: str, *, client: MlflowClient | None = None):
        client = client or MlflowClient(tracking_uri=self.server.uri)
        found = client.get_experiment_by_name(self.experiment)
        return (
            []
            if found is None
            else client.search_runs([found.experiment_id], filter_string=f"tags.kind = '{kind}'", max_results=1000)
        )

    def cells(self) -> dict[str, dict[str, float]]:
        """The numbers of each finished cell; each there once, and no run left open, or this fails."""
        runs = self.runs("cell")
        names = [f"{run.info.run_name} {run.data.params.get('seed')}" for run in runs]
        statuses = {run.info.status for run in runs}
        assert len(set(names)) == len(names), sorted(names)
        assert statuses == {"FINISHED"}, statuses
        return {name: {key: run.data.metrics[key] for key in COMPARED} for name, run in zip(names, runs, strict=True)}

    def nodes(self) -> set[str]:
        """The nodes that cells ran on, as Slurm's accounts have it."""
        jobs = {run.data.tags["slurm.job_id"] for run in self.runs("cell")}
        told = self.cluster.ask("sacct", "-n", "-X", "-P", "-o", "JobIDRaw,NodeList", "--starttime=now-1days")
        return {node for line in told.splitlines() for job, node in [line.split("|")] if job in jobs}


@dataclass
class Outcome:
    """What a fault came to.

    Attributes:
        tried: How often it was brought about.
        repeated: Cells that `sweep.resume=last` had to run.
        finished: Cells that are finished in the end.
        same: Whether their numbers are those of an undisturbed sweep.
        status: With what the sweep ended that it happened to.
        seconds: How long that and going on took.
    """

    tried: int
    repeated: int
    finished: int
    same: bool
    status: int
    seconds: float


def undisturbed(place: Place) -> dict[str, dict[str, float]]:
    """The numbers of a sweep to which nothing happens."""
    process = place.start("-m", *TWELVE, *TINY, *SLURM)
    told = process.communicate(timeout=900)[0]
    assert process.returncode == 0, told
    assert "12 of 12 cells finished" in told, told
    return place.cells()


def suffer(
    place: Place,
    fault: Callable[[Place], bool],
    *,
    times: int,
    every: float,
    expected: dict[str, dict[str, float]],
    sweep: Sequence[str] = (*FOUR, *TINY, *SLURM),
) -> Outcome:
    """Run a sweep, bring a fault about so many times meanwhile, and go on with the sweep where it failed.

    Args:
        place: Where.
        fault: Brings it about; says whether it could.
        times: How often at most.
        every: Seconds between two, on average.
        expected: The numbers of an undisturbed sweep, of these cells and others.
        sweep: Its arguments.
    """
    began, tried, draw = time.monotonic(), 0, Random(0)
    process = place.start("-m", *sweep)
    for _ in running(process, place):
        if tried < times:
            # Cells are of any age then.
            time.sleep(draw.uniform(0, 2 * every))
            tried += fault(place)
    told = process.communicate(timeout=900)[0]
    status, repeated = process.returncode, 0
    if status != 0:
        before = {run.info.run_id for run in place.runs("cell") if run.info.status == "FINISHED"}
        again = place.start("sweep.resume=last", *SLURM)
        told += again.communicate(timeout=900)[0]
        assert again.returncode == 0, told
        repeated = len(place.runs("cell")) - len(before)
    found = place.cells()
    same = found == {name: expected[name] for name in found}
    return Outcome(tried, repeated, len(found), same, status, round(time.monotonic() - began, 1))


def running(process: "subprocess.Popen[str]", place: Place) -> Iterator[None]:
    """Turns while a sweep runs, once its first cell does."""
    while process.poll() is None:
        if place.cluster.jobs():
            yield
        time.sleep(0.5)


def kill_a_cell(place: Place) -> bool:
    """The kernel kills the processes of one cell."""
    return any(place.cluster.signal_cell(job, SIGKILL) for job in place.cluster.jobs()[:1])


def lose_a_node(place: Place) -> bool:
    """A node dies with its cell, and is back after fifteen seconds."""
    if not place.cluster.jobs(node="n1"):
        return False
    place.cluster.kill_node("n1")
    time.sleep(15)
    place.cluster.start_daemon("slurmd.n1")
    return True


def kill_a_node_daemon(place: Place) -> bool:
    """The daemon of a node dies, and is back after two seconds; its cell runs on."""
    place.cluster.kill_daemon("slurmd.n2")
    time.sleep(2)
    place.cluster.start_daemon("slurmd.n2")
    return True


def restart_the_controller(place: Place) -> bool:
    """The controller of Slurm dies, and is back after two seconds."""
    place.cluster.kill_daemon("slurmctld")
    time.sleep(2)
    place.cluster.start_daemon("slurmctld")
    return True


def restart_the_tracking_server(place: Place) -> bool:
    """The tracking server dies, and is back after five seconds."""
    place.server.kill()
    time.sleep(5)
    place.server.start()
    return True


def reach_the_time_limit(place: Place) -> bool:
    """A cell is told that its time is up, as Slurm tells it before the limit, and queued again."""
    return any(place.cluster.signal_cell(job, SIGUSR2) for job in place.cluster.jobs()[:1])


FAULTS: dict[str, tuple[Callable[[Place], bool], float]] = {
    "a cell is killed": (kill_a_cell, 8.0),
    "a node dies with its cell": (lose_a_node, 5.0),
    "the daemon of a node is killed": (kill_a_node_daemon, 3.0),
    "a cell reaches its time limit": (reach_the_time_limit, 8.0),
    "the controller is killed": (restart_the_controller, 3.0),
    "the tracking server is killed": (restart_the_tracking_server, 5.0),
}
"""Each fault, and the seconds between two of it."""
