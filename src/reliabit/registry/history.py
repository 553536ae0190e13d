"""What became of every attempt to change the champion: MLflow keeps no history of its aliases, so this is it.

Each attempt is a run of its own, so none overwrites another, and the runs show in MLflow's pages as they are. A run is
opened before the alias is moved and finished after: an attempt that was cut short is in the history too. Attempts are
numbered under the registry's lock, as clocks of several machines do not tell which came first. Runs that were deleted
stay in the history for as long as MLflow keeps them.

Anyone who brings runs into the store could bring one that looks like an attempt. So the registered model itself lists
the runs that the registry made, in a tag for each number, which nothing that imports runs can write. A run that is not
listed is no attempt, whatever it says; it is named and left out, and so is a listed one that cannot be read. Champions
from before there was the list are told by their versions, on which every move of the alias is written.
"""

import functools
import getpass
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.registry.attempts import ACCEPTED, FAILED, OUTCOMES, RUNNING, Attempt
from reliabit.registry.versions import (
    CHAMPION,
    VERSION_NUMBER,
    Version,
    check_name,
    list_versions,
    make_registered_model,
    registry_client,
)
from reliabit.tracking.redaction import redact
from reliabit.tracking.store.calls import all_pages, found_or_none, store_errors
from reliabit.tracking.store.sqlite import ALL
from reliabit.tracking.tags import FAILURE_REASON, FINGERPRINT_TAG, KIND
from reliabit.tracking.tracker import TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

PROMOTION = "promotion"
"""The kind of the runs that record attempts."""
# The last is not the tag of a pipeline's run: nobody may take an attempt for a finished one of those.
_NAMES = ("model", "number", "action", "version", "previous", "by", "outcome", "reason", "source_run", "fingerprint")
MODEL, NUMBER, ACTION, VERSION, PREVIOUS, BY, OUTCOME, REASON, SOURCE_RUN, FINGERPRINT = (
    f"promotion.{name}" for name in _NAMES
)
REASON_LENGTH = 2000
PAGE = 1000

LISTED = "promotion.attempt."
"""How the tags of a registered model begin that list its attempts: their number follows, their value is the run."""

MOVED = f"promotion.{CHAMPION}."
"""How the tags of a version begin that say when it last became champion, by whom, after which one, and why."""

BEFORE_THE_LIST = 0
"""The number of a move that only the version tells of."""

_ACTIONS = ("promote", "rollback")

_log = logging.getLogger(__name__)


def history(tracker: Tracker, name: str) -> list[Attempt]:
    """All attempts to change the champion of a registered model, oldest first.

    Those of every experiment, as the registered model belongs to none. What looks like one and is none is named in the
    log, once.

    Args:
        tracker: The store.
        name: The registered model.
    """
    check_name(name)
    listed = _listed(tracker, name)
    found = {run.info.run_id: run for run in _runs(tracker, name)}
    attempts: list[Attempt] = []
    left_out = [(f"the run {run_id}", "the registry did not make it") for run_id in found if run_id not in listed]
    for run_id, number in listed.items():
        try:
            attempts.append(_attempt(found.get(run_id) or _run(tracker, run_id), number=number))
        except ReliabitError as error:
            left_out.append((f"the run {run_id}", str(error)))
    moves = _earlier(tracker, name, attempts)
    sound = [move for move in moves if move.previous is None or VERSION_NUMBER.fullmatch(move.previous)]
    left_out += [
        (f"what version {move.version} says of when it became champion", "it names no version before it")
        for move in moves
        if move not in sound
    ]
    if left_out:
        _warn(name, tuple(sorted(left_out)))
    return sorted([*sound, *attempts], key=lambda attempt: (attempt.number, attempt.at))


@contextmanager
def recorded(
    tracker: Tracker, name: str, *, action: str, version: Version | None, previous: Version | None
) -> Iterator[TrackedRun]:
    """Open the run of an attempt for as long as a block makes it; call under the registry's lock.

    Args:
        tracker: The store.
        name: The registered model.
        action: `promote` or `rollback`.
        version: The version that is to become champion, where that is known already.
        previous: The present champion.
    """
    make_registered_model(registry_client(tracker), name)
    number = max(_listed(tracker, name).values(), default=BEFORE_THE_LIST) + 1
    tags = {
        KIND: PROMOTION,
        MODEL: name,
        NUMBER: str(number),
        ACTION: action,
        BY: _who(),
        **({PREVIOUS: previous.number} if previous else {}),
        **(version_tags(version) if version else {}),
    }
    with tracker.run(f"{action} {name} {version.number if version else ''}".strip(), tags=tags) as run:
        registry_client(tracker).set_registered_model_tag(name, f"{LISTED}{number}", run.run_id)
        yield run


def version_tags(version: Version) -> dict[str, str]:
    """What the run of an attempt says of the version that is to become champion."""
    fingerprint = version.tags.get(FINGERPRINT_TAG)
    return {
        VERSION: version.number,
        **({SOURCE_RUN: version.run_id} if version.run_id else {}),
        **({FINGERPRINT: fingerprint} if fingerprint else {}),
    }


def log_outcome(
    run: TrackedRun, *, outcome: str, reason: str, document: Mapping[str, Any], markdown: str | None = None
) -> None:
    """Record how an attempt ends, before the alias is moved.

    Args:
        run: The run of the attempt.
        outcome: `accepted`, `refused` or `unchanged`.
        reason: Why, in a line.
        document: All that led to it, for `decision.json`.
        markdown: The same for people, for `decision.md`; the reason by default.
    """
    run.log_text(json.dumps({"outcome": outcome, **document}, indent=1, default=str) + "\n", "decision.json")
    run.log_text(markdown if markdown is not None else f"{reason}\n", "decision.md")
    run.set_tags({REASON: redact(reason)[:REASON_LENGTH], OUTCOME: outcome})


def read_attempt(tracker: Tracker, run_id: str) -> Attempt:
    """The attempt that a run records, which the registry made.

    Raises:
        ReliabitError: It was changed since, and cannot be read.
    """
    run = tracker.client.get_run(run_id)
    number = run.data.tags.get(NUMBER, "")
    return _attempt(run, number=int(number) if VERSION_NUMBER.fullmatch(number) else BEFORE_THE_LIST)


def _who() -> str:
    """Who the process says it works for: the user of the tracking server, or else of the system, and the machine."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _runs(tracker: Tracker, name: str) -> "Iterator[Run]":
    client = registry_client(tracker)
    experiments: Iterator[Experiment] = all_pages(client.search_experiments, view_type=ALL, max_results=PAGE)
    return all_pages(
        client.search_runs,
        [experiment.experiment_id for experiment in experiments],
        filter_string=f"tags.{KIND} = '{PROMOTION}' and tags.`{MODEL}` = '{name}'",
        run_view_type=ALL,
        max_results=PAGE,
    )


def _listed(tracker: Tracker, name: str) -> dict[str, int]:
    """The numbers of the attempts that the registry made, by run."""
    model = found_or_none(registry_client(tracker).get_registered_model, name)
    tags = model.tags if model is not None else {}
    numbers = {key.removeprefix(LISTED): run_id for key, run_id in tags.items() if key.startswith(LISTED)}
    return {run_id: int(number) for number, run_id in numbers.items() if VERSION_NUMBER.fullmatch(number)}


def _run(tracker: Tracker, run_id: str) -> "Run":
    try:
        return tracker.client.get_run(run_id)
    except store_errors() as error:
        raise ReliabitError("it is gone from the store") from error


def _earlier(tracker: Tracker, name: str, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The champions from before there was the list, as their versions tell."""
    first = min((attempt.at for attempt in attempts), default=None)
    moved = [version for version in list_versions(tracker, name) if f"{MOVED}at" in version.tags]
    return [_move(version) for version in moved if first is None or version.tags[f"{MOVED}at"] < first]


def _move(version: Version) -> Attempt:
    tags = {key: version.tags.get(f"{MOVED}{key}", "") for key in ("at", "by", "reason", "previous")}
    return Attempt(
        number=BEFORE_THE_LIST,
        action="promote",
        outcome=ACCEPTED,
        version=version.number,
        previous=None if tags["previous"] in ("", "none") else tags["previous"],
        by=tags["by"],
        at=tags["at"],
        reason=tags["reason"],
        run_id="",
        source_run=version.run_id,
        fingerprint=version.tags.get(FINGERPRINT_TAG),
    )


@functools.lru_cache(maxsize=64)
def _warn(name: str, left_out: tuple[tuple[str, str], ...]) -> None:
    """Say once what looks like an attempt and is none."""
    (first, why), *others = left_out
    more = f", and {len(others)} more" if others else ""
    _log.warning("left out of the history of %s: %s (%s)%s", name, first, why, more)


def _attempt(run: "Run", *, number: int) -> Attempt:
    """The attempt that a run records.

    Raises:
        ReliabitError: It holds something else than the registry writes.
    """
    tags = run.data.tags
    versions = [tags[key] for key in (VERSION, PREVIOUS) if key in tags]
    bad = next((version for version in versions if VERSION_NUMBER.fullmatch(version) is None), None)
    if bad is not None:
        raise ReliabitError(f"{bad[:40]!a} is no version")
    if tags.get(ACTION) not in _ACTIONS:
        raise ReliabitError(f"its {ACTION} is {tags.get(ACTION, '')[:40]!a}")
    try:
        started = datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ReliabitError("its start is no time") from error
    return Attempt(
        number=number,
        action=tags[ACTION],
        outcome=_outcome(run),
        version=tags.get(VERSION),
        previous=tags.get(PREVIOUS),
        by=tags.get(BY, ""),
        at=started.isoformat(timespec="seconds"),
        reason=tags.get(REASON) or tags.get(FAILURE_REASON, ""),
        run_id=run.info.run_id,
        source_run=tags.get(SOURCE_RUN),
        fingerprint=tags.get(FINGERPRINT),
    )


def _outcome(run: "Run") -> str:
    """What an attempt came to; what it was about to do counts only once it is done."""
    if run.info.status == "FINISHED":
        outcome = str(run.data.tags.get(OUTCOME, FAILED))
        return outcome if outcome in OUTCOMES else FAILED
    return RUNNING if run.info.status == "RUNNING" else FAILED
