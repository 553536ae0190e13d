"""The cache below `paths.cache` that runs share: entries, their locks, and the eviction of the least recently used.

An entry is a folder that is named after everything it depends on, so any of them may be removed at any time: what is
missing or damaged is made again. An entry's modification time says when it was last used.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeVar

from reliabit.errors import DamagedError

if TYPE_CHECKING:
    from filelock import BaseFileLock

Found = TypeVar("Found")

KINDS = ("answers", "bundles", "calibration", "encoded")
"""Folders below the cache that hold one entry a folder."""

IN_USE_SECONDS = 86_400.0
"""An entry that was used so recently may belong to a run that goes on."""

ABANDONED_SECONDS = 86_400.0
"""An unfinished folder in which nothing was written for so long is of a killed run."""


@dataclass(frozen=True)
class Entry:
    """A shared result of one of `KINDS`: its size in bytes, and when it was last used, in seconds since 1970."""

    kind: str
    folder: Path
    size: int
    used: float


def entries(cache: Path) -> Iterator[Entry]:
    """The finished entries of a cache.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     (Path(folder) / "answers" / "abc").mkdir(parents=True)
    ...     _ = (Path(folder) / "answers" / "abc" / "x").write_text("12345")
    ...     [(entry.kind, entry.folder.name, entry.size) for entry in entries(Path(folder))]
    [('answers', 'abc', 5)]
    """
    for kind in KINDS:
        for folder in sorted((cache / kind).glob("*")):
            if folder.is_dir() and not folder.name.startswith("."):
                # Another process may be evicting at this moment.
                with suppress(FileNotFoundError):
                    yield Entry(kind, folder, size=_bytes_below(folder), used=folder.stat().st_mtime)


def abandoned(cache: Path, *, now: float | None = None) -> list[Path]:
    """Folders that killed runs began and never finished."""
    moment = time.time() if now is None else now
    return [
        folder
        for kind in KINDS
        for folder in sorted((cache / kind).glob(".*"))
        if folder.is_dir() and moment - _last_written(folder) > ABANDONED_SECONDS
    ]


def entry_lock(folder: Path, *, timeout: float = -1) -> "BaseFileLock":
    """The lock under which an entry is made; some entries share one, so that lock files do not pile up.

    Args:
        folder: The entry, there or not.
        timeout: Seconds to wait for it; negative ones wait for as long as it takes.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    # Names may begin with a model's and always end with a digest.
    return FileLock(folder.parent / f".{folder.name[-2:]}.lock", timeout=timeout)


def get_or_create(folder: Path, *, read: Callable[[], Found | None], make: Callable[[], Found]) -> Found:
    """An entry, made if it is not there; of processes that ask at once, one makes it and the others wait.

    Args:
        folder: The entry.
        read: Reads it; `None` where it is not there; raises `DamagedError` where it is not as it was written.
        make: Puts it there and returns what `read` would.
    """
    found = None
    with suppress(DamagedError):
        found = read()
    if found is None:
        with entry_lock(folder):
            found = read_or_drop(folder, read)
            if found is None:
                found = make()
    touch([folder])
    return found


def read_or_drop(folder: Path, read: Callable[[], Found | None]) -> Found | None:
    """Read an entry under its lock; a damaged one is removed, which a line says, and is `None` like a missing one."""
    try:
        return read()
    except DamagedError as error:
        sys.stderr.write(f"{error.what}: it is dropped and made anew\n")
        _remove(folder)
        return None


def touch(folders: Iterable[Path]) -> None:
    """Mark entries as used now."""
    for folder in folders:
        with suppress(FileNotFoundError):
            os.utime(folder)


def evict_lru(cache: Path, *, limit: int, spare_in_use: bool = True, now: float | None = None) -> list[Entry]:
    """Remove what killed runs left, and the least recently used entries beyond a limit.

    Args:
        cache: The cache.
        limit: Bytes that may stay.
        spare_in_use: Whether entries stay that were used within `IN_USE_SECONDS`, so that no living run loses one.
        now: The time, in seconds since 1970; the present one by default.

    Returns:
        The entries that were removed.
    """
    from filelock import FileLock

    moment = time.time() if now is None else now
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".room.lock"):
        for folder in abandoned(cache, now=moment):
            shutil.rmtree(folder, ignore_errors=True)
        removed, total = [], 0
        for entry in sorted(entries(cache), key=lambda entry: entry.used, reverse=True):
            total += entry.size
            if total > limit and not (spare_in_use and moment - entry.used <= IN_USE_SECONDS):
                removed.append(entry)
        for entry in removed:
            _remove(entry.folder)
    return removed


def _remove(folder: Path) -> None:
    # Renamed first: whoever looks for it meanwhile finds all of it or nothing.
    gone = Path(mkdtemp(prefix=".removed.", dir=folder.parent))
    with suppress(FileNotFoundError):
        folder.rename(gone / folder.name)
    shutil.rmtree(gone, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _last_written(folder: Path) -> float:
    """When something was last written below a folder, whose own time does not move as its files grow."""
    found = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found.append(path.stat().st_mtime)
    return max(found)
