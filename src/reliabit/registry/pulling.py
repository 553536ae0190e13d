"""Fetching a bundle from the registry, checked to the last byte before anything of it is loaded.

The registry keeps the hash of the manifest, and the manifest those of the files. So neither a file nor the manifest can
be changed where the files are kept without being noticed; whoever may write to the registry can register anything.
Only files that the manifest lists are fetched, under names that stay within the bundle.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.disk_errors import what_is_full
from reliabit.errors import ReliabitError
from reliabit.files import sha256, staged_folder
from reliabit.registry.registering import BUNDLE_PATH
from reliabit.registry.versions import Version, registry_client, resolve
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.folder import BUNDLE
from reliabit.serving.bundle.manifest import MANIFEST, read_manifest, verify_manifest
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

AGAIN = "pull the bundle again"
"""What the manifest's own check advises; here it is known how."""


@dataclass(frozen=True)
class Pulled:
    """A bundle on this machine.

    Attributes:
        version: What it is.
        folder: Where it is.
        fetched: Whether it was fetched now; it was there otherwise.
    """

    version: Version
    folder: Path
    fetched: bool


def pull(tracker: Tracker, uri: str, destination: Path, *, replace: bool = False) -> Pulled:
    """Fetch a version's bundle into a folder; nothing is left behind where it is damaged.

    Args:
        tracker: The store.
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.
        destination: The folder, which is made.
        replace: Put it in the place of another bundle, or of a damaged one.

    Returns:
        Where it is; a folder that holds it already is checked and left as it is.

    Raises:
        ReliabitError: There is no such version, a file of it is missing or differs from its manifest, the disk has no
            room for it, or the folder holds something else, or this in a damaged state.
    """
    version = resolve(tracker, uri)
    if _holds(destination, version):
        try:
            verify_manifest(destination)
        except ReliabitError as error:
            if not replace:
                found = str(error).partition(f"; {AGAIN}")[0]
                raise ReliabitError(f"{found}; {AGAIN} with --replace") from error
        else:
            return Pulled(version=version, folder=destination, fetched=False)
    _check_replaceable(destination, version=version, replace=replace)
    with staged_folder(destination) as staging:
        fetch_bundle(tracker, version, staging)
    return Pulled(version=version, folder=destination, fetched=True)


def verify_bundle(tracker: Tracker, version: Version) -> None:
    """Fetch a version's bundle to check it, and leave nothing.

    Raises:
        ReliabitError: A file of it is missing or differs from its manifest.
    """
    with TemporaryDirectory() as folder:
        fetch_bundle(tracker, version, Path(folder))


def fetch_description(tracker: Tracker, version: Version) -> Description:
    """Fetch what a version's bundle says of itself, and no more of it.

    Raises:
        ReliabitError: It is missing, or is not what was registered.
    """
    repository = _repository(tracker, version)
    with TemporaryDirectory() as place:
        folder = Path(place)
        _fetch_manifest(repository, version, folder)
        listed = read_manifest(folder).get(BUNDLE, {})
        _fetch(repository, BUNDLE, folder, uri=version.uri)
        if sha256(folder / BUNDLE) != listed.get("sha256"):
            raise ReliabitError(f"{BUNDLE} of {version.uri} differs from what {MANIFEST} lists; promote its run again")
        return Description.from_json((folder / BUNDLE).read_text(encoding="utf-8"))


def fetch_bundle(tracker: Tracker, version: Version, folder: Path) -> None:
    """Fetch a version's bundle into an empty folder, and check it.

    Raises:
        ReliabitError: A file of it is missing or differs from its manifest, or the disk has no room for it.
    """
    repository = _repository(tracker, version)
    _fetch_manifest(repository, version, folder)
    try:
        files = read_manifest(folder)
        _check_room(folder, needed=sum(int(str(entry["bytes"])) for entry in files.values()))
        for name in sorted(files):
            _fetch(repository, name, folder, uri=version.uri)
        verify_manifest(folder)
    except ReliabitError as error:
        # Of no use to anyone: the folder is gone by the time this is read.
        raise ReliabitError(str(error).replace(str(folder), version.uri)) from error


def _fetch_manifest(repository: "ArtifactRepository", version: Version, folder: Path) -> None:
    expected = version.digest
    _fetch(repository, MANIFEST, folder, uri=version.uri)
    if sha256(folder / MANIFEST) != expected:
        raise ReliabitError(
            f"{MANIFEST} of {version.uri} is not the one that was registered; promote its run again, and find out who "
            "changed it"
        )


def _holds(folder: Path, version: Version) -> bool:
    manifest = folder / MANIFEST
    return manifest.is_file() and sha256(manifest) == version.digest


def _check_replaceable(folder: Path, *, version: Version, replace: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise ReliabitError(f"{folder} exists and is no bundle; name a new folder for {version.uri}")
    if not replace:
        raise ReliabitError(
            f"{folder} holds another bundle than {version.uri}; name a new folder, or replace it with --replace"
        )


def _check_room(folder: Path, *, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ReliabitError(f"the bundle takes {needed} bytes, and {folder.parent} has {free} free; make room there")


def _repository(tracker: Tracker, version: Version) -> "ArtifactRepository":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = registry_client(tracker)
    root = client.get_model_version_download_uri(version.name, version.number)
    return get_artifact_repository(f"{root.rstrip('/')}/{BUNDLE_PATH}", tracking_uri=client.tracking_uri)


def _fetch(repository: "ArtifactRepository", name: str, folder: Path, *, uri: str) -> None:
    """Fetch one file; what goes wrong is told as one sentence, since stores of every kind have their own errors."""
    try:
        repository.download_artifacts(name, str(folder))
    except Exception as error:
        if full := what_is_full(error):
            # Not the folder itself, which is gone by the time this is read.
            raise ReliabitError(
                f"{folder.parent}, where {uri} is fetched to, {full}; make room there (TMPDIR names where temporary "
                "files go)"
            ) from error
        reason = " ".join(str(error).split())
        raise ReliabitError(
            f"{name} of {uri} cannot be fetched ({reason[:300]}); was it removed from the store?"
        ) from error
