import json
import os
import shutil
import subprocess
import sys

import mlflow
import pytest
import yaml
from mlflow.data import dataset_source_registry

from reliabit.data.prepared_table import prepare
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.tracking import dataset_source
from reliabit.tracking.dataset_source import DvcDatasetSource, dataset_input, resolve
from tracking.stores import tracker_at

ENVIRONMENT = {**os.environ, "DVC_NO_ANALYTICS": "true"}


@pytest.fixture(scope="module")
def versioned(tmp_path_factory):
    """A project with a folder and a file in DVC, pushed to a remote folder."""
    root = tmp_path_factory.mktemp("project")
    (root / "data" / "set" / "sub").mkdir(parents=True)
    for name in ("b.txt", "a ä.txt", "sub/c.bin"):
        (root / "data" / "set" / name).write_bytes(name.encode() * 100)
    (root / "data" / "table.parquet").write_bytes(os.urandom(1000))
    for command in (
        ["init", "--no-scm", "--quiet"],
        ["remote", "add", "--default", "store", f"{root}-remote"],
        ["add", "data/set", "data/table.parquet"],
        ["push"],
    ):
        subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=root, check=True, capture_output=True, env=ENVIRONMENT
        )
    return root


@pytest.fixture
def project(versioned, tmp_path, monkeypatch):
    """A copy of it that a test may damage."""
    root = tmp_path / "project"
    shutil.copytree(versioned, root)
    monkeypatch.setattr(dataset_source, "project_root", lambda: root)
    return root


def test_a_path_in_dvc_is_known_by_the_hash_that_dvc_gave_it(project):
    for path in ("data/set", "data/table.parquet"):
        recorded = yaml.safe_load((project / f"{path}.dvc").read_text())["outs"][0]["md5"]
        found = resolve(f"dvc://{path}", root=project)
        assert found == DvcDatasetSource(path=path, algorithm="md5", value=recorded, recorded_in=f"{path}.dvc")
        assert found.digest == recorded.removesuffix(".dir")
        assert found.load(root=project) == project / path, "our hash of the contents is DVC's"


def test_what_was_changed_or_lost_comes_back_from_the_cache(project, tmp_path):
    source = resolve("dvc://data/set", root=project)
    original = {path.name: path.read_bytes() for path in (project / "data/set").rglob("*") if path.is_file()}
    (project / "data/set/b.txt").write_text("changed")
    restored = source.load(tmp_path / "restored", root=project)
    assert restored == tmp_path / "restored" / "set"
    assert {path.name: path.read_bytes() for path in restored.rglob("*") if path.is_file()} == original
    shutil.rmtree(project / "data/set")
    assert sorted(path.name for path in source.load(root=project).iterdir()) == ["a ä.txt", "b.txt", "sub"]


def test_what_the_cache_lacks_comes_from_the_remote(project, tmp_path):
    sources = [resolve(f"dvc://data/{name}", root=project) for name in ("set", "table.parquet")]
    table = (project / "data/table.parquet").read_bytes()
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")
    folder, file = (source.load(tmp_path / "restored", root=project) for source in sources)
    assert (folder / "sub/c.bin").read_bytes() == b"sub/c.bin" * 100
    assert file.read_bytes() == table


def test_one_file_that_the_cache_lost_comes_from_the_remote_or_is_named(project, tmp_path, versioned):
    source = resolve("dvc://data/set", root=project)
    shutil.rmtree(project / "data" / "set")
    cache = project / ".dvc/cache/files/md5"
    listing = json.loads((cache / source.value[:2] / source.value[2:]).read_text())
    lost = listing[0]["md5"]
    (cache / lost[:2] / lost[2:]).unlink()
    assert len(list(source.load(tmp_path / "restored", root=project).iterdir())) == 3
    (cache / lost[:2] / lost[2:]).unlink()
    config = project / ".dvc" / "config"
    config.write_text(config.read_text().replace(f"{versioned.name}-remote", "empty-remote"))
    with pytest.raises(ReliabitError, match=f"{lost} is neither in DVC's cache nor in its remote"):
        source.load(tmp_path / "again", root=project)
    assert not (tmp_path / "again" / "set").exists()


def test_what_is_nowhere_is_named(project, tmp_path):
    source = resolve("dvc://data/set", root=project)
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    with pytest.raises(ReliabitError, match="DVC cannot restore .*no remote specified"):
        source.load(tmp_path / "restored", root=project)
    with pytest.raises(ReliabitError, match="DVC cannot restore"):
        source.load(tmp_path / "restored", root=tmp_path)


def test_a_stage_knows_its_outputs_before_what_others_depend_on(project):
    entry = {"path": "data/made", "hash": "md5", "md5": "1" * 32}
    lock = {
        "stages": {
            "use": {"deps": [{**entry, "md5": "0" * 32}, {"path": "model", "hash": "md5", "md5": "2" * 32 + ".dir"}]},
            "make": {"outs": [entry]},
            "old": {"outs": [{"path": "data/old", "md5": "3" * 32}]},
        }
    }
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert resolve("dvc://data/made", root=project).value == "1" * 32
    assert resolve("dvc://model", root=project).digest == "2" * 32
    assert resolve("dvc://data/made", root=project).recorded_in == "dvc.lock"
    with pytest.raises(ReliabitError, match="recorded neither in dvc.lock"):
        resolve("dvc://data/old", root=project)


def test_a_prepared_table_is_known_by_its_manifest(tmp_path):
    folder = prepare(DataConfig(name="easy_vqa", splits={"train": 3, "test": 2}), root=tmp_path / "data")
    source = resolve(f"dvc://data/{folder.name}", root=tmp_path)
    assert source.algorithm == "sha256"
    assert len(source.digest) == 36
    assert source.load(root=tmp_path) == folder
    path = folder / "test.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ReliabitError, match="is missing or was changed, and is not kept by DVC"):
        source.load(root=tmp_path)
    path.write_bytes(content)
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + "\n")
    with pytest.raises(ReliabitError, match="is missing or was changed"):
        source.load(root=tmp_path)


@pytest.mark.parametrize("uri", ["data/set", "dvc://", "dvc:///etc", "dvc://../x", "s3://a/b", "dvc://a/../../b"])
def test_what_is_no_address_is_refused(uri, tmp_path):
    with pytest.raises(ReliabitError, match="is no address of a data set; write dvc://"):
        resolve(uri, root=tmp_path)


def test_files_that_are_not_dvcs_are_named(tmp_path):
    (tmp_path / "dvc.lock").write_text("- 1\n")
    with pytest.raises(ReliabitError, match="is not a file of DVC's; restore it from git"):
        resolve("dvc://data", root=tmp_path)
    (tmp_path / "dvc.lock").write_text("a: [\n")
    with pytest.raises(ReliabitError, match="cannot be read as YAML"):
        resolve("dvc://data", root=tmp_path)


def test_a_listing_that_leads_out_of_its_folder_is_refused(project, tmp_path):
    source = resolve("dvc://data/set", root=project)
    shutil.rmtree(project / "data/set")
    path = project / ".dvc/cache/files/md5" / source.value[:2] / source.value[2:]
    listing = json.loads(path.read_text())
    listing[0]["relpath"] = "../../out.txt"
    path.chmod(0o644)
    path.write_text(json.dumps(listing))
    with pytest.raises(ReliabitError, match="outside its folder; do not trust it"):
        source.load(tmp_path / "restored", root=project)
    assert not (tmp_path / "out.txt").exists()


def test_mlflow_resolves_logs_and_loads_it(project, tmp_path):
    """Through the entry point that the installed package brings."""
    source = dataset_source_registry.resolve_dataset_source("dvc://data/set")
    assert dataset_source_registry.resolve_dataset_source(source) is source
    tracker = tracker_at(tmp_path)
    with tracker.run("cell", tags={}) as run:
        tracker.client.log_inputs(run.run_id, datasets=[dataset_input(source, name="set", context="evaluation")])
    (entry,) = tracker.client.get_run(run.run_id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest, entry.dataset.source_type) == ("set", source.digest, "dvc")
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "evaluation")]
    loaded = mlflow.data.get_source(entry)
    assert loaded == source
    assert loaded.load() == project / "data/set"
