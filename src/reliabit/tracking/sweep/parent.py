"""The parent run of a sweep: opened, found again with the overrides that it was started with, and told to its cells."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.identity import is_transport
from reliabit.tracking.heartbeat import cause_of_death, heartbeat_tags
from reliabit.tracking.redaction import REDACTED, redact
from reliabit.tracking.tags import KIND
from reliabit.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run
    from omegaconf import DictConfig

LAST = "last"
SHOWN = 3
"""So many sweeps are named where there is a choice."""
SWEEP = {KIND: "sweep"}
OVERRIDES = "overrides.json"
"""The tag that holds a sweep's overrides as a list."""

STORE = ("tracking.uri=", "tracking.artifacts=")
"""Where runs are recorded, which whoever goes on with a sweep says anew where it holds a password."""


def start_parent(tracker: Tracker, *, overrides: Sequence[str], of: Sequence[str] = ()) -> TrackedRun:
    """Open the parent run of a new sweep.

    Args:
        tracker: Where to record it.
        overrides: What the command line says.
        of: What else names it: the model and the data set.
    """
    # One by one, as a password may hold blanks, and before anything is cut.
    told = [redact(override) for override in overrides]
    varied = " ".join(one for one in told if _varies(one)) or "default"
    name = redact("·".join(["sweep", *of, varied]))[:250]
    tags = {**SWEEP, "overrides": " ".join(told), OVERRIDES: json.dumps(told)}
    return tracker.start(name, tags=tags)


def swept_parameters(config: "DictConfig") -> dict[str, str]:
    """What a sweep is of, as parameters of its parent run: the model, the data, and what the command line says.

    A parameter is never changed again: whoever goes on with the sweep has the same command line.

    Args:
        config: The sweep's configuration, Hydra's own included.
    """
    given = dict(one.lstrip("+~").split("=", 1) for one in config.hydra.overrides.task if "=" in one and _varies(one))
    from omegaconf import OmegaConf

    own = [one.partition("=")[2] for one in config.hydra.overrides.task if one.startswith("model.path=")]
    model = Path(own[-1]).name if own else config.model.name
    data = OmegaConf.to_object(config.data)
    base = {
        "model": model,
        "data": data.called() if isinstance(data, DataConfig) else config.data.name,
        "quant": config.quant.name,
    }
    base |= {"confidence": config.confidence.name, "seed": config.seed}
    return {**{key: str(value) for key, value in base.items()}, **given, **({"model": model} if own else {})}


def _varies(override: str) -> bool:
    """Whether an override says what is measured, and not where or how.

    >>> _varies("quant.bits=2,3"), _varies("tracking.uri=sqlite:///a.db"), _varies("paths.output=x")
    (True, False, False)
    """
    return not is_transport(override.lstrip("+~").split("=", 1)[0])


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
        check_not_deleted(tracker, which)
        known = f"the last one is {sweeps[-1].info.run_id}" if sweeps else "run one first"
        raise ReliabitError(f"there is no sweep {which} in this experiment; {known}")
    return found[0]


def sweep_to_resume(tracker: Tracker, which: str) -> "Run":
    """The parent run of a sweep to go on with.

    Args:
        tracker: Where it is recorded.
        which: Its id, or `last` for the last one that is unfinished and that nobody is running.

    Raises:
        ReliabitError: There is no such sweep.
    """
    if which != LAST:
        return find_sweep(tracker, which)
    sweeps, now = tracker.runs_with(SWEEP), datetime.now(UTC)
    unfinished = [run for run in sweeps if run.info.status != "FINISHED"]
    stopped = [run for run in unfinished if run.info.status != "RUNNING" or cause_of_death(run.data.tags, now=now)]
    if stopped:
        return stopped[-1]
    for run in unfinished[-1:]:
        check_ended(run)
    there = ", ".join(f"{run.info.run_id} ({str(run.info.run_name)[:60]})" for run in sweeps[-SHOWN:])
    raise ReliabitError(
        "no sweep of this experiment is unfinished, so there is none to go on with; "
        + (f"all are finished: {there}; name one with sweep.resume=<id>" if sweeps else "run one first")
    )


def check_not_deleted(tracker: Tracker, run_id: str) -> None:
    """Check that the parent run of a sweep was not deleted in the store.

    Raises:
        ReliabitError: It was.
    """
    if tracker.is_deleted(run_id):
        raise ReliabitError(
            f"the parent run {run_id} of the sweep was deleted in the store; restore it (mlflow runs restore --run-id "
            f"{run_id}, with MLFLOW_TRACKING_URI set to tracking.uri) and go on with sweep.resume={run_id}, or start "
            "the sweep anew"
        )


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


def recorded_overrides(sweep: "Run") -> list[str] | None:
    """The overrides that a sweep was started with, without secrets; None where a quote was taken out with one."""
    try:
        found: list[str] = json.loads(sweep.data.tags.get(OVERRIDES, "[]"))
    except ValueError:
        return None
    return found


def overrides_of(sweep: "Run") -> list[str]:
    """The overrides that a sweep was started with, but for the address of the store, if that held a password.

    Passwords are not recorded: the address is that of whoever goes on with the sweep, and so is what it was found by.

    Raises:
        ReliabitError: Another one held a secret, without which the sweep cannot be gone on with.
    """
    found = recorded_overrides(sweep)
    if found is None:
        found = [sweep.data.tags[OVERRIDES]]
    lacking = [override for override in found if REDACTED in override]
    others = [override for override in lacking if not override.startswith(STORE)]
    if others:
        raise ReliabitError(
            f"the sweep {sweep.info.run_id} was started with {others[0]}, and secrets are not recorded; say all of its "
            f"arguments again, with sweep.resume={sweep.info.run_id}"
        )
    return [override for override in found if override not in lacking]


def parent_file(sweep_folder: Path) -> Path:
    """Where a sweep leaves word of its parent run for its cells."""
    return sweep_folder / "mlflow_parent.json"


def write_parent(path: Path, run_id: str) -> None:
    """Leave word of a sweep's parent run."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({"run_id": run_id}))


def read_parent(path: str | None) -> str | None:
    """The parent run of the sweep that a cell belongs to, or `None` outside a sweep.

    Raises:
        ReliabitError: The file that names it is gone.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        raise ReliabitError(
            f"{path}, which names the sweep's parent run, is gone; go on with the sweep in a folder of its own: "
            "sweep.resume=last"
        )
    return str(json.loads(Path(path).read_text())["run_id"])
