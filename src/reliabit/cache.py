"""What several runs share below `paths.cache`: how much it is, and making room.

Every entry is a folder that is named after everything it depends on, so any of them may be removed at any time: what is
missing is made again, and so is what is not as it was written, which is said. The time stamp of an entry says when it
was last of use.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
"""An entry that was of use so short a time ago may be one of a run that goes on."""

ABANDONED_SECONDS = 86_400.0
"""A folder in which nothing was written for so long and that is not finished is of a killed run."""


@dataclass(frozen=True)
class Entry:
    """A shared result.

    Attributes:
        kind: One of `KINDS`.
        folder: Where it lies.
        size: Its bytes.
        used: When it was last of use, in seconds since 1970.
    """

    kind: str
    folder: Path
    size: int
    used: float


def entries(cache: Path) -> Iterator[Entry]:
    """Every entry of a cache, finished ones alone.

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
                # Another process may be making room at this moment.
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
    """The lock of whoever makes an entry; some entries share one, so that locks do not pile up with them.

    Args:
        folder: The entry, there or not.
        timeout: Seconds to wait for it; negative ones wait for as long as it takes.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    # Names may begin with a model's and always end with a digest.
    return FileLock(folder.parent / f".{folder.name[-2:]}.lock", timeout=timeout)


def find_or_make(folder: Path, *, read: Callable[[], Found | None], make: Callable[[], Found]) -> Found:
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
            found = whole_entry(folder, read)
            if found is None:
                found = make()
    touch([folder])
    return found


def whole_entry(folder: Path, read: Callable[[], Found | None]) -> Found | None:
    """Read an entry, and drop it where it is damaged, which is said in a line; for whoever holds its lock.

    Returns:
        The entry; `None` where it has to be made.
    """
    try:
        return read()
    except DamagedError as error:
        sys.stderr.write(f"{error.what}: it is dropped and made anew\n")
        _remove(folder)
        return None


def touch(folders: Iterable[Path]) -> None:
    """Say of entries that they are of use now."""
    for folder in folders:
        with suppress(FileNotFoundError):
            os.utime(folder)


def keep_room(cache: Path, *, limit: int, now: float | None = None) -> list[Entry]:
    """Remove what killed runs left, and the entries of no use for longest, down to a limit, but none of a living run.

    Args:
        cache: The cache.
        limit: Bytes that may stay.
        now: The time, in seconds since 1970; the present one by default.

    Returns:
        The entries that were removed.
    """
    moment = time.time() if now is None else now
    with _alone(cache):
        _remove_abandoned(cache, now=moment)
        removed = [entry for entry in _beyond(cache, limit=limit) if moment - entry.used > IN_USE_SECONDS]
        for entry in removed:
            _remove(entry.folder)
    return removed


def make_room(cache: Path, *, limit: int) -> list[Entry]:
    """Remove what killed runs left, and the entries of no use for longest, down to a limit, whoever may be using them.

    Args:
        cache: The cache.
        limit: Bytes that may stay.

    Returns:
        The entries that were removed.
    """
    with _alone(cache):
        _remove_abandoned(cache, now=time.time())
        removed = _beyond(cache, limit=limit)
        for entry in removed:
            _remove(entry.folder)
    return removed


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".room.lock"):
        yield


def _remove_abandoned(cache: Path, *, now: float) -> None:
    for folder in abandoned(cache, now=now):
        shutil.rmtree(folder, ignore_errors=True)


def _beyond(cache: Path, *, limit: int) -> list[Entry]:
    """The entries that a limit leaves no room for."""
    kept, found = 0, []
    for entry in sorted(entries(cache), key=lambda entry: entry.used, reverse=True):
        kept += entry.size
        if kept > limit:
            found.append(entry)
    return found


def _remove(folder: Path) -> None:
    # Moved away first: whoever looks for it meanwhile finds all of it or nothing.
    gone = Path(mkdtemp(prefix=".removed.", dir=folder.parent))
    with suppress(FileNotFoundError):
        folder.rename(gone / folder.name)
    shutil.rmtree(gone, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _last_written(folder: Path) -> float:
    """When something was last written below a folder; the folder's own stamp does not move as its files grow."""
    found = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found.append(path.stat().st_mtime)
    return max(found)
