"""What a disk that takes nothing more means, in one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from reliabit.errors import ReliabitError

FULL = {
    errno.ENOSPC: "has no space left",
    errno.EDQUOT: "has reached its quota",
    errno.EFBIG: "may not grow further (ulimit -f)",
    errno.EROFS: "is on a read-only file system",
}
REFUSED = {
    errno.EACCES: "may not be read or written by this user",
    errno.EPERM: "may not be changed",
    errno.ENOTDIR: "needs a folder where there is a file",
    errno.EEXIST: "needs a folder where there is a file",
}


@contextmanager
def plain_disk_errors() -> Iterator[None]:
    """Turn the operating system's refusal to write into the one exception that a user reads; the rest passes.

    Whatever was being written has a temporary name and vanishes, so nothing is left half-written.

    Raises:
        ReliabitError: A disk is full, its quota is used up, or a place cannot be written or read.

    Example:
        >>> with plain_disk_errors():
        ...     raise OSError(errno.ENOSPC, "No space left on device", "cache/answers/x")
        Traceback (most recent call last):
        ...
        reliabit.errors.ReliabitError: cache/answers/x has no space left; make room (reliabit doctor --keep-gib 1) ...
    """
    try:
        yield
    except OSError as error:
        place = error.filename or "the disk that is written to"
        if error.errno in REFUSED and error.filename:
            raise ReliabitError(f"{place} {REFUSED[error.errno]}; correct the path or its permissions") from error
        if error.errno not in FULL:
            raise
        raise ReliabitError(
            f"{place} {FULL[error.errno]}; make room (reliabit doctor --keep-gib 1) or set the path that it lies below "
            "(paths.output, paths.cache, paths.data, task.checkpoint) to another disk, then run again (a sweep goes on "
            "with sweep.resume=last)"
        ) from error
