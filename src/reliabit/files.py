"""Atomic writing of files and folders, names that stay within them, and records that tell what was written."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

from reliabit.errors import DamagedError, ReliabitError

WRITING = "while writing "
"""How the note begins that names the file or folder whose writing an exception ended; see `reliabit.disk_errors`."""


@contextmanager
def _noting(path: Path) -> Iterator[None]:
    try:
        yield
    except ReliabitError:
        raise
    except Exception as error:
        error.add_note(f"{WRITING}{path}")
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        unfinished = Path(file.name)
    try:
        with _noting(path):
            yield unfinished
            unfinished.chmod(0o644)
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 as a file, whole or not at all; folders above it are made."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def check_no_folder(path: Path, *, option: str) -> None:
    """Check, before anything is computed, that a file may be written where an option says.

    Raises:
        ReliabitError: There is a folder.
    """
    if path.is_dir():
        raise ReliabitError(f"{option}={path} is a folder; name a file in it")


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: it takes the place of `folder` when the block ends well, and vanishes otherwise.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     with staged_folder(Path(parent, "checkpoint")) as staging:
        ...         _ = (staging / "config.json").write_text("{}")
        ...     sorted(path.name for path in Path(parent).iterdir())
        ['checkpoint']
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    aside = staging.with_name(f"{staging.name}.old")
    try:
        with _noting(folder):
            yield staging
            staging.chmod(0o755)
            take_place(staging, folder, aside=aside)
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def take_place(new: Path, folder: Path, *, aside: Path) -> None:
    """Rename `new` to `folder`, and what stood there to `aside`; between the two renames nothing stands there.

    All three lie on one file system.
    """
    if folder.exists():
        folder.rename(aside)
    try:
        new.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise


def leads_out(name: str) -> bool:
    r"""Whether a name, joined to a folder, is no path or one that leaves the folder; links are not followed.

    Every name that somebody else may have chosen is held against this before a path is made of it.

    >>> [leads_out(name) for name in ("a/b.txt", "../a", "a/../../b", "/etc/passwd", "a\0", "")]
    [False, True, True, True, True, True]
    """
    path = PurePosixPath(name)
    return not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name


def inside(folder: Path, name: str) -> Path:
    """The path of a name below a folder.

    Raises:
        ReliabitError: It would lead out of the folder.
    """
    if leads_out(name):
        raise ReliabitError(f"{name[:200]!a} leads out of {folder}; give a relative path without ..")
    return folder / name


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SEAL, _BEHIND = b'{"seal": "', b'",'
_DIGITS = 64


def sealed(record: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """A record as JSON that begins with the SHA-256 of all that follows, so that no byte of it changes unnoticed.

    >>> sealed({"seconds": 1.5}).decode().strip()
    '{"seal": "b7efbfe3b8a5afadfb29583b4cba856a06429e4ece139c210321a65be1dfbdd9","seconds": 1.5}'
    """
    text = f"{json.dumps(dict(record), indent=indent, sort_keys=True)}\n".encode()
    return _SEAL + hashlib.sha256(text).hexdigest().encode() + _BEHIND + text[1:]


def read_sealed(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read a record that was written as `sealed` gives it.

    Args:
        path: The file.
        remedy: What to do where it is damaged, for the message.

    Raises:
        DamagedError: It cannot be read, has no seal, or is not what was sealed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})", remedy=remedy) from error
    behind = len(_SEAL) + _DIGITS
    text = b"{" + content[behind + len(_BEHIND) :]
    if content[: behind + len(_BEHIND)] != _SEAL + hashlib.sha256(text).hexdigest().encode() + _BEHIND:
        raise DamagedError(f"{path} differs from the hash it begins with", remedy=remedy)
    try:
        record: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is no record ({error})", remedy=remedy) from error
    return record


def check_hash(path: Path, expected: str, *, remedy: str) -> None:
    """Check that a file is the one whose SHA-256 was kept.

    Raises:
        DamagedError: It is another one, or cannot be read.
    """
    try:
        whole = sha256(path) == expected
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})", remedy=remedy) from error
    if not whole:
        raise DamagedError(f"{path} differs from its hash", remedy=remedy)


MANIFEST = "reliabit_files.json"
"""The record of what a folder held when it was written."""


def write_manifest(folder: Path, files: Iterable[Path], **facts: str) -> Path:
    """Write the hashes of files below a folder into it, with other facts about them; returns the manifest's path."""
    record = {"files": {path.relative_to(folder).as_posix(): sha256(path) for path in files}, **facts}
    with replacing(folder / MANIFEST) as unfinished:
        unfinished.write_bytes(sealed(record, indent=1))
    return folder / MANIFEST


def check_manifest(folder: Path, *, remedy: str) -> dict[str, Any]:
    """Check all files that a folder's manifest names, and return it; arguments as of `read_manifest`.

    Raises:
        DamagedError: There is no manifest, or it or a file is not as it was written.
    """
    record = read_manifest(folder, remedy=remedy)
    for name, expected in record["files"].items():
        check_hash(inside(folder, name), expected, remedy=remedy)
    return record


def read_manifest(folder: Path, *, remedy: str) -> dict[str, Any]:
    """Read a folder's manifest; `files` are the hashes of its files by name.

    Args:
        folder: The folder.
        remedy: What to do where it is damaged, for the message.

    Raises:
        DamagedError: There is none, or it is not as it was written.
    """
    record = read_sealed(folder / MANIFEST, remedy=remedy)
    if not isinstance(record.get("files"), dict):
        raise DamagedError(f"{folder / MANIFEST} names no files", remedy=remedy)
    return record
