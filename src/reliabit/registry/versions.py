"""The versions of a registered model: which there are, which one an alias names, and taking one away.

MLflow gives a version's number as an integer from a database and as a string over HTTP; here it is always a string.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.registry._lock import WAIT_SECONDS, registry_lock
from reliabit.tracking.store.calls import TAKEN, all_pages, found_or_none
from reliabit.tracking.store.opening import NO_REGISTRY
from reliabit.tracking.tracker import Journal, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

NAME = "reliabit"
"""The registered model, unless a policy names another."""

CANDIDATE, CHAMPION = "candidate", "champion"
"""The alias of the version that was put forward last, and of the one that is served."""

DIGEST_TAG = "bundle.manifest"
"""The SHA-256 of the bundle's manifest, and so of every byte of the bundle; kept apart from where its files are."""

ABOUT = """\
Quantized models that a gate has judged. A version is a bundle of weights, the confidence that abstains, and certified
thresholds; its description is its model card.

- The alias `champion` is what `reliabit serve` answers with; `candidate` was put forward last.
- `reliabit history` says what went live when and why, `reliabit rollback` goes back a step.
"""
"""The description of a registered model."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")
VERSION_NUMBER = re.compile(r"[1-9]\d{0,8}")
_URI = re.compile(
    rf"models:/(?P<name>{_NAME.pattern})(?:@(?P<alias>{_NAME.pattern})|/(?P<number>{VERSION_NUMBER.pattern}))"
)


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: The registered model.
        number: The version.
        run_id: The run that measured what it serves, if there is one.
        tags: Its tags.
        aliases: The aliases that name it.
        created: When it was registered.
    """

    name: str
    number: str
    run_id: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    created: datetime

    @property
    def uri(self) -> str:
        """Its address, which names it whatever becomes of the aliases."""
        return f"models:/{self.name}/{self.number}"

    @property
    def digest(self) -> str:
        """The SHA-256 of its bundle's manifest.

        Raises:
            ReliabitError: It was registered by something else than Reliabit.
        """
        if DIGEST_TAG not in self.tags:
            raise ReliabitError(f"{self.uri} holds no bundle that Reliabit registered; promote a run instead")
        return self.tags[DIGEST_TAG]


def registry_client(tracker: Tracker) -> "MlflowClient":
    """The client of the registry beside a tracking store.

    Raises:
        ReliabitError: Runs go to a journal, which has none.
    """
    if isinstance(tracker, Journal):
        raise ReliabitError(NO_REGISTRY)
    return tracker.client


def check_name(name: str) -> None:
    """Refuse a name of a registered model that would not work everywhere: in addresses, files and searches.

    Raises:
        ReliabitError: It holds something else than letters, digits, points, dashes and underscores.
    """
    if _NAME.fullmatch(name) is None:
        raise ReliabitError(f"{name!r} is no name of a registered model; use letters, digits, points, - and _")


def find_version(tracker: Tracker, name: str, number: str) -> Version:
    """A version of a registered model.

    Raises:
        ReliabitError: There is none.
    """
    client = registry_client(tracker)
    uri = f"models:/{name}/{number}"
    check_name(name)
    if VERSION_NUMBER.fullmatch(number) is None:
        raise ReliabitError(f"{uri} names no version; it reads models:/{NAME}/3")
    found = found_or_none(client.get_model_version, name, number)
    if found is None:
        raise ReliabitError(f"there is no {uri}; it was deleted, or never registered in this store")
    return _version(found)


def list_versions(tracker: Tracker, name: str) -> list[Version]:
    """All versions of a registered model, oldest first; none where there is no such model."""
    check_name(name)
    found: Iterator[ModelVersion] = all_pages(registry_client(tracker).search_model_versions, f"name = '{name}'")
    return sorted((_version(version) for version in found), key=lambda version: int(version.number))


def make_registered_model(client: "MlflowClient", name: str) -> None:
    """Make a registered model where it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=ABOUT)
    except MlflowException as error:
        if error.error_code != TAKEN:
            raise


def find_alias(tracker: Tracker, name: str, alias: str) -> Version | None:
    """The version that an alias names, if it names one."""
    check_name(name)
    found = found_or_none(registry_client(tracker).get_model_version_by_alias, name, alias)
    return _version(found) if found is not None else None


def resolve(tracker: Tracker, uri: str) -> Version:
    """The version that an address names.

    Args:
        tracker: The store.
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        ReliabitError: It is no such address, or names nothing.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise ReliabitError(
            f"{uri!r} is no address of a version; it reads models:/{NAME}@{CHAMPION} or models:/{NAME}/3"
        )
    if found["number"]:
        return find_version(tracker, found["name"], found["number"])
    version = find_alias(tracker, found["name"], found["alias"])
    if version is None:
        raise ReliabitError(f"there is no {uri}; promote a version first, or name one by its number")
    return version


def delete_version(tracker: Tracker, name: str, number: str, *, wait: float = WAIT_SECONDS) -> None:
    """Take a version out of the registry, unless an alias names it; MLflow would silently remove the alias as well.

    Args:
        tracker: The store.
        name: The registered model.
        number: The version.
        wait: Seconds to wait for a promotion that is under way.

    Raises:
        ReliabitError: There is no such version, an alias names it, or a promotion goes on for too long.
    """
    client = registry_client(tracker)
    with registry_lock(client, name, wait=wait) as lock:
        version = find_version(tracker, name, number)
        if version.aliases:
            raise ReliabitError(
                f"{version.uri} is the {' and the '.join(version.aliases)}; promote another version or roll back "
                "before you delete it"
            )
        lock.check()
        client.delete_model_version(name, number)


def _version(found: "ModelVersion") -> Version:
    return Version(
        name=found.name,
        number=str(found.version),
        run_id=found.run_id or None,
        tags=dict(found.tags),
        aliases=tuple(sorted(found.aliases)),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
    )
