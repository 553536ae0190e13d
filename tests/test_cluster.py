"""What a launcher needs, with stand-ins for Slurm's commands; tests/slurm has the real ones."""

import json
import os
import socket
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reliabit import cluster
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder

HERE = socket.gethostname()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of Slurm's that say what a test has them say."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def says(name, text="", *, status=0, seconds=0):
        path = folder / name
        path.write_text(f"#!/bin/sh\nsleep {seconds}\nprintf '{text}'\nexit {status}\n")
        path.chmod(0o755)

    for name in cluster.COMMANDS:
        says(name)
    says("sinfo", f"n1 {HERE}\\nn2 other\\n")
    says("scontrol", "MaxArraySize            = 1001\\nMaxJobCount             = 10000\\n")
    return says


def config(folder, *, launcher="slurm_cpu", uri="http://head:5000", **options):
    own = OmegaConf.load(conf_folder() / "hydra" / "launcher" / f"{launcher}.yaml")
    if launcher in ("slurm_gpu", "slurm_node"):
        own = OmegaConf.merge(OmegaConf.load(conf_folder() / "hydra" / "launcher" / "slurm_cpu.yaml"), own)
    return OmegaConf.create(
        {
            "hydra": {
                "launcher": OmegaConf.merge(own, options),
                "sweep": {"dir": f"{folder}/sweep"},
                "runtime": {"choices": {"hydra/launcher": launcher}},
            },
            "paths": {"cache": f"{folder}/cache", "data": f"{folder}/data"},
            "tracking": {"uri": uri},
        }
    )


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(cluster, "is_installed", lambda extra: True)


def test_every_launcher_is_known_with_what_it_needs():
    options = {path.stem for path in (conf_folder() / "hydra" / "launcher").glob("*.yaml")}
    assert options == cluster.EXTRAS.keys()


@pytest.mark.parametrize(
    ("launcher", "package", "extra"),
    [("local_pool", "hydra-submitit-launcher", "slurm"), ("ray", "hydra-ray-launcher", "ray")],
)
def test_a_launcher_that_is_not_installed_says_how_to_install_it(launcher, package, extra, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "is_installed", lambda extra: False)
    with pytest.raises(ReliabitError) as refused:
        cluster.check_launcher(config(tmp_path, launcher=launcher))
    assert str(refused.value) == (
        f"hydra/launcher={launcher} needs the package {package}, which is not installed; install it with pip install "
        f"'reliabit[{extra}]', or leave the launcher out"
    )


@pytest.mark.parametrize("launcher", ["slurm_cpu", "slurm_gpu", "slurm_node"])
def test_a_cluster_that_answers_is_taken(launcher, slurm, installed, tmp_path):
    cluster.check_launcher(config(tmp_path, launcher=launcher))
    assert cluster.slurm_machines(None) == {"n1": HERE, "n2": "other"}


def test_without_slurm_s_commands_a_login_node_is_named(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReliabitError, match="there is no sbatch here, .* choose hydra/launcher=local_pool"):
        cluster.check_launcher(config(tmp_path))


def test_a_controller_that_does_not_answer_is_named(slurm, installed, tmp_path, monkeypatch):
    slurm("sinfo", "slurm_load_partitions: Unable to contact slurm controller", status=1)
    with pytest.raises(ReliabitError, match=r"the controller of Slurm does not answer \(slurm_load_partitions: Unable"):
        cluster.check_launcher(config(tmp_path))
    slurm("sinfo", seconds=5)
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.2)
    with pytest.raises(ReliabitError, match=r"does not answer \(sinfo: no answer within 0 s\)"):
        cluster.check_launcher(config(tmp_path))


def test_a_partition_without_nodes_is_named(slurm, installed, tmp_path):
    slurm("sinfo")
    with pytest.raises(ReliabitError, match="the partition gpu of Slurm has no nodes; set hydra.launcher.partition to"):
        cluster.check_launcher(config(tmp_path, partition="gpu"))


def test_missing_accounts_are_refused_as_a_sweep_would_wait_for_ever(slurm, installed, tmp_path):
    slurm("sacct", "Slurm accounting storage is disabled", status=1)
    with pytest.raises(
        ReliabitError, match=r"does not answer \(Slurm accounting storage is disabled\), and without it"
    ):
        cluster.check_launcher(config(tmp_path))


@pytest.mark.parametrize("says", ["MaxArraySize = 0\\n", "MaxJobCount = 10000\\n"])
def test_a_slurm_without_arrays_is_refused(says, slurm, installed, tmp_path):
    assert cluster.largest_array() == 1001
    slurm("scontrol", says)
    with pytest.raises(ReliabitError, match="Slurm takes no arrays of jobs .+; choose hydra/launcher=local_pool"):
        cluster.check_launcher(config(tmp_path))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (
            "sqlite:////shared/mlflow.db",
            "is a sqlite file, which is damaged where 2 nodes write it over a network; use",
        ),
        ("http://localhost:5000", "is another machine on each node; give the name by which nodes know the server's"),
    ],
)
def test_a_store_that_nodes_cannot_share_is_refused(uri, told, slurm, installed, tmp_path):
    with pytest.raises(ReliabitError, match=f"tracking.uri={uri} {told}"):
        cluster.check_launcher(config(tmp_path, uri=uri))
    cluster.check_launcher(config(tmp_path, uri="journal:///shared/journal"))


def test_one_node_on_this_machine_may_write_a_sqlite_file(slurm, installed, tmp_path):
    slurm("sinfo", f"n1 {HERE}\\n")
    cluster.check_launcher(config(tmp_path, uri="sqlite:////here/mlflow.db"))
    slurm("sinfo", "n1 other\\n")
    with pytest.raises(ReliabitError, match="is a sqlite file, which is damaged where 1 nodes write it"):
        cluster.check_launcher(config(tmp_path, uri="sqlite:////here/mlflow.db"))


def test_ray_on_several_nodes_needs_a_server_too(installed, tmp_path):
    with pytest.raises(ReliabitError, match="is a sqlite file"):
        cluster.check_launcher(config(tmp_path, launcher="ray", uri="sqlite:////here/mlflow.db"))
    cluster.check_launcher(config(tmp_path, launcher="ray"))


def test_credentials_of_a_store_are_not_repeated(slurm, installed, tmp_path):
    with pytest.raises(ReliabitError) as refused:
        cluster.check_launcher(config(tmp_path, uri="http://user:hunter22@localhost:5000"))
    assert "hunter22" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReliabitError, match=r"paths.cache=.*/file/cache cannot be written and read on .* every node"):
        cluster.check_folder(tmp_path / "file" / "cache", key="paths.cache")


@pytest.mark.parametrize("off", [-90, 90])
def test_a_clock_that_differs_is_named(off, tmp_path):
    cluster.check_folder(tmp_path, key="paths.cache", now=time.time() + off / 10)
    with pytest.raises(ReliabitError, match=r"the clocks of .* differ by (89|90|91) s; .*set them right \(NTP\)"):
        cluster.check_folder(tmp_path, key="paths.cache", now=time.time() + off)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_knows_the_cache_that_its_sweep_was_launched_with(tmp_path):
    cell = {"parent_file": f"{tmp_path}/sweep/mlflow_parent.json"}
    # A sweep on one machine leaves no word.
    cluster.share_folders(config(tmp_path, launcher="local_pool"))
    cluster.check_cell(**cell, cache=tmp_path / "other")
    cluster.check_cell(parent_file=None, cache=tmp_path / "other")
    cluster.share_folders(config(tmp_path))
    cluster.check_cell(**cell, cache=tmp_path / "cache")
    # The same folder by another name, as on another mount.
    (tmp_path / "mounted").symlink_to(tmp_path / "cache")
    cluster.check_cell(**cell, cache=tmp_path / "mounted")
    told = rf"paths.cache=.*/other on {HERE} is not the folder that the sweep was launched with on {HERE}; name one"
    with pytest.raises(ReliabitError, match=told):
        cluster.check_cell(**cell, cache=tmp_path / "other")
    # The next sweep finds the same cache.
    before = json.loads(Path(tmp_path, "sweep", cluster.SHARED).read_text())
    cluster.share_folders(config(tmp_path))
    assert json.loads(Path(tmp_path, "sweep", cluster.SHARED).read_text()) == before
