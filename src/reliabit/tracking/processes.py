"""Telling one process from every other, so that another process can see whether it still lives."""

import functools
import os
import socket
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

PROC = Path("/proc")


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
