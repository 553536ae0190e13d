"""Importing a journal into a tracking store: once, whole, and the same however often the import is cut short.

A run is created together with the tag that names its journal run, so an import that was killed finds what it began and
goes on with it: parameters, metrics and artifacts that are there already are overwritten by the same. Its last step
marks the run with the digest of its records; a run whose records have grown since is brought up to date.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import BEAT, HEARTBEAT_TAGS, cause_of_death
from reliabit.tracking.journal_records import ARTIFACTS, RECORDS, RecordedRun, read_runs
from reliabit.tracking.reaping import FAILURE_REASON, FAILURE_TYPE, KILLED
from reliabit.tracking.tracker import METRICS_A_CALL, PARAMETERS_A_CALL, PARENT_TAG, Tracker, adoption_tag

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

KEY_TAG = "journal.run"
SYNCED_TAG = "journal.synced"
ADOPTION = adoption_tag("")


@dataclass(frozen=True)
class Synced:
    """What a synchronization did.

    Attributes:
        imported: The runs it created or completed, by journal key, parents first.
        unchanged: How many were imported before.
        open: How many may still be written to, or belong to one that may; they are left for another time.
    """

    imported: dict[str, str]
    unchanged: int
    open: int


def sync(folder: Path, tracker: Tracker, *, now: datetime | None = None) -> Synced:
    """Import the ended runs of a journal; one whose process died is imported as KILLED.

    Args:
        folder: The journal.
        tracker: The store and experiment to import into.
        now: The time, with its zone; the present one by default.

    Returns:
        What was imported. A run that was deleted from the store after its import stays deleted.

    Raises:
        ReliabitError: The journal is damaged or incomplete, or another process is importing it.
    """
    moment = now or datetime.now(UTC)
    with _alone(folder):
        recorded = read_runs(folder)
        runs = {run.key: _concluded(run, moment) for run in recorded if not run.deleted}
        _check(runs)
        waiting = {key for key in runs if any(run.status is None for run in _lineage(runs, key))}
        ordered = sorted(runs.keys() - waiting, key=lambda key: (len(_lineage(runs, key)), runs[key].opened))
        found: dict[str, Run] = {}
        for key in ordered:
            found[key] = _find(tracker, key) or _create(tracker, runs[key], _ids(found))
        imported = {key: run.info.run_id for key, run in found.items() if _fill(tracker, runs[key], run, _ids(found))}
        _take_back(tracker, [run.key for run in recorded if run.deleted])
    return Synced(imported=imported, unchanged=len(ordered) - len(imported), open=len(waiting))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if not folder.is_dir():
        raise ReliabitError(f"there is no journal at {folder}; correct tracking.uri or the path")
    try:
        with FileLock(folder / ".sync.lock", timeout=0):
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


def _check(runs: Mapping[str, RecordedRun]) -> None:
    """Refuse a journal that was copied in part, before anything of it is imported."""
    for run in runs.values():
        parent = run.tags.get(PARENT_TAG)
        if parent is not None and parent not in runs:
            raise ReliabitError(f"the run {run.folder} belongs to {parent}, which is missing; copy the whole journal")
        for name in run.artifacts:
            if not (run.folder / ARTIFACTS / name).is_file():
                raise ReliabitError(f"the run {run.folder} lacks its artifact {name}; copy the whole journal")


def _lineage(runs: Mapping[str, RecordedRun], key: str) -> list[RecordedRun]:
    """A run and those above it."""
    parent = runs[key].tags.get(PARENT_TAG)
    return [runs[key], *(_lineage(runs, parent) if parent is not None else [])]


def _find(tracker: Tracker, key: str) -> "Run | None":
    from mlflow.entities import ViewType

    found = tracker.client.search_runs(
        [tracker.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", run_view_type=ViewType.ALL, max_results=1
    )
    return found[0] if found else None


def _create(tracker: Tracker, run: RecordedRun, ids: Mapping[str, str]) -> "Run":
    # Without its heartbeat, so that nobody takes a run for dead that is being imported.
    tags = {key: value for key, value in _tags(run, ids).items() if key not in HEARTBEAT_TAGS}
    return tracker.client.create_run(tracker.experiment_id, start_time=run.started, tags=tags, run_name=run.name)


def _ids(found: "Mapping[str, Run]") -> dict[str, str]:
    return {key: run.info.run_id for key, run in found.items()}


def _fill(tracker: Tracker, run: RecordedRun, found: "Run", ids: Mapping[str, str]) -> bool:
    """Bring a run up to date; says whether there was anything to do."""
    tags = _tags(run, ids)
    mark = sha256(json.dumps([run.sha256, sorted(tags.items())]).encode()).hexdigest()
    if found.info.lifecycle_stage != "active" or found.data.tags.get(SYNCED_TAG) == mark:
        return False
    _log(tracker, run, found.info.run_id)
    _finish(tracker, run, found, {**tags, SYNCED_TAG: mark})
    return True


def _log(tracker: Tracker, run: RecordedRun, run_id: str) -> None:
    from mlflow.entities import Metric, Param

    client = tracker.client
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    for start in range(0, len(parameters), PARAMETERS_A_CALL):
        client.log_batch(run_id, params=parameters[start : start + PARAMETERS_A_CALL])
    metrics = [Metric(metric.name, metric.value, metric.at, metric.step) for metric in run.metrics]
    for start in range(0, len(metrics), METRICS_A_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])
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
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _take_back(tracker: Tracker, keys: Sequence[str]) -> None:
    """Delete what was imported of runs that were taken back since."""
    for key in keys:
        found = _find(tracker, key)
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
