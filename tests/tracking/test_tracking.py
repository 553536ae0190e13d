import math
import multiprocessing
from pathlib import Path

import pytest

from hydra_plugins.reliabit_sweeper import with_baselines
from messages import CANNOT_BE_OPENED
from reliabit.errors import ReliabitError
from reliabit.tracking.parameters import flatten
from reliabit.tracking.store.opening import open_store
from reliabit.tracking.sweep._tables import summarize
from reliabit.tracking.sweep.parent import parent_file, read_parent, write_parent
from reliabit.tracking.tracker import Tracker


def store_at(folder: Path) -> dict[str, str]:
    return {
        "uri": f"sqlite:///{folder}/mlruns/mlflow.db",
        "artifacts": f"{folder}/mlruns/artifacts",
        "experiment": "test",
    }


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    return Tracker(**store_at(tmp_path_factory.mktemp("store")))


def open_and_write(folder: Path) -> str:
    tracker = Tracker(**store_at(folder))
    with tracker.run("cell", tags={}) as run:
        run.log_metrics({"x": 1.0})
    return tracker.experiment_id


def test_processes_that_open_a_fresh_store_at_once_all_succeed(tmp_path):
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        experiments = pool.map(open_and_write, [tmp_path] * 6)
    assert len(set(experiments)) == 1
    client, experiment = open_store(**store_at(tmp_path))
    runs = client.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FINISHED"] * 6


def test_artifacts_lie_below_the_folder_that_was_named(tracker):
    with tracker.run("cell", tags={}) as run:
        run.log_text("hello", "note.txt")
    uri = tracker.client.get_run(run.run_id).info.artifact_uri
    path = Path(uri.removeprefix("file://")) / "note.txt"
    assert path.read_text() == "hello"
    assert "mlruns/artifacts" in str(path)


def test_a_run_that_ends_well_is_finished_with_its_numbers(tracker):
    with tracker.run("good", tags={"bits": "4"}) as run:
        run.log_parameters({"quant": {"bits": 4, "method": "hqq"}, "seed": 0})
        run.log_metrics({"selective/aurc": 0.1, "threshold": math.inf})
    data = tracker.client.get_run(run.run_id)
    assert data.info.status == "FINISHED"
    assert data.data.params == {"quant.bits": "4", "quant.method": "hqq", "seed": "0"}
    assert data.data.metrics["selective/aurc"] == 0.1
    assert math.isnan(data.data.metrics["threshold"])


def test_many_parameters_are_recorded_in_several_calls(tracker):
    with tracker.run("many", tags={}) as run:
        run.log_parameters({f"key{i}": i for i in range(250)})
    assert len(tracker.client.get_run(run.run_id).data.params) == 250


def test_a_defect_makes_a_failed_run_with_its_traceback(tracker):
    with pytest.raises(ZeroDivisionError), tracker.run("bad", tags={}) as run:
        _ = 1 / 0
    data = tracker.client.get_run(run.run_id)
    assert data.info.status == "FAILED"
    assert data.data.tags["failure.type"] == "ZeroDivisionError"
    assert [file.path for file in tracker.client.list_artifacts(run.run_id)] == ["traceback.txt"]


def test_bad_input_makes_a_failed_run_with_its_reason(tracker):
    with pytest.raises(ReliabitError), tracker.run("refused", tags={}) as run:
        raise ReliabitError("the image is missing; restore it")
    data = tracker.client.get_run(run.run_id)
    assert data.data.tags["failure.reason"] == "the image is missing; restore it"
    assert tracker.client.list_artifacts(run.run_id) == []


def test_children_know_their_parent(tracker):
    parent = tracker.start("sweep", tags={})
    for name in ("a", "b"):
        with tracker.run(name, tags={}, parent=parent.run_id):
            pass
    assert [run.info.run_name for run in tracker.children(parent.run_id)] == ["a", "b"]
    assert tracker.children("nobody") == []


def test_word_of_the_parent_reaches_the_cells(tmp_path):
    path = parent_file(tmp_path / "sweep")
    with pytest.raises(ReliabitError, match=r"mlflow_parent.json, which names the sweep's parent run, is gone; go on"):
        read_parent(str(path))
    write_parent(path, "abc")
    assert read_parent(str(path)) == "abc"
    assert read_parent(None) is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///x/mlruns"])
def test_the_plain_file_store_is_refused(uri, tmp_path):
    with pytest.raises(ReliabitError, match="use sqlite:///"):
        open_store(uri=uri, artifacts=str(tmp_path), experiment="x")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReliabitError, match="cannot be written"):
        open_store(uri=f"sqlite:///{tmp_path}/file/mlflow.db", artifacts=str(tmp_path), experiment="x")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is not a database, and long enough to be read as one" * 20)
    with pytest.raises(ReliabitError, match=CANNOT_BE_OPENED):
        open_store(**store_at(tmp_path))


def test_the_summary_goes_from_wide_to_narrow(tracker):
    parent = tracker.start("sweep", tags={})
    cells = [("2", "hqq"), ("16", "none"), ("8", "hqq"), ("4", "hqq")]
    for bits, method in cells:
        tags = {"bits": bits, "quant": method, "model": "m", "data": "d"}
        with tracker.run(f"{method}{bits}", tags=tags, parent=parent.run_id) as run:
            run.log_metrics({"accuracy/mean": 0.5, "efficiency/stored_bytes": 2**20})
    with (
        pytest.raises(RuntimeError),
        tracker.run("x", tags={"bits": "3", "quant": "hqq", "model": "m", "data": "d"}, parent=parent.run_id),
    ):
        raise RuntimeError
    summary = summarize(tracker.children(parent.run_id))
    assert [row[0] for row in summary.rows] == ["none16", "hqq8", "hqq4", "x", "hqq2"]
    assert [row[1] for row in summary.rows] == ["ok", "ok", "ok", "failed", "ok"]
    assert summary.rows[0][2] == "50.0"
    assert summary.rows[3][2] == "-"
    assert summary.markdown().count("\n") == 7
    assert len(summary.csv().splitlines()) == 6


def test_cells_of_one_name_are_told_apart_by_what_differs(tracker):
    parent = tracker.start("sweep", tags={})
    for group_size in (64, 128):
        with tracker.run("m·hqq·2b", tags={}, parent=parent.run_id) as run:
            run.log_parameters({"quant": {"bits": 2, "group_size": group_size}, "paths": {"output": str(group_size)}})
    for _ in range(2):
        with tracker.run("twice", tags={}, parent=parent.run_id):
            pass
    names = [row[0] for row in summarize(tracker.children(parent.run_id)).rows]
    expected = ["m·hqq·2b quant.group_size=64", "m·hqq·2b quant.group_size=128", "twice #1", "twice #2"]
    assert sorted(names) == sorted(expected)


def test_flatten_keeps_lists_whole():
    assert flatten({"a": {"b": {"c": [1, 2]}}, "d": None}) == {"a.b.c": [1, 2], "d": None}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([["quant.bits=2"], ["quant.bits=4"]], [["quant=none"], ["quant.bits=2"], ["quant.bits=4"]]),
        (
            [["model=a", "quant.bits=2"], ["model=b", "quant.bits=2"]],
            [
                ["model=a", "quant=none"],
                ["model=b", "quant=none"],
                ["model=a", "quant.bits=2"],
                ["model=b", "quant.bits=2"],
            ],
        ),
        ([["quant=none", "quant.bits=2"], ["quant=none", "quant.bits=4"]], [["quant=none"]]),
        ([["data=scenes"]], [["data=scenes", "quant=none"], ["data=scenes"]]),
    ],
)
def test_every_sweep_has_each_baseline_once(cells, expected):
    assert with_baselines(cells) == expected
