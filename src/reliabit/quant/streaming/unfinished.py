"""The folder in which a checkpoint comes into being: one process at a time, kept when that is killed."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.files import replacing, take_place

JOB = "job.json"
_WHOLE, _OLD = "whole", "old"
_LOG = logging.getLogger(__name__)


def unfinished_name(destination: Path) -> Path:
    """Where the work for a folder is kept until it is done.

    Example:
        >>> unfinished_name(Path("checkpoints/qwen")).as_posix()
        'checkpoints/.qwen.unfinished'
    """
    return destination.parent / f".{destination.name}.unfinished"


@contextmanager
def unfinished_folder(destination: Path, *, job: str) -> Iterator[Path]:
    """Hold the folder of the work for a destination, with what an earlier process left there of the same job.

    When the block ends well the folder goes. When it does not, it stays for the next call, unless it holds nothing.

    Args:
        destination: The folder that is to come into being.
        job: What the work depends on; what is left of another job is thrown away.

    Yields:
        The folder.

    Raises:
        ReliabitError: Another process is at it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     with unfinished_folder(Path(parent, "checkpoint"), job="a") as folder:
        ...         folder.name
        '.checkpoint.unfinished'
    """
    folder = unfinished_name(destination)
    with _held(folder, destination):
        _keep_only(folder, job)
        try:
            yield folder
        except BaseException:
            if {path.name for path in folder.iterdir()} <= {JOB}:
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


@contextmanager
def whole_folder(work: Path, destination: Path) -> Iterator[Path]:
    """An empty folder inside the work's that takes the destination's place when the block ends well.

    Args:
        work: The work's folder.
        destination: Where to; what is there is replaced.

    Yields:
        The empty folder.
    """
    whole = work / _WHOLE
    if whole.exists():
        shutil.rmtree(whole)
    whole.mkdir()
    yield whole
    old = work / _OLD
    if old.exists():
        shutil.rmtree(old)
    take_place(whole, destination, aside=old)


@contextmanager
def _held(folder: Path, destination: Path) -> Iterator[None]:
    """Lock the folder itself, which leaves no lock file behind; the system lets go of it when the process dies."""
    while (opened := _try_lock(folder, destination)) is None:
        pass
    try:
        yield
    finally:
        os.close(opened)


def _try_lock(folder: Path, destination: Path) -> int | None:
    """The locked folder's descriptor; None if whoever held it finished and removed it just then."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = folder.is_dir() and os.fstat(opened).st_ino == folder.stat().st_ino
    except BlockingIOError as error:
        os.close(opened)
        raise ReliabitError(f"another process is writing {destination}; wait for it, or name another folder") from error
    if not held:
        os.close(opened)
        return None
    return opened


def _keep_only(folder: Path, job: str) -> None:
    found = list(folder.iterdir())
    if _job_of(folder) != job:
        if any(path.name != JOB for path in found):
            _LOG.warning("%s is left from another model, plan or version of this code; starting over", folder)
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with replacing(folder / JOB) as unfinished:
            unfinished.write_text(json.dumps({"job": job}) + "\n", encoding="utf-8")


def _job_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / JOB).read_text(encoding="utf-8"))["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
