"""Signs of life: a run says which process writes it and when it last did, so that a dead one can be told.

A killed process closes nothing, and its run would stay RUNNING for ever. On the same machine the process itself is
looked for, which is exact at any time; from elsewhere only a long silence says that it is dead.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from reliabit.tracking.processes import ProcessIdentity, has_ended, is_here, this_process

if TYPE_CHECKING:
    from mlflow.entities import Run

BEAT_SECONDS = 30.0
SILENCE_SECONDS = 600.0
"""So long must a process of another machine be silent to count as dead: clocks differ, and servers are restarted."""

PIDS = range(1, 2**31)
"""What a process may have for an id; the system takes others for groups of processes, or for no number."""

PATIENCE_SECONDS = 5.0
"""So long a run that ends waits for a beat that is being written."""

HOST, MACHINE, PID, BORN, BEAT = (f"heartbeat.{name}" for name in ("host", "machine", "pid", "born", "at"))
HEARTBEAT_TAGS = (HOST, MACHINE, PID, BORN, BEAT)

_log = logging.getLogger(__name__)


class Beating(Protocol):
    """What carries beats: an open run, or whatever else belongs to a process and takes tags."""

    @property
    def run_id(self) -> str:
        """What it is called."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""


def heartbeat_tags() -> dict[str, str]:
    """The first beat, to create a run with: a run without one is never taken for dead."""
    process = this_process()
    return {
        HOST: process.host,
        MACHINE: process.machine,
        PID: str(process.pid),
        BORN: process.born,
        BEAT: _stamp(datetime.now(UTC)),
    }


@contextmanager
def heartbeat(run: Beating, *, every: float = BEAT_SECONDS) -> Iterator[None]:
    """Keep a run's last beat fresh for as long as a block runs.

    A beat that cannot be written is reported once and tried again; it never disturbs the run.

    Args:
        run: An open run, or what is kept alive like one.
        every: Seconds between beats.
    """
    run.set_tags(heartbeat_tags())
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(run, every, ended), name=f"heartbeat-{run.run_id}", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join(timeout=PATIENCE_SECONDS)


def is_dead(run: "Run", now: datetime) -> bool:
    """Whether the process that writes a run is gone; see `cause_of_death`."""
    return cause_of_death(run.data.tags, now=now) is not None


def cause_of_death(tags: Mapping[str, str], *, now: datetime) -> str | None:
    """Why the process behind a run counts as dead, in words; `None` for a living or an unknown one.

    Args:
        tags: The run's tags.
        now: The time, with its zone.
    """
    try:
        process = ProcessIdentity(host=tags[HOST], machine=tags[MACHINE], pid=int(tags[PID]), born=tags[BORN])
        last = datetime.fromisoformat(tags[BEAT])
    except (KeyError, ValueError):
        return None
    if process.pid not in PIDS or last.tzinfo is None:
        return None
    where = f"process {process.pid} on {process.host}"
    if is_here(process):
        return f"{where} is gone; last seen {_stamp(last)}" if has_ended(process) else None
    silent = (now - last).total_seconds()
    return f"{where} was last seen {_stamp(last)}" if silent > SILENCE_SECONDS else None


def _beat(run: Beating, every: float, ended: threading.Event) -> None:
    reported = False
    while not ended.wait(every):
        try:
            run.set_tags({BEAT: _stamp(datetime.now(UTC))})
            reported = False
        except Exception as error:
            if not reported:
                _log.warning("the heartbeat of run %s cannot be written: %s", run.run_id, error)
            reported = True


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
