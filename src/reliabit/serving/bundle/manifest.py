"""The list of everything in a bundle with its hash, checked before anything of it is loaded."""

import errno
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import IO, Any

from reliabit.errors import ReliabitError
from reliabit.files import leads_out, replacing, sha256

MANIFEST = "manifest.json"
FORMAT = 1
PIECE = 2**20
"""Bytes that are copied at a time."""

Listed = dict[str, dict[str, Any]]
"""By file, its `sha256` and its `bytes`."""


class NoRoomError(ReliabitError):
    """A bundle cannot be copied for want of room, whatever is in it."""


def write_manifest(folder: Path) -> None:
    """List every file below a folder, with its size and SHA-256, in `manifest.json`.

    Raises:
        ReliabitError: Something in it is no plain file, such as a link.
    """
    files = {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in _files(folder)
    }
    with replacing(folder / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True) + "\n")


def check_bundle(folder: Path) -> None:
    """Check that a folder looks like a bundle, without opening anything in it.

    Raises:
        ReliabitError: There is no such folder, or no manifest in it.
    """
    if not folder.is_dir():
        raise ReliabitError(f"{folder} is no folder; name the one that `reliabit pull` made")
    if not (folder / MANIFEST).exists():
        raise ReliabitError(f"{folder} is no bundle: it has no {MANIFEST}; name one that `reliabit pull` made")


def read_manifest(folder: Path) -> Listed:
    """What a folder's manifest lists; the files need not be there yet.

    Raises:
        ReliabitError: There is none, it cannot be read, or it names something that lies outside of the folder.
    """
    return _parse(_read_plain(folder / MANIFEST), folder / MANIFEST)


def manifest_digest(folder: Path) -> str:
    """The SHA-256 of a folder's manifest: it stands for every file below, and may be kept where the folder is not.

    Raises:
        ReliabitError: There is no manifest.
    """
    read_manifest(folder)
    return sha256(folder / MANIFEST)


def verify_manifest(folder: Path) -> None:
    """Check that a folder holds exactly what its manifest lists.

    Raises:
        ReliabitError: A file is missing, was added or differs, or there is no manifest that can be read.
    """
    listed = read_manifest(folder)
    _check_listing(folder, listed)
    for name in sorted(listed):
        if sha256(folder / name) != listed[name]["sha256"]:
            raise _differs(folder / name)


def copy_verified(folder: Path, destination: Path, *, digest: str | None = None) -> None:
    """Copy a bundle into an empty folder, and check what was written there rather than what it was read from.

    Whatever is done to the bundle meanwhile, the copy holds exactly what one manifest lists, or this fails.

    Args:
        folder: The bundle.
        destination: Where to.
        digest: What `manifest_digest` must be, as it is kept elsewhere; `None` where nobody keeps it.

    Raises:
        ReliabitError: The manifest is not that one, a file is missing, was added or differs, or there is no room.
    """
    text = _read_plain(folder / MANIFEST)
    if digest is not None and hashlib.sha256(text).hexdigest() != digest:
        raise ReliabitError(
            f"{folder / MANIFEST} is not the one that is expected (its SHA-256 is not {digest}); "
            "pull the bundle again, and find out who changed it"
        )
    listed = _parse(text, folder / MANIFEST)
    needed, free = sum(entry["bytes"] for entry in listed.values()), shutil.disk_usage(destination).free
    try:
        _check_listing(folder, listed)
        if needed > free:
            raise _no_room(destination, needed=needed, free=free)
        for name in sorted(listed):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            _copy_file(folder / name, destination / name, listed[name])
        (destination / MANIFEST).write_bytes(text)
    # Somebody may be changing it at this moment.
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(destination, needed=needed, free=shutil.disk_usage(destination).free) from error
        raise _unreadable(folder, error) from error


def _files(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReliabitError(f"{path} is no plain file, and a bundle holds nothing else; remove it")
        if path.is_file() and name != MANIFEST:
            found.append(name)
    return found


def _parse(text: bytes, path: Path) -> Listed:
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ReliabitError(f"{path} is in format {manifest['format']!r}, and this version reads format {FORMAT}")
        files: Listed = manifest["files"]
        for name, entry in files.items():
            if not (_is_inside(name) and isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int)):
                raise ReliabitError(f"{path} lists {name!r}, which is no file of a bundle; pull the bundle again")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReliabitError(f"{path} cannot be read as a manifest ({error}); pull the bundle again") from error
    return files


def _is_inside(name: str) -> bool:
    return not leads_out(name) and PurePosixPath(name).as_posix() == name and name != MANIFEST and "\\" not in name


def _check_listing(folder: Path, listed: Listed) -> None:
    """Check names and sizes, which costs little, before anything is hashed or copied."""
    found = set(_files(folder))
    for name in sorted(set(listed) | found):
        if name not in found:
            raise ReliabitError(f"{folder / name} is missing, and {MANIFEST} lists it; pull the bundle again")
        if name not in listed:
            raise ReliabitError(f"{folder / name} is not listed in {MANIFEST}; pull the bundle again")
        if (folder / name).stat().st_size != listed[name]["bytes"]:
            raise _differs(folder / name)


def _copy_file(source: Path, destination: Path, entry: dict[str, Any]) -> None:
    found, left = hashlib.sha256(), entry["bytes"]
    with _open_plain(source) as reading, destination.open("xb") as writing:
        while piece := reading.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            found.update(piece)
            writing.write(piece)
    if left or found.hexdigest() != entry["sha256"]:
        raise _differs(source)


def _read_plain(path: Path) -> bytes:
    with _open_plain(path) as file:
        return file.read()


def _open_plain(path: Path) -> IO[bytes]:
    """Open a file that is no link, pipe or device, whatever takes its place meanwhile."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ReliabitError(f"{path} is no plain file, and a bundle holds nothing else; pull the bundle again")
    return file


def _differs(path: Path) -> ReliabitError:
    return ReliabitError(f"{path} differs from what {MANIFEST} lists; pull the bundle again")


def _unreadable(path: Path, error: OSError) -> ReliabitError:
    what = "cannot be read as a manifest" if path.name == MANIFEST else "cannot be read"
    return ReliabitError(f"{path} {what} ({error.strerror}); pull the bundle again")


def _no_room(place: Path, *, needed: int, free: int) -> NoRoomError:
    return NoRoomError(
        f"the verified copy of the bundle takes {needed} bytes, and {place.parent} has {free} free; "
        "make room, or set TMPDIR to a folder with room"
    )
