import math
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag

from reliabit.errors import ReliabitError
from reliabit.tracking.heartbeat import HEARTBEAT_TAGS, heartbeat_tags
from reliabit.tracking.journal.sync import KEY_TAG, SYNCED_TAG, Synced, sync
from reliabit.tracking.reaping import reap
from reliabit.tracking.tags import PARENT_TAG, adoption_tag
from reliabit.tracking.tracker import TrackedRun, Tracker
from tracking.stores import artifacts_of, create, tracker_at

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"}
OWN_TAGS = {KEY_TAG, SYNCED_TAG, *HEARTBEAT_TAGS}


def dataset() -> DatasetInput:
    found = Dataset(name="scenes", digest="d" * 32, source_type="dvc", source='{"uri": "dvc://data"}', profile="{}")
    return DatasetInput(dataset=found, tags=[InputTag("mlflow.data.context", "evaluation")])


def record_sweep(tracker: Tracker, *, metrics: int = 1100) -> None:
    """A sweep with a finished and a failed cell, the same whether it is recorded in a store or in a journal."""
    sweep = tracker.start("sweep", tags={"kind": "sweep"})
    with tracker.run("good·4b", tags={"bits": "4"}, parent=sweep.run_id) as run:
        run.log_parameters({"quant": {"bits": 4}, "long": "x" * 7000, **{f"key{i}": i for i in range(120)}})
        run.log_metrics({"selective/aurc": 0.1, "undefined": math.nan, "threshold": math.inf})
        run.log_metrics({"selective/aurc": 0.2})
        run.log_metrics({f"many/{i}": i / 7 for i in range(metrics)})
        run.log_text("ä", "note.txt")
        run.log_text("{}", "deep/er/report.json")
        run.set_tags({"later": "x"})
        tracker.client.log_inputs(run.run_id, datasets=[dataset()])
    with pytest.raises(ReliabitError), tracker.run("bad", tags={}, parent=sweep.run_id):
        raise ReliabitError("the image is missing; restore it")
    sweep.log_metrics({"sweep/cells": 2})
    tracker.client.set_terminated(sweep.run_id, "FINISHED")


def content_of(tracker: Tracker) -> dict[str, tuple]:
    """Everything that a store holds, by run name, without ids and times."""
    runs = tracker.client.search_runs([tracker.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs), "no run is there twice"
    found = {}
    for run in runs:
        tags = {key: value for key, value in run.data.tags.items() if key not in OWN_TAGS}
        if PARENT_TAG in tags:
            tags[PARENT_TAG] = names[tags[PARENT_TAG]]
        inputs = [
            (entry.dataset.to_dictionary(), {tag.key: tag.value for tag in entry.tags})
            for entry in run.inputs.dataset_inputs
        ]
        history = {
            key: [
                (repr(metric.value), metric.step) for metric in tracker.client.get_metric_history(run.info.run_id, key)
            ]
            for key in ("selective/aurc", "undefined", "threshold")
        }
        metrics = {key: repr(value) for key, value in run.data.metrics.items()}
        found[run.info.run_name] = (
            run.info.status, run.data.params, metrics, history, tags, inputs, artifacts_of(run),
        )  # fmt: skip
    return found


def test_an_imported_journal_is_what_a_store_would_hold(folder, tracker, journal):
    record_sweep(journal)
    direct = tracker_at(folder, experiment="recorded directly")
    record_sweep(direct)
    synced = sync(journal.folder, tracker)
    assert content_of(tracker) == content_of(direct)
    assert list(content_of(tracker)) == ["bad", "good·4b", "sweep"]
    assert (len(synced.imported), synced.unchanged, synced.open) == (3, 0, 0)
    for run in journal.runs_with({}):
        found = tracker.client.get_run(synced.imported[run.info.run_id])
        assert (found.info.start_time, found.info.end_time) == (run.info.start_time, run.info.end_time)
        assert {key: found.data.tags[key] for key in HEARTBEAT_TAGS} == {
            key: run.data.tags[key] for key in HEARTBEAT_TAGS
        }
    history = tracker.client.get_metric_history(synced.imported[journal.runs_with({})[1].info.run_id], "selective/aurc")
    assert [metric.value for metric in history] == [0.1, 0.2]


def test_importing_again_changes_nothing(tracker, journal):
    record_sweep(journal)
    sync(journal.folder, tracker)
    before, ids = content_of(tracker), {run.info.run_id for run in tracker.client.search_runs([tracker.experiment_id])}
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=3, open=0)
    assert content_of(tracker) == before
    assert {run.info.run_id for run in tracker.client.search_runs([tracker.experiment_id])} == ids
    assert reap(tracker) == []


class Interrupted(BaseException):
    """Stands for the end of the process."""


class Interrupting:
    """A client that ends the process before its n-th call."""

    def __init__(self, client, *, calls: int) -> None:
        self._client, self._left = client, calls

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **kwargs):
            self._left -= 1
            if self._left == 0:
                raise Interrupted
            return method(*args, **kwargs)

        return call


def test_an_import_cut_short_before_any_call_and_repeated_is_the_same(folder, journal, tracker):
    record_sweep(journal, metrics=3)
    sync(journal.folder, tracker)
    expected = content_of(tracker)
    for calls in range(1, 100):
        other = tracker_at(folder, experiment=f"cut {calls}")
        client = other.client
        other.client = Interrupting(client, calls=calls)
        try:
            sync(journal.folder, other)
        except Interrupted:
            other.client = client
            reap(other)
            synced = sync(journal.folder, other)
            assert len(synced.imported) + synced.unchanged == 3
            assert content_of(other) == expected, f"cut at call {calls}"
        else:
            break
    assert calls > 15


def test_an_import_that_is_killed_and_repeated_is_the_same(folder, journal, tracker):
    for _ in range(3):
        with journal.run("cell", tags={}) as run:
            run.log_metrics({"a": 1.0})
    for number, run in enumerate(journal.runs_with({})):
        journal.client.set_tag(run.info.run_id, "number", str(number))
    code = (
        "import sys; from pathlib import Path; from tracking.stores import tracker_at;"
        "from reliabit.tracking.journal.sync import sync;"
        "tracker = tracker_at(Path(sys.argv[1]), experiment=sys.argv[2]); print('go', flush=True);"
        "sync(Path(sys.argv[3]), tracker)"
    )
    arguments = [str(folder), "test_an_import_that_is_killed_and_repeated_is_the_same", str(journal.folder)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.readline()
    while not tracker.client.search_runs([tracker.experiment_id]) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    sync(journal.folder, tracker)
    found = tracker.client.search_runs([tracker.experiment_id])
    assert sorted(run.data.tags["number"] for run in found) == ["0", "1", "2"]
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_sweep_that_was_killed_is_imported_as_killed(tracker, tmp_path):
    worker = TESTS / "tracking" / "journal_worker.py"
    process = subprocess.Popen(
        [sys.executable, str(worker), str(tmp_path / "journal")], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    keys = process.stdout.readline().split()
    time.sleep(0.2)
    assert sync(tmp_path / "journal", tracker) == Synced(imported={}, unchanged=0, open=3)
    process.kill()
    process.communicate()
    synced = sync(tmp_path / "journal", tracker)
    found = {run.info.run_name: run for run in tracker.client.search_runs([tracker.experiment_id])}
    states = {name: run.info.status for name, run in found.items()}
    assert states == {"sweep": "KILLED", "finished": "FINISHED", "cut short": "KILLED"}
    assert found["cut short"].data.tags["failure.type"] == "Killed"
    assert f"process {process.pid} on" in found["cut short"].data.tags["failure.reason"]
    assert found["cut short"].data.tags[PARENT_TAG] == synced.imported[keys[0]] == found["sweep"].info.run_id
    assert len(found["cut short"].data.metrics) > 0


def test_a_run_of_another_machine_is_waited_for_and_brought_up_to_date(tracker, journal):
    tags = {**heartbeat_tags(), "heartbeat.machine": "0"}
    run = TrackedRun(client=journal.client, run_id=create(journal, "cell", tags=tags))
    run.log_metrics({"a": 1.0})
    assert sync(journal.folder, tracker).open == 1
    later = datetime.now(UTC) + timedelta(hours=1)
    (run_id,) = sync(journal.folder, tracker, now=later).imported.values()
    assert tracker.client.get_run(run_id).info.status == "KILLED"
    # It was only slow.
    run.log_metrics({"b": 2.0})
    journal.client.set_terminated(run.run_id, "FINISHED")
    assert sync(journal.folder, tracker).imported == {run.run_id: run_id}
    found = tracker.client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"a": 1.0, "b": 2.0}
    assert "failure.reason" not in found.data.tags


def test_a_run_that_was_deleted_after_its_import_stays_deleted(tracker, journal):
    with journal.run("cell", tags={}):
        pass
    (run_id,) = sync(journal.folder, tracker).imported.values()
    tracker.client.delete_run(run_id)
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=1, open=0)
    assert tracker.client.search_runs([tracker.experiment_id]) == []


def test_a_run_that_was_taken_back_after_its_import_is_taken_back_from_the_store(tracker, journal):
    with pytest.raises(ZeroDivisionError), journal.run("cell", tags={}) as run:
        _ = 1 / 0
    (run_id,) = sync(journal.folder, tracker).imported.values()
    journal.client.delete_run(run.run_id)
    sync(journal.folder, tracker)
    assert tracker.client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=0, open=0)


def test_a_run_that_a_later_sweep_reused_belongs_to_it_once_that_is_imported(tracker, journal):
    with journal.run("cell", tags={}) as run:
        run.log_metrics({"a": 1.0})
    sweep = journal.start("sweep", tags={})
    journal.client.set_tag(run.run_id, adoption_tag(sweep.run_id), "reused")
    (cell_id,) = sync(journal.folder, tracker).imported.values()
    assert not [key for key in tracker.client.get_run(cell_id).data.tags if key.startswith("sweep.")]
    journal.client.set_terminated(sweep.run_id, "FINISHED")
    ids = sync(journal.folder, tracker).imported
    assert ids[run.run_id] == cell_id
    tags = tracker.client.get_run(cell_id).data.tags
    assert [key for key in tags if key.startswith("sweep.")] == [adoption_tag(ids[sweep.run_id])]
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=2, open=0)


def test_a_sweep_that_is_gone_on_with_is_brought_up_to_date(tracker, journal):
    sweep = journal.start("sweep", tags={})
    journal.client.set_terminated(sweep.run_id, "KILLED")
    (run_id,) = sync(journal.folder, tracker).imported.values()
    journal.client.update_run(sweep.run_id, status="RUNNING")
    with journal.run("cell", tags={}, parent=sweep.run_id):
        pass
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=0, open=2)
    journal.client.set_terminated(sweep.run_id, "FINISHED")
    ids = sync(journal.folder, tracker).imported
    assert ids[sweep.run_id] == run_id
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
    assert [run.info.run_name for run in tracker.children(run_id)] == ["cell"]


def test_runs_that_were_taken_back_or_never_begun_are_not_imported(tracker, journal):
    journal.client.delete_run(journal.start("refused", tags={}).run_id)
    (journal.folder / "0123" / "artifacts").mkdir(parents=True)
    (journal.folder / "4567").mkdir()
    (journal.folder / "4567" / "records.jsonl").write_text('{"versi')
    assert sync(journal.folder, tracker) == Synced(imported={}, unchanged=0, open=0)


def test_a_journal_that_was_copied_in_part_is_refused_whole(tracker, journal):
    record_sweep(journal)
    sweep, good, _ = (run.info.run_id for run in journal.runs_with({}))
    (journal.folder / good / "artifacts" / "note.txt").unlink()
    with pytest.raises(ReliabitError, match=r"lacks its artifact note.txt; copy the whole journal"):
        sync(journal.folder, tracker)
    shutil.rmtree(journal.folder / sweep)
    with pytest.raises(ReliabitError, match=f"belongs to {sweep}, which is missing; copy the whole journal"):
        sync(journal.folder, tracker)
    assert tracker.client.search_runs([tracker.experiment_id]) == []


def test_one_process_imports_at_a_time(tracker, journal, tmp_path):
    with (
        FileLock(journal.folder / ".sync.lock"),
        pytest.raises(ReliabitError, match="another process is importing the journal"),
    ):
        sync(journal.folder, tracker)
    with pytest.raises(ReliabitError, match="there is no journal at"):
        sync(tmp_path / "nowhere", tracker)
