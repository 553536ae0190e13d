"""Going on with a sweep: its parent run is opened again, with the overrides that it was started with."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import heartbeat_tags
from reliabit.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

LAST = "last"
SWEEP = {"kind": "sweep"}
OVERRIDES = "overrides.json"
"""The tag that holds a sweep's overrides as a list."""


def start_parent(tracker: Tracker, *, overrides: Sequence[str]) -> TrackedRun:
    """Open the parent run of a new sweep."""
    name = f"sweep·{' '.join(overrides) or 'default'}"[:250]
    tags = {**SWEEP, "overrides": " ".join(overrides), OVERRIDES: json.dumps(list(overrides))}
    return tracker.start(name, tags=tags)


def find_sweep(tracker: Tracker, which: str) -> "Run":
    """The parent run of an earlier sweep.

    Args:
        tracker: Where it is recorded.
        which: Its id, or `last`.

    Raises:
        ReliabitError: There is no such sweep.
    """
    sweeps = tracker.runs_with(SWEEP)
    if which == LAST and sweeps:
        return sweeps[-1]
    found = [run for run in sweeps if run.info.run_id == which]
    if not found:
        known = f"the last one is {sweeps[-1].info.run_id}" if sweeps else "run one first"
        raise ReliabitError(f"there is no sweep {which} in this experiment; {known}")
    return found[0]


def check_ended(sweep: "Run") -> None:
    """Check that a sweep has all the cells that it will have, unless it is gone on with.

    Raises:
        ReliabitError: It is still running.
    """
    if sweep.info.status == "RUNNING":
        raise ReliabitError(
            f"the sweep {sweep.info.run_id} is still running; wait for it, or stop it first (if its process died, "
            "reliabit reap closes it)"
        )


def reopen(tracker: Tracker, sweep: "Run") -> TrackedRun:
    """Open the parent run of an earlier sweep again.

    Raises:
        ReliabitError: It is still running.
    """
    check_ended(sweep)
    run = TrackedRun(client=tracker.client, run_id=sweep.info.run_id)
    run.set_tags(heartbeat_tags())
    tracker.client.update_run(run.run_id, status="RUNNING")
    return run


def overrides_of(sweep: "Run") -> list[str]:
    """The overrides that a sweep was started with."""
    found: list[str] = json.loads(sweep.data.tags[OVERRIDES])
    return found
