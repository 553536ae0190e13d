"""The reader of a sqlite store against MLflow's own client, on a real store; and what is left to that one."""

import math
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType

from reliabit.errors import ReliabitError
from reliabit.tracking.store.calls import all_pages, found_or_none
from reliabit.tracking.store.sqlite import SCHEMA, SqliteClient, can_read
from reliabit.tracking.tracker import Tracker
from tracking.stores import artifacts_of, create, store_at, tracker_at

INFO = (
    *("run_id", "run_name", "experiment_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage"),
    "artifact_uri",
)
VERSION = ("name", "version", "creation_timestamp", "description", "source", "run_id", "tags")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with runs of every state, artifacts, and a registered model with versions, aliases and a deleted one."""
    folder = tmp_path_factory.mktemp("filled")
    tracker = tracker_at(folder)
    client = MlflowClient(tracking_uri=store_at(folder)["uri"])
    for number in range(5):
        run_id = create(tracker, f"run {number}", tags={"kind": "cell", "odd": str(number % 2), "a b'c": "'"})
        client.log_param(run_id, "quant.bits", number)
        client.log_batch(run_id, metrics=[Metric("z", math.nan, 1, 0), Metric("a", number / 3, 1, 0)])
        client.log_metric(run_id, "a", number / 7, step=1)
        client.log_text(run_id, f"text {number}", "a folder/note.txt")
        if number:
            client.set_terminated(run_id, ["FINISHED", "FAILED", "KILLED", "FINISHED"][number - 1])
    client.delete_run(run_id)
    client.create_registered_model("m", tags={"one": "1"}, description="about")
    for number in range(1, 4):
        client.create_model_version("m", source=f"file:///nowhere/{number}", run_id=run_id, tags={"n": str(number)})
    client.set_registered_model_alias("m", "champion", "2")
    client.set_registered_model_alias("m", "candidate", "2")
    client.delete_model_version("m", "3")
    client.create_experiment("another", tags={"x": "y"})
    return tracker, client


def plain(run):
    metrics = {key: str(value) for key, value in run.data.metrics.items()}
    told = {name: getattr(run.info, name) for name in INFO}
    return told, metrics, list(run.data.params.items()), dict(run.data.tags)


def of_version(found):
    return {**{name: getattr(found, name) for name in VERSION}, "aliases": sorted(found.aliases)}


def test_a_store_of_ours_is_read_without_mlflow(filled):
    tracker, _ = filled
    assert isinstance(tracker_at_again(tracker).client._client, SqliteClient)


def tracker_at_again(tracker: Tracker) -> Tracker:
    return Tracker(uri=tracker.client._uri, artifacts="", experiment="test")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"order_by": ["attributes.start_time ASC"]},
        {"filter_string": "attributes.status = 'RUNNING'"},
        {"filter_string": "tags.kind = 'cell' and tags.`odd` = '1'", "order_by": ["attributes.start_time ASC"]},
        {"filter_string": "tags.kind = 'sweep'"},
        {"run_view_type": ViewType.ALL},
        {"run_view_type": ViewType.DELETED_ONLY},
        {"filter_string": "metrics.a > 0.1"},
        {"order_by": ["metrics.a DESC"]},
    ],
)
@pytest.mark.parametrize("size", [2, 1000])
def test_a_search_finds_what_mlflow_finds(filled, asked, size):
    tracker, client = filled
    reader = SqliteClient(tracker.client._uri)
    found, wanted = (
        [plain(run) for run in all_pages(one.search_runs, [tracker.experiment_id], max_results=size, **asked)]
        for one in (reader, client)
    )
    assert found == wanted


def test_a_run_and_its_files_are_what_mlflow_gives(filled, tmp_path):
    tracker, client = filled
    reader = SqliteClient(tracker.client._uri)
    for run in client.search_runs([tracker.experiment_id], run_view_type=ViewType.ALL):
        assert plain(reader.get_run(run.info.run_id)) == plain(run)
        for name in ("", "a folder", "a folder/note.txt"):
            reader.download_artifacts(run.info.run_id, name, str(tmp_path))
            [held] = artifacts_of(run).values()
            assert (tmp_path / "a folder" / "note.txt").read_bytes() == held


def test_experiments_and_the_registry_are_what_mlflow_gives(filled):
    tracker, client = filled
    reader = SqliteClient(tracker.client._uri)
    for found, wanted in zip(reader.search_experiments(), client.search_experiments(), strict=True):
        assert {name: getattr(wanted, name) for name in vars(found)} == vars(found)
    assert reader.get_experiment_by_name("nobody") is None
    model = reader.get_registered_model("m")
    assert vars(model) == {name: getattr(client.get_registered_model("m"), name) for name in vars(model)}
    for call, *named in (("get_model_version", "1"), ("get_model_version_by_alias", "champion")):
        assert of_version(getattr(reader, call)("m", *named)) == of_version(getattr(client, call)("m", *named))
    found = list(all_pages(reader.search_model_versions, "name = 'm'"))
    listed = all_pages(client.search_model_versions, "name = 'm'")
    # MLflow's own list leaves aliases out.
    whole = [client.get_model_version(one.name, str(one.version)) for one in listed]
    assert [of_version(one) for one in found] == [of_version(one) for one in whole]


def test_what_is_missing_is_none(filled):
    reader = SqliteClient(filled[0].client._uri)
    assert found_or_none(reader.get_run, "nobody") is None
    assert found_or_none(reader.get_registered_model, "nobody") is None
    assert found_or_none(reader.get_model_version, "m", "3") is None
    assert found_or_none(reader.get_model_version_by_alias, "m", "nobody") is None
    with pytest.raises(ReliabitError, match="there is no run nobody in the tracking store"):
        reader.get_run("nobody")


def test_other_addresses_schemas_and_workspaces_are_left_to_mlflow(filled, tmp_path, monkeypatch):
    own = filled[0].client._uri
    assert can_read(own)
    for uri in ("postgresql://db/mlflow", "http://127.0.0.1:5000", f"{own}?timeout=3", f"sqlite:///{tmp_path}/none.db"):
        assert not can_read(uri)
    (tmp_path / "text.db").write_text("no database " * 1000)
    assert not can_read(f"sqlite:///{tmp_path}/text.db")
    monkeypatch.setattr("reliabit.tracking.store.sqlite.SCHEMA", "another")
    assert not can_read(own)
    monkeypatch.setattr("reliabit.tracking.store.sqlite.SCHEMA", SCHEMA)
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert not can_read(own)


def test_reading_loads_no_mlflow(filled):
    """The schema is that of the installed MLflow too, or everything would be slow again without a word."""
    code = (
        "import sys; from reliabit.cli import main; main(sys.argv[1:]); "
        "loaded = {'mlflow', 'torch', 'sqlalchemy', 'pandas'} & set(sys.modules); assert not loaded, loaded"
    )
    store = [f"tracking.uri={filled[0].client._uri}", "tracking.experiment=test"]
    for command in ("history", "reap"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, *store], capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr
