"""The champion for a service that runs on: fetched once a version, and shared with other services of the machine.

Apart from `reliabit.registry.pulling`, which the gate imports as well: what a service is offered leads to the models.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reliabit.cache import entry_lock, touch
from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.registry.pulling import fetch_bundle
from reliabit.registry.versions import CHAMPION, NAME, Version, resolve
from reliabit.serving.bundle.folder import verified_snapshot
from reliabit.serving.bundle.manifest import NoRoomError
from reliabit.serving.hosting import Offer
from reliabit.tracking.tracker import Tracker

BUNDLES = "bundles"
"""The folder below `paths.cache`; see `reliabit.cache`."""


@dataclass(frozen=True)
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

    def current(self) -> Offer:
        """The version that the alias names now.

        Raises:
            ReliabitError: The alias names nothing, or something that Reliabit did not register.
        """
        version = resolve(self.tracker, f"models:/{self.name}@{self.alias}")
        # What is served is of use, however long ago it was loaded.
        touch([_entry_of(version, cache=self.cache)])
        return Offer(version.number, lambda: _cached_snapshot(self.tracker, version, cache=self.cache))


def _entry_of(version: Version, *, cache: Path) -> Path:
    """Where the cache has a version's bundle, whether or not it is there: it is named after its content."""
    return cache / BUNDLES / version.digest


@contextmanager
def _cached_snapshot(tracker: Tracker, version: Version, *, cache: Path) -> Iterator[Path]:
    """A verified private copy of a version's bundle, for as long as the block lasts.

    The cache is a convenience and nothing that is trusted: what lies there counts as the version's only if the hash of
    its manifest is the digest that the registry holds, and every file is what that manifest lists. Anything else is
    fetched anew.
    """
    folder = _entry_of(version, cache=cache)
    with ExitStack() as stack:
        # One service fetches, and none replaces what another copies.
        with entry_lock(folder):
            try:
                snapshot = stack.enter_context(verified_snapshot(folder, digest=version.digest))
            except NoRoomError:
                raise
            except ReliabitError:
                with staged_folder(folder) as staging:
                    fetch_bundle(tracker, version, staging)
                snapshot = stack.enter_context(verified_snapshot(folder, digest=version.digest))
            touch([folder])
        yield snapshot
