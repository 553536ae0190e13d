"""How a process of ours begins and ends: few garbage collections while it imports, and no taking apart at its end.

Importing a large library makes a million objects that stay, and Python looks through them for garbage again and again;
at the end it frees each of them, though the memory goes back as a whole. For a command that reads a few rows, these two
are a third of the processor's time.
"""

import atexit
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

OBJECTS = 200_000
"""So many new objects start a collection while a program is imported; Python's own number is 700."""


KEPT = 2**28
"""Bytes of freed memory that stay with the process, at most, for its next allocations."""

OWN_PAGES = 2**25
"""From so many bytes on an allocation has pages of its own, which go back as soon as it is freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the two in `mallopt(3)`."""


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next allocation, where it can be told so (glibc).

    By itself it gives the end of the heap back after every batch and asks for it again at the next, and the system
    zeroes each page anew: a twentieth of the processor seconds of a small model's run. What the environment says of it
    (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`) is left as it is.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    choose(_TRIM_THRESHOLD, KEPT)
    choose(_MMAP_THRESHOLD, OWN_PAGES)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage rarely for as long as a block imports; what it made is not looked through again.

    >>> before = gc.get_threshold()
    >>> with rare_collections():
    ...     gc.get_threshold()[0]
    200000
    >>> gc.get_threshold() == before
    True
    """
    before = gc.get_threshold()
    # Within another such block nothing is to be done.
    outermost = before[0] < OBJECTS and gc.isenabled()
    if outermost:
        gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        if outermost:
            gc.freeze()
            gc.set_threshold(*before)


def run_and_leave(run: Callable[[], object]) -> NoReturn:
    """Run a program as a whole process; what it raises passes, and `sys.exit` ends the process at once."""
    status = 0
    try:
        run()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        status = ended.code or 0
    leave(status)


def leave(status: int) -> NoReturn:
    """End the process: everything that was registered for its end is done and all output written, nothing is freed.

    Where a thread is still at work, something watches the process (a profiler, a debugger), or output cannot be
    written, it ends as Python does it.
    """
    watched = sys.gettrace() is not None or sys.getprofile() is not None or sys.flags.inspect
    if watched or any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        sys.exit(status)
    try:
        _flush()
        atexit._run_exitfuncs()
        _flush()
    except Exception:
        sys.exit(status)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
