"""The operating system's refusals to read and write, in one sentence each."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from reliabit.errors import ReliabitError
from reliabit.files import WRITING

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

_RUST = re.compile(r"\(os error (?P<number>\d+)\)$")
"""How safetensors and tokenizers end what the system told them."""

_QUOTED = re.compile(r"\[Errno (?P<number>\d+)\]")
"""How Python writes the system's number into the text of an error."""

_CUT_SHORT = re.compile(r"^\d+ requested and \d+ written$|unexpected pos \d+ vs \d+$")
"""What NumPy and PyTorch say of a file that did not take all of an array; a full disk is the reason that there is."""


def number_of(error: BaseException) -> int | None:
    """The operating system's number for what an exception says, whichever library raises it.

    >>> number_of(Exception("I/O error: No space left on device (os error 28)")) == errno.ENOSPC
    True
    >>> number_of(OSError("100 requested and 7 written")) == errno.ENOSPC
    True
    >>> number_of(ValueError("no number")) is None
    True
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error).strip()
    if found := _RUST.search(text):
        return int(found["number"])
    return errno.ENOSPC if _CUT_SHORT.search(text) else None


def what_is_full(error: BaseException) -> str | None:
    """What is said of a full disk, if an exception or one of its causes is about one.

    MLflow gathers the failures of several files into one text, numbers included.

    >>> what_is_full(OSError(errno.ENOSPC, "No space left on device")), what_is_full(ValueError("x"))
    ('has no space left', None)
    >>> what_is_full(Exception("failures: a.txt: [Errno 28] No space left on device: 'a.txt'"))
    'has no space left'
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        quoted = _QUOTED.search(str(cause))
        number = int(quoted["number"]) if quoted else number_of(cause)
        if number in FULL:
            return FULL[number]
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def plain_disk_errors() -> Iterator[None]:
    """Turn the operating system's refusals into the exception that a user reads; other exceptions pass.

    What was being written has a temporary name and vanishes, so nothing is left half-written.

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
    except ReliabitError:
        raise
    except Exception as error:
        number, named = number_of(error), _place(error)
        if isinstance(error, OSError) and number in REFUSED and named is not None:
            raise ReliabitError(f"{named} {REFUSED[number]}; correct the path or its permissions") from error
        if number not in FULL:
            raise
        raise ReliabitError(
            f"{named or 'the disk that is written to'} {FULL[number]}; make room (reliabit doctor --keep-gib 1) or set "
            "the path that it lies below (paths.output, paths.cache, paths.data, task.checkpoint) to another disk, "
            "then run again (a sweep goes on with sweep.resume=last)"
        ) from error


def _place(error: BaseException) -> str | None:
    """The path that an exception names: of two, the one that was written to."""
    if isinstance(error, OSError) and (error.filename2 or error.filename):
        return str(error.filename2 or error.filename)
    # What is written under a temporary name has its own in a note; see `reliabit.files`.
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(WRITING) for note in notes if note.startswith(WRITING)), None)
