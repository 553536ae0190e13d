"""Importing a journal into a tracking store: once, whole, and the same however often the import is cut short.

A run is created together with the tag that names its journal run, so an import that was killed finds what it began and
goes on with it: parameters, metrics and artifacts that are there already are overwritten by the same. Its last step
marks the run as whole; a run whose records have grown since is brought up to date. Records only ever grow: those that
do not begin with what was imported under their key before are another journal's, and are refused.

Everything is checked before anything is created; see `reliabit.tracking.journal._check` for what a journal may hold.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import BEAT, HEARTBEAT_TAGS, cause_of_death
from reliabit.tracking.journal._check import LOCK, check_places, check_runs, lineage
from reliabit.tracking.journal._records import ARTIFACTS, RECORDS, RecordedRun, begins_with, read_runs
from reliabit.tracking.store.calls import log_all
from reliabit.tracking.tags import FAILURE_REASON, FAILURE_TYPE, KILLED, PARENT_TAG, adoption_tag
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

KEY_TAG = "journal.run"
SYNCED_TAG = "journal.synced"
"""The bytes of the records that a run is imported from, their SHA-256 and, once it is whole, a digest of it."""

ADOPTION = adoption_tag("")


@dataclass(frozen=True)
class Synced:
    """What a synchronization did.

    Attributes:
        imported: The ids of the runs it created or completed, parents first, by the journal's key or the cell's folder.
        unchanged: How many were there before.
        open: How many may still be written to, or belong to one that may; they are left for another time.
    """

    imported: dict[str, str]
    unchanged: int
    open: int = 0


def sync(folder: Path, tracker: Tracker, *, now: datetime | None = None) -> Synced:
    """Import the ended runs of a journal; one whose process died is imported as KILLED.

    Args:
        folder: The journal.
        tracker: The store and experiment to import into.
        now: The time, with its zone; the present one by default.

    Returns:
        What was imported. A run that was deleted from the store after its import stays deleted.

    Raises:
        ReliabitError: The journal is damaged or incomplete, holds what no journal may, or has runs of another one; or
            another process is importing it. Nothing of it is imported then.
    """
    moment = now or datetime.now(UTC)
    with _alone(folder):
        recorded = read_runs(folder)
        check_runs(recorded)
        runs = {run.key: _concluded(run, moment) for run in recorded if not run.deleted}
        waiting = {key for key in runs if any(run.status is None for run in lineage(runs, key))}
        ordered = sorted(runs.keys() - waiting, key=lambda key: (len(lineage(runs, key)), runs[key].opened))
        known = {run.key: _find(tracker, run) for run in recorded if run.key not in waiting}
        imported = _import([runs[key] for key in ordered], tracker, known)
        _take_back(tracker, [known[run.key] for run in recorded if run.deleted])
    return Synced(imported=imported, unchanged=len(ordered) - len(imported), open=len(waiting))


def _import(runs: Sequence[RecordedRun], tracker: Tracker, known: "Mapping[str, Run | None]") -> dict[str, str]:
    """Bring runs into the store, parents first; returns the ids of those that were not there, or not up to date.

    Raises:
        ReliabitError: The store does not take them; those that were begun here are taken back.
    """
    from mlflow.exceptions import MlflowException

    found: dict[str, Run] = {}
    begun: list[str] = []
    try:
        for run in runs:
            there = known[run.key]
            found[run.key] = there or _create(tracker, run, _ids(found))
            begun += [] if there else [found[run.key].info.run_id]
        return {run.key: _ids(found)[run.key] for run in runs if _fill(tracker, run, found[run.key], _ids(found))}
    except (MlflowException, OSError) as error:
        for run_id in begun:
            # Under its key nothing could be imported once the journal is put right.
            with suppress(MlflowException, ReliabitError):
                tracker.client.delete_tag(run_id, KEY_TAG)
                tracker.client.delete_run(run_id)
        reason = " ".join(str(error).split())[:300]
        place = runs[0].folder.parent
        raise ReliabitError(
            f"the store does not take the journal {place} ({reason}); nothing of it is imported, put that right and "
            "synchronize again"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if not folder.is_dir():
        raise ReliabitError(f"there is no journal at {folder}; correct tracking.uri or the path")
    check_places(folder)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise ReliabitError(f"another process is importing the journal {folder}; wait for it") from error


def _concluded(run: RecordedRun, now: datetime) -> RecordedRun:
    """A run as it is to be imported: KILLED where its process died before it ended."""
    if run.status is not None:
        return run
    written = (run.folder / RECORDS).stat().st_mtime
    last = max(datetime.fromisoformat(run.tags[BEAT]), datetime.fromtimestamp(written, UTC))
    cause = cause_of_death({**run.tags, BEAT: last.isoformat()}, now=now)
    if cause is None:
        return run
    tags = {**run.tags, FAILURE_TYPE: KILLED, FAILURE_REASON: cause}
    return replace(run, status="KILLED", ended=int(written * 1000), tags=tags)


def _find(tracker: Tracker, run: RecordedRun) -> "Run | None":
    """The run that was imported under a key, if one was.

    Raises:
        ReliabitError: It was imported from other records.
    """
    from mlflow.entities import ViewType

    found = tracker.client.search_runs(
        [tracker.experiment_id],
        filter_string=f"tags.`{KEY_TAG}` = '{run.key}'",
        run_view_type=ViewType.ALL,
        max_results=1,
    )
    if not found:
        return None
    if not _continues(run, found[0]):
        raise ReliabitError(
            f"the journal {run.folder.parent} has a run {run.key} that is not the one imported under this name before "
            f"(run {found[0].info.run_id}); remove its folder, and find out who wrote it"
        )
    return found[0]


def _continues(run: RecordedRun, found: "Run") -> bool:
    """Whether the records are those that a run was imported from, or begin with them."""
    size, _, digests = found.data.tags.get(SYNCED_TAG, "").partition(":")
    if not digests or not size.isdecimal():
        # Imported before the tag held this.
        return bool(found.info.start_time == run.started)
    return begins_with(run, size=int(size), sha256=digests.partition(":")[0])


def _create(tracker: Tracker, run: RecordedRun, ids: Mapping[str, str]) -> "Run":
    # Without its heartbeat, so that nobody takes a run for dead that is being imported.
    tags = {key: value for key, value in _tags(run, ids).items() if key not in HEARTBEAT_TAGS}
    tags[SYNCED_TAG] = _mark(run)
    return tracker.client.create_run(tracker.experiment_id, start_time=run.started, tags=tags, run_name=run.name)


def _ids(found: "Mapping[str, Run]") -> dict[str, str]:
    return {key: run.info.run_id for key, run in found.items()}


def _fill(tracker: Tracker, run: RecordedRun, found: "Run", ids: Mapping[str, str]) -> bool:
    """Bring a run up to date; says whether there was anything to do."""
    tags = _tags(run, ids)
    mark = _mark(run, whole=sha256(json.dumps(sorted(tags.items())).encode()).hexdigest())
    if found.info.lifecycle_stage != "active" or found.data.tags.get(SYNCED_TAG) == mark:
        return False
    _log(tracker, run, found.info.run_id)
    _finish(tracker, run, found, {**tags, SYNCED_TAG: mark})
    return True


def _log(tracker: Tracker, run: RecordedRun, run_id: str) -> None:
    from mlflow.entities import Metric, Param

    client = tracker.client
    log_all(
        client,
        run_id,
        params=[Param(key, value) for key, value in run.parameters.items()],
        metrics=[Metric(*metric) for metric in run.metrics],
    )
    if run.datasets:
        client.log_inputs(run_id, datasets=_datasets(run))
    for name in run.artifacts:
        folder, _, _ = name.rpartition("/")
        client.log_artifact(run_id, str(run.folder / ARTIFACTS / name), artifact_path=folder or None)


def _finish(tracker: Tracker, run: RecordedRun, found: "Run", tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client, run_id = tracker.client, found.info.run_id
    client.set_terminated(run_id, run.status, end_time=run.ended)
    for key in {FAILURE_TYPE, FAILURE_REASON} & found.data.tags.keys() - tags.keys():
        client.delete_tag(run_id, key)
    # The last one is the mark of a whole import.
    log_all(client, run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _mark(run: RecordedRun, *, whole: str = "") -> str:
    return f"{run.size}:{run.sha256}:{whole}"


def _take_back(tracker: Tracker, runs: "Sequence[Run | None]") -> None:
    """Delete what was imported of runs that were taken back since."""
    for found in runs:
        if found is not None and found.info.lifecycle_stage == "active":
            tracker.client.delete_run(found.info.run_id)


def _tags(run: RecordedRun, ids: Mapping[str, str]) -> dict[str, str]:
    """A run's tags, with the ids of the store for those of the journal where they name other runs.

    The mark of a sweep that has reused the run is left out until that sweep is imported.
    """
    own = {key: value for key, value in run.tags.items() if not key.startswith(ADOPTION)}
    adopted = {key.removeprefix(ADOPTION): value for key, value in run.tags.items() if key.startswith(ADOPTION)}
    adoptions = {adoption_tag(ids[key]): value for key, value in adopted.items() if key in ids}
    parent = run.tags.get(PARENT_TAG)
    return {**own, **adoptions, **({PARENT_TAG: ids[parent]} if parent is not None else {}), KEY_TAG: run.key}


def _datasets(run: RecordedRun) -> "list[DatasetInput]":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            dataset=Dataset(**{key: value for key, value in record.items() if key != "tags"}),
            tags=[InputTag(key, value) for key, value in record["tags"].items()],
        )
        for record in run.datasets
    ]
