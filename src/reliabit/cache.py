"""What several runs share below `paths.cache`: how much it is, and making room.

Every entry is a folder that is named after everything it depends on, so any of them may be removed at any time: what is
missing is made again. The time stamp of an entry says when it was last of use.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

KINDS = ("answers", "bundles", "calibration", "encoded")
"""Folders below the cache that hold one entry a folder."""

IN_USE_SECONDS = 3600.0
"""An entry that was of use so short a time ago may be one of a run that goes on."""

ABANDONED_SECONDS = 3600.0
"""A folder that was begun so long ago and is not finished is of a killed run."""


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
                yield Entry(kind, folder, size=_bytes_below(folder), used=folder.stat().st_mtime)


def abandoned(cache: Path, *, now: float | None = None) -> list[Path]:
    """Folders that killed runs began and never finished."""
    moment = time.time() if now is None else now
    return [
        folder
        for kind in KINDS
        for folder in sorted((cache / kind).glob(".*"))
        if folder.is_dir() and moment - folder.stat().st_mtime > ABANDONED_SECONDS
    ]


def keep_room(cache: Path, *, limit: int, now: float | None = None) -> list[Entry]:
    """Remove the entries that were of no use for longest, down to a limit, but none that a run may be using.

    Args:
        cache: The cache.
        limit: Bytes that may stay.
        now: The time, in seconds since 1970; the present one by default.

    Returns:
        The entries that were removed.
    """
    moment = time.time() if now is None else now
    removed = [entry for entry in _beyond(cache, limit=limit) if moment - entry.used > IN_USE_SECONDS]
    _remove(removed)
    return removed


def make_room(cache: Path, *, limit: int) -> list[Entry]:
    """Remove what killed runs left, and the entries that were of no use for longest, down to a limit.

    Args:
        cache: The cache.
        limit: Bytes that may stay.

    Returns:
        The entries that were removed.
    """
    for folder in abandoned(cache):
        shutil.rmtree(folder)
    removed = _beyond(cache, limit=limit)
    _remove(removed)
    return removed


def _beyond(cache: Path, *, limit: int) -> list[Entry]:
    """The entries that a limit leaves no room for."""
    kept, found = 0, []
    for entry in sorted(entries(cache), key=lambda entry: entry.used, reverse=True):
        kept += entry.size
        if kept > limit:
            found.append(entry)
    return found


def _remove(found: list[Entry]) -> None:
    for entry in found:
        # Moved away first: whoever looks for it meanwhile finds all of it or nothing.
        gone = Path(mkdtemp(prefix=".removed.", dir=entry.folder.parent))
        entry.folder.rename(gone / entry.folder.name)
        shutil.rmtree(gone)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
