"""No test runs for ever, and none leaves a process behind: neither what it started nor what that started.

A test that is stuck is interrupted, so that its own cleaning up runs; whatever lives on after it, or is left of a run
of pytest that is told to end, is killed. Orphans are found because this process adopts them (Linux).
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SECONDS, SLOW_SECONDS = 300.0, 1800.0
"""How long a test may take: many times what it does, on a machine that does other things as well."""

PR_SET_CHILD_SUBREAPER = 36
KEPT = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Helpers of the standard library, which one process has until it ends."""


class StuckError(BaseException):
    """A test took too long; no `except Exception` on the way is to swallow it."""


def children(pid: int | str = "self") -> set[int]:
    """The processes that one started or adopted; dead ones that nobody has waited for are among them."""
    found: set[int] = set()
    # It may end at any moment.
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return found


def descendants(pids: Iterable[int]) -> list[int]:
    """Processes with all that they started."""
    return [found for pid in pids for found in (pid, *descendants(children(pid)))]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_leftovers(before: set[int]) -> None:
    """Kill the processes that were not there before, with all that they started."""
    found = descendants(pid for pid in children() - before if alive(pid) and not _is_kept(pid))
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in found:
        # Those that were orphans are ours by now, or will be when their parent is gone.
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _is_kept(pid: int) -> bool:
    with suppress(OSError):
        return any(name in Path(f"/proc/{pid}/cmdline").read_text() for name in KEPT)
    return False


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt the block after so long; it can be anywhere but in C code that does not return."""

    def interrupt(*_: object) -> None:
        raise StuckError(f"this took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _exit(number: int, _: object) -> None:
    raise KeyboardInterrupt(f"told to end by signal {number}")


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_pytest() -> Iterator[None]:
    """What fixtures of a session or module started ends with it, however it ends."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        yield
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, handler = children(), signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        kill_leftovers(before)
        signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True)
def nothing_outlives_a_test(request: pytest.FixtureRequest, nothing_outlives_pytest: None) -> Iterator[None]:
    """See the module; what wider fixtures started was there before."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = children()
    try:
        yield
    finally:
        kill_leftovers(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Give a test a time limit."""
    mark = item.get_closest_marker("seconds")
    slow = item.get_closest_marker("slow") is not None
    with limited(float(mark.args[0]) if mark else SLOW_SECONDS if slow else SECONDS):
        return (yield)


def gone(pid: int, *, seconds: float = 10.0) -> bool:
    """Whether a process has ended, or does so soon."""
    end = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
