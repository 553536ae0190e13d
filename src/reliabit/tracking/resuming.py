"""Going on with a sweep: its parent run is opened again, with the overrides that it was started with."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import heartbeat_tags
from reliabit.tracking.redaction import REDACTED, redact
from reliabit.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

LAST = "last"
SWEEP = {"kind": "sweep"}
OVERRIDES = "overrides.json"
"""The tag that holds a sweep's overrides as a list."""

STORE = ("tracking.uri=", "tracking.artifacts=")
"""Where runs are recorded, which whoever goes on with a sweep says anew where it holds a password."""


def start_parent(tracker: Tracker, *, overrides: Sequence[str]) -> TrackedRun:
    """Open the parent run of a new sweep."""
    # One by one, as a password may hold blanks, and before anything is cut.
    told = [redact(override) for override in overrides]
    name = f"sweep·{' '.join(told) or 'default'}"[:250]
    tags = {**SWEEP, "overrides": " ".join(told), OVERRIDES: json.dumps(told)}
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
    """The overrides that a sweep was started with, but for the address of the store, if that held a password.

    Passwords are not recorded: the address is that of whoever goes on with the sweep, and so is what it was found by.

    Raises:
        ReliabitError: Another one held a secret, without which the sweep cannot be gone on with.
    """
    found: list[str] = json.loads(sweep.data.tags[OVERRIDES])
    lacking = [override for override in found if REDACTED in override]
    others = [override for override in lacking if not override.startswith(STORE)]
    if others:
        raise ReliabitError(
            f"the sweep {sweep.info.run_id} was started with {others[0]}, and secrets are not recorded; say all of its "
            f"arguments again, with sweep.resume={sweep.info.run_id}"
        )
    return [override for override in found if override not in lacking]
