"""One process at a time changes the champion, wherever the processes run.

MLflow has no locks, and its stores have little that can be built into one. Aliases are set whatever they were before,
experiments keep their name after they are deleted, and files need a disk that all share. What every store does
atomically is to create a registered model: its name is a primary key of the database, over HTTP as well. So the lock
is a registered model `<name>.lock`: whoever creates it holds it, and deleting it releases it. It carries the heartbeat
of a run, so that one whose process died is told from one that is at work.

Nothing in MLflow deletes a model only if it is still the one that was looked at. Two processes that both find a dead
holder might therefore delete each other's new lock. Hence the lock of a dead holder is removed only by whoever holds
the lock *of that very holding*, `<name>.lock.<token>`; it is taken in the same way, from a dead holder too.

A holder on another machine counts as dead after ten minutes of silence, and might wake up again. It asks whether it
still holds the lock before it changes anything (`RegistryLock.check`).
"""

import logging
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import BEAT, HOST, PID, cause_of_death, heartbeat, heartbeat_tags
from reliabit.tracking.store.calls import GONE, TAKEN, found_or_none

if TYPE_CHECKING:
    from mlflow import MlflowClient

WAIT_SECONDS = 600.0
"""So long a promotion waits for another, which may be comparing tables or fetching a bundle."""

POLL_SECONDS = 0.25
TOKEN_TAG = "lock.token"  # noqa: S105
ABOUT = "Held by the process in its tags while it changes the champion; it is removed when that ends."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegistryLock:
    """A lock that this process holds: a registered model, and what tells this holding of it from every other."""

    client: "MlflowClient"
    run_id: str
    """The name of the registered model, for its heartbeat."""
    token: str

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the lock, for its heartbeat."""
        for key, value in tags.items():
            self.client.set_registered_model_tag(self.run_id, key, value)

    def check(self) -> None:
        """Make sure that nobody took this process for dead.

        Raises:
            ReliabitError: The lock is no longer held.
        """
        if _tags(self.client, self.run_id).get(TOKEN_TAG) != self.token:
            raise ReliabitError(
                f"this process was silent for so long that another took over the lock {self.run_id}; run it again"
            )


@contextmanager
def registry_lock(client: "MlflowClient", name: str, *, wait: float = WAIT_SECONDS) -> Iterator[RegistryLock]:
    """Hold the lock of a registered model for as long as a block runs, or raise once a wait in seconds is over."""
    held = _acquire(client, f"{name}.lock", until=time.monotonic() + wait)
    try:
        with heartbeat(held):
            yield held
    finally:
        _release(held)


def _acquire(client: "MlflowClient", marker: str, *, until: float) -> RegistryLock:
    held = RegistryLock(client=client, run_id=marker, token=uuid.uuid4().hex)
    while not _created(held):
        holder = _tags(client, marker)
        cause = cause_of_death(holder, now=datetime.now(UTC))
        if cause is not None:
            _log.warning("the lock %s is taken over: its %s", marker, cause)
            _remove_dead(client, marker, token=holder[TOKEN_TAG], until=until)
        elif time.monotonic() > until:
            raise ReliabitError(_told(marker, holder))
        else:
            # Not all at the same moments.
            time.sleep(POLL_SECONDS * (0.5 + random.random()))  # noqa: S311
    return held


def _created(held: RegistryLock) -> bool:
    from mlflow.exceptions import MlflowException

    tags = {**heartbeat_tags(), TOKEN_TAG: held.token}
    try:
        held.client.create_registered_model(held.run_id, tags=tags, description=ABOUT)
    except MlflowException as error:
        # GONE: released between the attempt and MLflow's look at what was in its way.
        if error.error_code not in (TAKEN, *GONE):
            raise
        # A request that was repeated because its answer got lost finds what it made itself.
        return _tags(held.client, held.run_id).get(TOKEN_TAG) == held.token
    return True


def _remove_dead(client: "MlflowClient", marker: str, *, token: str, until: float) -> None:
    remover = _acquire(client, f"{marker}.{token[:8]}", until=until)
    try:
        if _tags(client, marker).get(TOKEN_TAG) == token:
            found_or_none(client.delete_registered_model, marker, codes=GONE)
    finally:
        _release(remover)


def _release(held: RegistryLock) -> None:
    """Delete a lock that is still held; a store that fails now must not hide what the block did or raised."""
    try:
        if _tags(held.client, held.run_id).get(TOKEN_TAG) == held.token:
            found_or_none(held.client.delete_registered_model, held.run_id, codes=GONE)
    except Exception as error:
        _log.warning("the lock %s stays until this process ends, it cannot be removed: %s", held.run_id, error)


def _tags(client: "MlflowClient", marker: str) -> dict[str, str]:
    """The tags of a lock; none where nobody holds it."""
    found = found_or_none(client.get_registered_model, marker, codes=GONE)
    return dict(found.tags) if found is not None else {}


def _told(marker: str, holder: Mapping[str, str]) -> str:
    if PID not in holder:
        return f"the registered model {marker} has no living owner on it; delete it if no promotion is running"
    return (
        f"another promotion holds the lock {marker} (process {holder[PID]} on {holder[HOST]}, last seen "
        f"{holder[BEAT]}); try again when it has ended"
    )
