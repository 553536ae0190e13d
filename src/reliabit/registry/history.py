"""What became of every attempt to change the champion: MLflow keeps no history of its aliases, so this is it.

Each attempt is a run of its own, so none overwrites another, and the runs show in MLflow's pages as they are. A run is
opened before the alias is moved and finished after: an attempt that was cut short is in the history too. Attempts are
numbered under the registry's lock, as clocks of several machines do not tell which came first. Runs that were deleted
stay in the history for as long as MLflow keeps them.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reliabit.registry.attempts import FAILED, RUNNING, Attempt
from reliabit.registry.versions import Version, registry_client
from reliabit.tracking.tracker import FINGERPRINT_TAG, TrackedRun, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

KIND = "promotion"
MODEL, NUMBER, ACTION, VERSION, PREVIOUS, BY, OUTCOME, REASON, SOURCE_RUN, FINGERPRINT = (
    f"promotion.{name}"
    for name in (
        "model",
        "number",
        "action",
        "version",
        "previous",
        "by",
        "outcome",
        "reason",
        "source_run",
        # Not the tag of a pipeline's run: nobody may take an attempt for a finished one of those.
        "fingerprint",
    )
)
REASON_LENGTH = 2000
PAGE = 1000


def history(tracker: Tracker, name: str) -> list[Attempt]:
    """All attempts to change the champion of a registered model, oldest first.

    Those of every experiment, as the registered model belongs to none.

    Args:
        tracker: The store.
        name: The registered model.
    """
    attempts = [_attempt(run) for run in _runs(tracker, name)]
    return sorted(attempts, key=lambda attempt: (attempt.number, attempt.at))


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
    number = max((attempt.number for attempt in history(tracker, name)), default=0) + 1
    tags = {
        "kind": KIND,
        MODEL: name,
        NUMBER: str(number),
        ACTION: action,
        BY: who(),
        **({PREVIOUS: previous.number} if previous else {}),
        **(version_tags(version) if version else {}),
    }
    with tracker.run(f"{action} {name} {version.number if version else ''}".strip(), tags=tags) as run:
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
    run.set_tags({REASON: reason[:REASON_LENGTH], OUTCOME: outcome})


def read_attempt(tracker: Tracker, run_id: str) -> Attempt:
    """The attempt that a run records."""
    return _attempt(tracker.client.get_run(run_id))


def who() -> str:
    """Who the process says it works for: the user of the tracking server, or else of the system, and the machine."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _runs(tracker: Tracker, name: str) -> "Iterator[Run]":
    from mlflow.entities import ViewType

    client = registry_client(tracker)
    experiments = client.search_experiments(view_type=ViewType.ALL, max_results=PAGE)
    found = [experiment.experiment_id for experiment in experiments]
    while experiments.token:
        experiments = client.search_experiments(view_type=ViewType.ALL, max_results=PAGE, page_token=experiments.token)
        found += [experiment.experiment_id for experiment in experiments]
    token = None
    while True:
        page = client.search_runs(
            found,
            filter_string=f"tags.kind = '{KIND}' and tags.`{MODEL}` = '{name}'",
            run_view_type=ViewType.ALL,
            max_results=PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _attempt(run: "Run") -> Attempt:
    tags = run.data.tags
    started = datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC)
    return Attempt(
        number=int(tags[NUMBER]),
        action=tags[ACTION],
        outcome=_outcome(run),
        version=tags.get(VERSION),
        previous=tags.get(PREVIOUS),
        by=tags[BY],
        at=started.isoformat(timespec="seconds"),
        reason=tags.get(REASON) or tags.get("failure.reason", ""),
        run_id=run.info.run_id,
        source_run=tags.get(SOURCE_RUN),
        fingerprint=tags.get(FINGERPRINT),
    )


def _outcome(run: "Run") -> str:
    """What an attempt came to; what it was about to do counts only once it is done."""
    if run.info.status == "FINISHED":
        return str(run.data.tags.get(OUTCOME, FAILED))
    return RUNNING if run.info.status == "RUNNING" else FAILED
