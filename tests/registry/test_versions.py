import json
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.exceptions import MlflowException

from registry.bundles import CODE, accepting, register, write_bundle
from reliabit.errors import ReliabitError
from reliabit.registry.promotion import promote
from reliabit.registry.registering import register_bundle
from reliabit.registry.versions import delete_version, find_alias, find_version, resolve
from reliabit.tracking.tracker import Journal


@pytest.fixture(scope="module")
def version(tracker, folder):
    return register(tracker, folder, name="reliabit", content="four bits")


def files_of(tracker, version) -> dict[str, Path]:
    root = Path(tracker.client.get_model_version(version.name, version.number).source.removeprefix("file://"))
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


def test_a_version_knows_its_run_its_tags_and_its_card(tracker, version):
    assert (version.name, version.number) == ("reliabit", "1")
    assert tracker.client.get_run(version.run_id).info.run_name == "four bits"
    assert version.tags["fingerprint"] == "fp-four bits"
    told, card = tracker.client.get_model_version("reliabit", "1").description.split("\n\n", 1)
    page = f"#/experiments/{tracker.experiment_id}/runs/{version.run_id}?workflowType=machine_learning"
    assert told == f"Measured by the run [four bits]({page})."
    assert card == "# The model four bits\n"


def test_the_logged_model_belongs_to_the_run_and_shows_its_figures(tracker, version):
    models = tracker.client.search_logged_models([tracker.experiment_id])
    (model,) = (model for model in models if model.source_run_id == version.run_id)
    assert {metric.key: metric.value for metric in model.metrics} == {"accuracy/mean": 0.5, "selective/augrc": 0.1}
    run = tracker.client.get_run(version.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert str(model.status) == "READY"


def test_nothing_is_pickled_and_no_path_of_this_machine_is_kept(tracker, version, folder):
    files = files_of(tracker, version)
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    assert {"MLmodel", "tiny_model.py", "artifacts/bundle/manifest.json"} <= set(files)
    described = yaml.safe_load(files["MLmodel"].read_text())
    described.pop("artifact_path")
    assert str(folder) not in json.dumps(described)
    assert str(CODE.parent) not in json.dumps(described)
    assert not [line for line in files["requirements.txt"].read_text().splitlines() if line.startswith("reliabit")]


def test_mlflow_loads_what_was_registered_with_pickle_forbidden(tracker, version, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.client.tracking_uri)
    loaded = mlflow.pyfunc.load_model("models:/reliabit/1")
    assert loaded.predict(["what?"]) == ["four bits: what?"]


def test_a_damaged_bundle_is_not_registered(tracker, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", content="damaged")
    (bundle / "checkpoint" / "model.safetensors").write_bytes(b"x")
    before = len(tracker.client.search_logged_models([tracker.experiment_id]))
    with pytest.raises(ReliabitError, match="model.safetensors differs"):
        register_bundle(tracker, bundle, run_id="0", name="damaged", code=CODE)
    assert len(tracker.client.search_logged_models([tracker.experiment_id])) == before


def test_a_bundle_of_no_run_is_not_registered(tracker, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", content="of nobody")
    with pytest.raises(ReliabitError, match="there is no run 0{32}"):
        register_bundle(tracker, bundle, run_id="0" * 32, name="nobody", code=CODE)


def test_a_model_that_cannot_be_made_is_marked_as_failed_and_gets_no_version(tracker, version, tmp_path):
    bundle, code = write_bundle(tmp_path / "bundle", content="broken"), tmp_path / "broken_model.py"
    code.write_text("raise RuntimeError('cannot be imported')\n")
    with pytest.raises(MlflowException, match="cannot be imported"):
        register_bundle(tracker, bundle, run_id=version.run_id, name="broken", code=code)
    models = tracker.client.search_logged_models([tracker.experiment_id], filter_string="name = 'broken'")
    assert [str(model.status) for model in models] == ["FAILED"]
    with pytest.raises(ReliabitError, match="there is no models:/broken/1"):
        find_version(tracker, "broken", "1")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "it's", "-a", "a" * 200, "a b"])
def test_a_name_that_would_not_work_everywhere_is_refused(tracker, tmp_path, name):
    bundle = write_bundle(tmp_path / "bundle", content="named")
    with pytest.raises(ReliabitError, match="is no name of a registered model"):
        register_bundle(tracker, bundle, run_id="0" * 32, name=name, code=CODE)


def test_the_same_folder_registered_twice_is_two_versions_of_one_digest(tracker, version, tmp_path):
    bundle = write_bundle(tmp_path / "twice", content="twice")
    first, second = (register_bundle(tracker, bundle, run_id=version.run_id, name="twice", code=CODE) for _ in range(2))
    assert (first.number, second.number) == ("1", "2")
    assert first.digest == second.digest != version.digest


def test_addresses_are_resolved_by_number_and_by_alias(tracker, version):
    assert resolve(tracker, "models:/reliabit/1") == version
    assert find_alias(tracker, "reliabit", "tried") is None
    tracker.client.set_registered_model_alias("reliabit", "tried", "1")
    found = resolve(tracker, "models:/reliabit@tried")
    tracker.client.delete_registered_model_alias("reliabit", "tried")
    assert (found.number, found.aliases) == ("1", ("tried",))


@pytest.mark.parametrize(
    "uri",
    [
        "models:/reliabit",
        "models:/reliabit/Production",
        "models:/reliabit/0",
        "models:/reliabit/-1",
        "models:/reliabit/1/../2",
        "models:/../reliabit/1",
        "models:/reliabit@a@b",
        "models:/reliabit'/1",
        "models:/m-0123",
        "runs:/abc/model",
        "",
        "models:/reliabit/99999999999999999999",
    ],
)
def test_what_is_no_address_is_refused(tracker, uri):
    with pytest.raises(ReliabitError, match="is no address"):
        resolve(tracker, uri)


@pytest.mark.parametrize(
    "uri", ["models:/reliabit/77", "models:/reliabit@nobody", "models:/absent/1", "models:/absent@x"]
)
def test_what_is_not_there_is_refused(tracker, version, uri):
    with pytest.raises(ReliabitError, match="there is no"):
        resolve(tracker, uri)


def test_a_version_that_an_alias_names_is_not_deleted(tracker, folder):
    for content in ("a", "b"):
        register(tracker, folder, name="kept", content=content)
    promote(tracker, "kept", "1", decide=accepting)
    promote(tracker, "kept", "2", decide=accepting)
    with pytest.raises(ReliabitError, match="models:/kept/2 is the candidate and the champion"):
        delete_version(tracker, "kept", "2")
    assert find_alias(tracker, "kept", "champion").number == "2"
    delete_version(tracker, "kept", "1")
    with pytest.raises(ReliabitError, match="there is no models:/kept/1"):
        find_version(tracker, "kept", "1")
    with pytest.raises(ReliabitError, match="there is no models:/kept/1"):
        delete_version(tracker, "kept", "1")


def test_a_version_of_another_program_is_no_bundle(tracker):
    tracker.client.create_registered_model("foreign")
    tracker.client.create_model_version("foreign", "file:///nowhere")
    with pytest.raises(ReliabitError, match="holds no bundle"):
        _ = find_version(tracker, "foreign", "1").digest


def test_a_journal_has_no_registry(tmp_path):
    with pytest.raises(ReliabitError, match="tracking=offline has no registry"):
        find_version(Journal(tmp_path), "reliabit", "1")
