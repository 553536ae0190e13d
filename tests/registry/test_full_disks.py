"""A disk that is full, really, while a journal is imported or a version promoted or pulled; see test_disk_errors.py."""

import subprocess
import sys
import tempfile

import pytest

from disks import small_disk
from launching import PROJECT
from messages import NO_SPACE
from registry.bundles import accepting, register
from reliabit.errors import ReliabitError
from reliabit.registry.history import history
from reliabit.registry.promotion import promote
from reliabit.registry.pulling import pull
from reliabit.registry.versions import find_alias, list_versions
from reliabit.tracking.journal.sync import sync
from reliabit.tracking.tracker import Journal
from tracking.stores import tracker_at


def test_a_journal_that_does_not_fit_into_the_store_is_imported_once_there_is_room(tmp_path):
    journal, tracker = Journal(tmp_path / "journal"), tracker_at(tmp_path)
    with journal.run("cell", tags={"kind": "cell"}) as run:
        run.log_text("x" * 300_000, "big.txt")
    with small_disk(tmp_path / "mlruns" / "artifacts", size="100k"):
        with pytest.raises(ReliabitError, match=f"{NO_SPACE} on its disk; make room there and run again"):
            sync(journal.folder, tracker)
        assert [run.info.status for run in tracker.client.search_runs([tracker.experiment_id])] == ["RUNNING"]
    (run_id,) = sync(journal.folder, tracker).imported.values()
    assert tracker.client.get_run(run_id).info.status == "FINISHED"


def test_a_version_that_does_not_fit_is_neither_registered_nor_pulled_nor_promoted(tmp_path, monkeypatch):
    tracker = tracker_at(tmp_path)
    with small_disk(tmp_path / "mlruns" / "artifacts", size="40k"):
        with pytest.raises(ReliabitError, match=f"{NO_SPACE} on its disk"):
            register(tracker, tmp_path / "first", name="model", content="abcdefghij")
        assert list_versions(tracker, "model") == []
    version = register(tracker, tmp_path / "second", name="model", content="abcdefghij")
    small = tmp_path / "small"
    with small_disk(small, size="40k"):
        with pytest.raises(ReliabitError, match=r"small.* free; make room there"):
            pull(tracker, version.uri, small / "pulled")
        with monkeypatch.context() as patched:
            patched.setattr("reliabit.registry.pulling._check_room", lambda *_, **__: None)
            with pytest.raises(ReliabitError, match=f"small, where models:/model/1 is fetched to, {NO_SPACE}"):
                pull(tracker, version.uri, small / "pulled")
        assert [path for path in small.rglob("*") if path.name.endswith(".safetensors")] == []
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        with pytest.raises(ReliabitError, match=r"small has \d+ free; make room there"):
            promote(tracker, "model", "1", decide=accepting)
    monkeypatch.undo()
    assert (find_alias(tracker, "model", "champion"), history(tracker, "model")) == (None, [])
    assert promote(tracker, "model", "1", decide=accepting).outcome == "accepted"


def test_an_artifact_that_does_not_fit_where_it_is_read_to_is_no_fault_of_the_store(tmp_path):
    tracker = tracker_at(tmp_path)
    with tracker.run("cell", tags={}) as run:
        run.log_text("x" * 300_000, "big.txt")
    told = pytest.raises(ReliabitError, match=rf"small, where big.txt of the run \w+ is read to, {NO_SPACE}")
    with small_disk(tmp_path / "small", size="100k"), told:
        tracker.fetch(run.run_id, "big.txt", tmp_path / "small" / "here")


def test_promoting_on_a_full_disk_ends_a_command_in_one_line(tmp_path):
    store = [f"tracking.uri=sqlite:///{tmp_path}/mlruns/mlflow.db", f"tracking.artifacts={tmp_path}/mlruns/artifacts"]
    with small_disk(tmp_path / "mlruns", size="100k"):
        command = [sys.executable, "-m", "reliabit", "promote", *store]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=120)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the tracking store sqlite:///")
        assert f"{NO_SPACE} on its disk" in line
        assert [path.name for path in (tmp_path / "mlruns").iterdir()] == ["mlflow.lock"]
