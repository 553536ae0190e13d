"""The list of everything in a bundle with its hash, checked before anything of it is loaded."""

import json
from pathlib import Path, PurePosixPath

from reliabit.errors import ReliabitError
from reliabit.files import replacing, sha256

MANIFEST = "manifest.json"
FORMAT = 1


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


def verify_manifest(folder: Path) -> None:
    """Check that a folder holds exactly what its manifest lists.

    Raises:
        ReliabitError: A file is missing, was added or differs, or there is no manifest that can be read.
    """
    listed = read_manifest(folder)
    found = set(_files(folder))
    for name in sorted(set(listed) | found):
        if name not in found:
            raise ReliabitError(f"{folder / name} is missing, and {MANIFEST} lists it; pull the bundle again")
        if name not in listed:
            raise ReliabitError(f"{folder / name} is not listed in {MANIFEST}; pull the bundle again")
        if (folder / name).stat().st_size != listed[name]["bytes"] or sha256(folder / name) != listed[name]["sha256"]:
            raise ReliabitError(f"{folder / name} differs from what {MANIFEST} lists; pull the bundle again")


def manifest_digest(folder: Path) -> str:
    """The SHA-256 of a folder's manifest: it stands for every file below, and may be kept where the folder is not.

    Raises:
        ReliabitError: There is no manifest.
    """
    read_manifest(folder)
    return sha256(folder / MANIFEST)


def _files(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReliabitError(f"{path} is no plain file, and a bundle holds nothing else; remove it")
        if path.is_file() and name != MANIFEST:
            found.append(name)
    return found


def read_manifest(folder: Path) -> dict[str, dict[str, object]]:
    """What a folder's manifest lists: by file, its `sha256` and its `bytes`. The files need not be there yet.

    Raises:
        ReliabitError: There is none, it cannot be read, or it names something that lies outside of the folder.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ReliabitError(f"{path} is in format {manifest['format']!r}, and this version reads format {FORMAT}")
        files: dict[str, dict[str, object]] = manifest["files"]
        for name, entry in files.items():
            if not (_is_inside(name) and isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int)):
                raise ReliabitError(f"{path} lists {name!r}, which is no file of a bundle; pull the bundle again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReliabitError(f"{path} cannot be read as a manifest ({error}); pull the bundle again") from error
    return files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    plain = path.as_posix() == name and bool(path.parts) and name != MANIFEST
    return plain and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
