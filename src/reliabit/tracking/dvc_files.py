"""What DVC's files and our manifests say of a path, whether it is still so, and how to get it back."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.data.prepared_table import MANIFEST, read_manifest
from reliabit.errors import ReliabitError
from reliabit.files import sha256, staged_folder

DIRECTORY = ".dir"


@dataclass(frozen=True)
class ContentRecord:
    """A recorded content.

    Attributes:
        algorithm: `md5` or `sha256`.
        value: The hash; DVC's ends in `.dir` for a folder.
        recorded_in: The file that says so, relative to the project.
    """

    algorithm: str
    value: str
    recorded_in: str


def find_record(path: Path, *, root: Path) -> ContentRecord:
    """What is recorded of a path: by `dvc.lock`, by a `.dvc` file beside it, or by the manifest of a prepared table.

    Args:
        path: Relative to the project.
        root: The project's folder.

    Raises:
        ReliabitError: Nothing is, or a file that should say it cannot be read.
    """
    for record in _records(path, root):
        return record
    raise ReliabitError(
        f"{path} is recorded neither in dvc.lock, nor in {path.name}.dvc, nor in a {MANIFEST}; run dvc add or dvc repro"
    )


def matches(path: Path, *, algorithm: str, value: str) -> bool:
    """Whether a file or folder is there with a recorded content."""
    if algorithm == "sha256":
        return _is_table(path, manifest=value)
    if path.is_dir():
        return value.endswith(DIRECTORY) and _md5_of_folder(path) == value
    return path.is_file() and _md5(path) == value


def up_to_date(root: Path) -> bool:
    """Whether no stage of a project's pipeline would run: what it wrote is what the present code and options write."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return not repo.status()
    except DvcException:
        return False


def fetch_from_dvc(value: str, *, root: Path, target: Path) -> Path:
    """Copy a content out of DVC's cache, pulled from the default remote first where the cache lacks it.

    Args:
        value: The MD5 as DVC records it.
        root: The project's folder.
        target: The file or folder to write.

    Raises:
        ReliabitError: Neither has it, or DVC cannot be used there.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            _bring(repo, [value])
            if value.endswith(DIRECTORY):
                # DVC takes a folder whose listing is cached for cached.
                _bring(repo, [entry["md5"] for entry in _listing(repo.cache.local, value)])
            return _copy_out(repo.cache.local, value, target)
    except (DvcException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"DVC cannot restore {value} into {target}: {reason}") from error


def _records(path: Path, root: Path) -> Iterator[ContentRecord]:
    lock, beside, manifest = root / "dvc.lock", root / f"{path}.dvc", root / path / MANIFEST
    if lock.is_file():
        stages = _read_yaml(lock).get("stages", {}).values()
        # An output is what DVC can bring back; a dependency is only known by its hash.
        for kind in ("outs", "deps"):
            for stage in stages:
                yield from _entries(stage.get(kind, []), path.as_posix(), "dvc.lock")
    if beside.is_file():
        yield from _entries(_read_yaml(beside).get("outs", []), path.name, f"{path.as_posix()}.dvc")
    if manifest.is_file():
        yield ContentRecord("sha256", sha256(manifest), (path / MANIFEST).as_posix())


def _entries(entries: list[dict[str, Any]], path: str, recorded_in: str) -> Iterator[ContentRecord]:
    for entry in entries:
        # Entries of DVC 2 lack the name of the hash; theirs is another one.
        if entry.get("path") == path and entry.get("hash") == "md5":
            yield ContentRecord("md5", entry["md5"], recorded_in)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ReliabitError(f"{path} cannot be read as YAML; restore it from git") from error
    if not isinstance(content, dict):
        raise ReliabitError(f"{path} is not a file of DVC's; restore it from git")
    return content


def _is_table(folder: Path, *, manifest: str) -> bool:
    path = folder / MANIFEST
    if not path.is_file() or sha256(path) != manifest:
        return False
    files = {folder / f"{split}.parquet": record.sha256 for split, record in read_manifest(folder).items()}
    return all(file.is_file() and sha256(file) == digest for file, digest in files.items())


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_folder(folder: Path) -> str:
    """The hash of a folder as DVC defines it: of the list of its files, by path, each with its own."""
    files = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listing = json.dumps([{"md5": _md5(path), "relpath": relative} for relative, path in sorted(files)], sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + DIRECTORY


def _bring(repo: Any, values: Sequence[str]) -> None:
    """Make sure that objects are in the cache, from the default remote where they are not."""
    from dvc_data.hashfile.hash_info import HashInfo

    missing = _missing(repo.cache.local, values)
    if missing:
        repo.cloud.pull([HashInfo("md5", value) for value in missing])
        lost = _missing(repo.cache.local, missing)
        if lost:
            raise ReliabitError(f"{lost[0]} is neither in DVC's cache nor in its remote; push it where it was made")


def _missing(cache: Any, values: Sequence[str]) -> list[str]:
    return [value for value in values if not Path(cache.oid_to_path(value)).is_file()]


def _listing(cache: Any, value: str) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(Path(cache.oid_to_path(value)).read_text(encoding="utf-8"))
    return entries


def _copy_out(cache: Any, value: str, target: Path) -> Path:
    if not value.endswith(DIRECTORY):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cache.oid_to_path(value), target)
        return target
    with staged_folder(target) as staging:
        for entry in _listing(cache, value):
            file = staging / entry["relpath"]
            if not file.resolve().is_relative_to(staging.resolve()):
                raise ReliabitError(f"{value} names the file {entry['relpath']!r} outside its folder; do not trust it")
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.oid_to_path(entry["md5"]), file)
    return target
