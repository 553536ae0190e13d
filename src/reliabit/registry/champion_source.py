"""The champion for a service that runs on: fetched once a version, and shared with other services of the machine."""

from dataclasses import dataclass, field
from pathlib import Path

from reliabit.cache import entry_lock, touch
from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.registry.pulling import fetch_bundle
from reliabit.registry.versions import CHAMPION, NAME, Version, resolve
from reliabit.serving.manifest import verify_manifest
from reliabit.tracking.tracker import Tracker

KIND = "bundles"
"""The folder below `paths.cache`; see `reliabit.cache`."""


@dataclass
class ChampionSource:
    """Where a service gets the bundle that it is to serve.

    Attributes:
        tracker: The store.
        cache: The folder that is `paths.cache`.
        name: The registered model.
        alias: The alias that is followed.
    """

    tracker: Tracker
    cache: Path
    name: str = NAME
    alias: str = CHAMPION
    _last: tuple[str, Path] | None = field(default=None, init=False, repr=False)

    def current(self) -> tuple[str, Path]:
        """The version that the alias names now, and its bundle, verified when it is first of use.

        Raises:
            ReliabitError: The alias names nothing, or the bundle is damaged.
        """
        version = resolve(self.tracker, f"models:/{self.name}@{self.alias}")
        # Entries are named after their content, so one that was of use needs no second look until it vanishes.
        folder = self.cache / KIND / version.digest
        if self._last != (version.number, folder) or not folder.is_dir():
            cached_bundle(self.tracker, version, cache=self.cache)
            self._last = (version.number, folder)
        # What is served is of use, however long ago it was loaded.
        touch([folder])
        return version.number, folder


def cached_bundle(tracker: Tracker, version: Version, *, cache: Path) -> Path:
    """The verified bundle of a version in the cache, fetched if it is not there or was damaged there.

    Args:
        tracker: The store.
        version: The version.
        cache: The folder that is `paths.cache`.

    Returns:
        The folder, which may be removed at any time that it is not read; see `reliabit.cache`.

    Raises:
        ReliabitError: The bundle in the store is damaged.
    """
    folder = cache / KIND / version.digest
    # One service fetches, and none replaces what another reads.
    with entry_lock(folder):
        if not _is_whole(folder):
            with staged_folder(folder) as staging:
                fetch_bundle(tracker, version, staging)
        touch([folder])
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        verify_manifest(folder)
    except ReliabitError:
        return False
    return True
