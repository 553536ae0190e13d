"""Signs of life: a run says which process writes it and when it last did, so that a dead one can be told.

A killed process closes nothing, and its run would stay RUNNING for ever. On the same machine the process itself is
looked for, which is exact at any time; from elsewhere only a long silence says that it is dead.
"""

import functools
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol

PROC = Path("/proc")

BEAT_SECONDS = 30.0
SILENCE_SECONDS = 600.0
"""So long must a process of another machine be silent to count as dead: clocks differ, and servers are restarted."""

PIDS = range(1, 2**31)
"""What a process may have for an id; the system takes others for groups of processes, or for no number."""

PATIENCE_SECONDS = 5.0
"""So long a run that ends waits for what is being written of it."""

HOST, MACHINE, PID, BORN, BEAT = (f"heartbeat.{name}" for name in ("host", "machine", "pid", "born", "at"))
HEARTBEAT_TAGS = (HOST, MACHINE, PID, BORN, BEAT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, for good: a process id alone is given out again.

    Attributes:
        host: The name of its machine, for people.
        machine: What tells its machine, boot and process-id namespace from others; two containers may share a name.
        pid: Its id there.
        born: When it started, as its system counts.
    """

    host: str
    machine: str
    pid: int
    born: str


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    pid = os.getpid()
    seen = _look(pid)
    return ProcessIdentity(host=socket.gethostname(), machine=_machine(), pid=pid, born=seen.born if seen else "")


def is_here(process: ProcessIdentity) -> bool:
    """Whether a process belongs to this machine as it is now, so that its absence says that it ended."""
    return process.machine == _machine()


def has_ended(process: ProcessIdentity) -> bool:
    """Whether a process of this machine is gone, a zombie, or has left its id to another one.

    A process that the system hides from this user counts as alive.
    """
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists; its start may still be readable
    seen = _look(process.pid)
    return seen is not None and (seen.zombie or seen.born != process.born)


def _machine() -> str:
    parts = [socket.gethostname(), _boot()]
    try:
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        parts.append("")
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class _Seen:
    """What the system tells of a process; `born` is in a form of its own on each system, to be compared only."""

    zombie: bool
    born: str


def _look(pid: int) -> _Seen | None:
    """Look at a process; `None` for one that is gone or hidden."""
    return _look_in_proc(pid) if (PROC / "self/stat").is_file() else _look_with_ps(pid)


def _look_in_proc(pid: int) -> _Seen | None:
    """By Linux's /proc, which counts starts in clock ticks since the boot: no correction of the clock moves them."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name before the state may hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return _Seen(zombie=fields[0] in "ZX", born=fields[19])


def _look_with_ps(pid: int) -> _Seen | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    state, _, born = done.stdout.strip().partition(" ")
    return _Seen(zombie="Z" in state, born=born.strip()) if born else None


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
    with alongside(lambda ended: _beat(run, every, ended), name=f"heartbeat-{run.run_id}"):
        yield


@contextmanager
def alongside(work: Callable[[threading.Event], None], *, name: str) -> Iterator[None]:
    """Do something in a thread of its own for as long as a block runs, which is told by an event when it ends."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=PATIENCE_SECONDS)


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
