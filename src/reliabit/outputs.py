"""Output folders: each is claimed by one process, so that what two processes write never mixes.

A claim is a file that only one process can create, before anything else is written there. It goes when its process is
done; what was written keeps the folder taken. Where a folder that is named after the time is taken, the next free name
is used; a folder that a user named is refused.
"""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import ProcessIdentity, has_ended, is_here, this_process

CLAIM = ".reliabit.claim"
"""The file whose creation claims a folder; it names the process."""


class TakenError(ReliabitError):
    """A folder belongs to another process, or holds somebody's work."""


@dataclass(frozen=True)
class ClaimedFolder:
    """A folder that this process alone writes to, until it releases it or a `with` block ends.

    Attributes:
        folder: The folder.
        made: Whether it was not there before.
    """

    folder: Path
    made: bool

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self, *, unless: Iterable[str] = ()) -> None:
        """Release the folder, and remove it where it was made for nothing.

        Args:
            unless: Names of what may lie in it and is nobody's work; it goes with a folder that holds nothing else.
        """
        (self.folder / CLAIM).unlink(missing_ok=True)
        if not self.made or not self.folder.is_dir():
            return
        found = list(self.folder.iterdir())
        if {path.name for path in found} <= {*unless}:
            for path in found:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            # Somebody else may have claimed it just now.
            with suppress(OSError):
                self.folder.rmdir()


def claim(folder: Path, *, key: str) -> ClaimedFolder:
    """Claim a folder that is not there yet or is empty.

    Args:
        folder: The folder; those above it are made as well.
        key: What names it, for the message.

    Raises:
        TakenError: It belongs to another process, or something lies in it.
        ReliabitError: It cannot be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     mine = claim(Path(parent, "out"), key="paths.output")
        ...     claim(mine.folder, key="paths.output")
        Traceback (most recent call last):
        ...
        reliabit.outputs.TakenError: paths.output=.../out is being written by process ...; name another folder
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / CLAIM).open("x", encoding="utf-8") as file:
            json.dump(asdict(this_process()), file)
    except FileExistsError as error:
        raise TakenError(_taken(folder, key=key)) from error
    except OSError as error:
        # Nobody else's: it was made here, and half of it would keep the folder taken.
        with suppress(OSError):
            (folder / CLAIM).unlink()
        raise ReliabitError(f"{key}={folder} cannot be made ({error.strerror}); name another folder") from error
    if any(path.name != CLAIM for path in folder.iterdir()):
        (folder / CLAIM).unlink()
        raise TakenError(f"{key}={folder} holds files already; name another folder, or move them away")
    return ClaimedFolder(folder, made=made)


def claim_free(folder: Path, *, key: str) -> ClaimedFolder:
    """Claim a folder, or the first of `<folder>-2`, `<folder>-3` and so on that is free; arguments as of `claim`.

    Raises:
        ReliabitError: It cannot be made.
    """
    names = (folder if number == 1 else folder.with_name(f"{folder.name}-{number}") for number in count(1))
    while True:
        with suppress(TakenError):
            return claim(next(names), key=key)


def check_distinct(folders: Sequence[Path], *, key: str, remedy: str) -> None:
    """Check that the cells of a sweep write to a folder each.

    Args:
        folders: The folder of each cell.
        key: What names them, for the message.
        remedy: What to do.

    Raises:
        ReliabitError: Two of them share one.

    >>> check_distinct([Path("out"), Path("x/../out")], key="paths.output", remedy="leave it out")
    Traceback (most recent call last):
    ...
    reliabit.errors.ReliabitError: paths.output=out is one folder for 2 of 2 cells, ...; leave it out
    """
    places = [Path(os.path.normpath(folder.absolute())) for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        shared = places.count(place)
        if shared > 1:
            raise ReliabitError(
                f"{key}={folder} is one folder for {shared} of {len(folders)} cells, which would write over each "
                f"other; {remedy}"
            )


def _taken(folder: Path, *, key: str) -> str:
    if folder.exists() and not folder.is_dir():
        return f"{key}={folder} is a file; name a folder"
    try:
        owner = ProcessIdentity(**json.loads((folder / CLAIM).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"{key}={folder} is being written by another process; name another folder"
    if is_here(owner) and has_ended(owner):
        return (
            f"{key}={folder} holds what process {owner.pid} left behind when it was killed; name another folder, or "
            "remove this one"
        )
    return f"{key}={folder} is being written by process {owner.pid} on {owner.host}; name another folder"
