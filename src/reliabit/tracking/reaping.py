"""Closing the runs of dead processes, so that no run stays RUNNING for ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reliabit.tracking.heartbeat import BEAT, cause_of_death
from reliabit.tracking.store.calls import all_pages
from reliabit.tracking.tags import FAILURE_REASON, FAILURE_TYPE, KILLED, PARENT_TAG
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Reaped:
    """A run that was closed for its dead process.

    Attributes:
        run_id: The run.
        name: Its name.
        reason: Why its process counts as dead.
    """

    run_id: str
    name: str
    reason: str


def reap(tracker: Tracker, *, now: datetime | None = None) -> list[Reaped]:
    """Mark the running runs of dead processes as KILLED, with the reason on them.

    A parent is spared as long as a run below it may be alive, whatever became of the process that launched them. Runs
    that never beat are left alone. Safe beside live runs and beside other reapers.

    Args:
        tracker: The store and experiment to look through.
        now: The time, with its zone; the present one by default.
    """
    moment = now or datetime.now(UTC)
    running: list[Run] = list(
        all_pages(tracker.client.search_runs, [tracker.experiment_id], filter_string="attributes.status = 'RUNNING'")
    )
    causes = {run.info.run_id: cause_of_death(run.data.tags, now=moment) for run in running}
    spared = _above([run for run in running if causes[run.info.run_id] is None], among=running)
    reaped = []
    for run in running:
        cause = causes[run.info.run_id]
        if cause is not None and run.info.run_id not in spared and _close(tracker, run, cause):
            reaped.append(Reaped(run_id=run.info.run_id, name=run.info.run_name, reason=cause))
    return reaped


def _above(runs: "Sequence[Run]", *, among: "Sequence[Run]") -> set[str]:
    """The ids of the running ancestors of some runs."""
    parents = {run.info.run_id: run.data.tags.get(PARENT_TAG) for run in among}
    found: set[str] = set()
    for run in runs:
        parent = parents[run.info.run_id]
        while parent is not None and parent not in found:
            found.add(parent)
            parent = parents.get(parent)
    return found


def _close(tracker: Tracker, run: "Run", cause: str) -> bool:
    """Close a run, unless its process closed it between being listed and being looked for."""
    if tracker.client.get_run(run.info.run_id).info.status != "RUNNING":
        return False
    last = datetime.fromisoformat(run.data.tags[BEAT])
    tracker.client.set_tag(run.info.run_id, FAILURE_TYPE, KILLED)
    tracker.client.set_tag(run.info.run_id, FAILURE_REASON, cause)
    tracker.client.set_terminated(run.info.run_id, "KILLED", end_time=int(last.timestamp() * 1000))
    return True
