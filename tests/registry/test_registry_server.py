"""The registry behind a real MLflow server: all that the other tests do on sqlite holds over HTTP too."""

import multiprocessing
import os
import subprocess
import sys
from collections import Counter

import pytest

from registry.bundles import accepting, refusing, register
from registry.concurrent_work import ROUNDS, enter_and_leave, promote_slowly
from reliabit.errors import ReliabitError
from reliabit.registry.champion_source import ChampionSource
from reliabit.registry.history import history
from reliabit.registry.promotion import promote, rollback
from reliabit.registry.pulling import pull
from reliabit.registry.versions import delete_version, find_alias, find_version, resolve
from reliabit.tracking.tracker import Tracker
from tracking.servers import mlflow_server, postgres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(folder):
    with postgres("d4tabase-s3cret") as database, mlflow_server(database, folder=folder) as address:
        yield address


@pytest.fixture(scope="module")
def tracker(server):
    return Tracker(uri=server, artifacts="", experiment="test")


@pytest.fixture(scope="module")
def versions(tracker, folder):
    return [register(tracker, folder, name="reliabit", content=content) for content in ("a", "b", "c")]


def test_promotion_history_and_rollback(tracker, versions):
    assert promote(tracker, "reliabit", "1", decide=accepting).previous is None
    assert promote(tracker, "reliabit", "2", decide=accepting).previous == "1"
    assert promote(tracker, "reliabit", "3", decide=refusing).outcome == "refused"
    assert promote(tracker, "reliabit", "2", decide=refusing).outcome == "unchanged"
    assert rollback(tracker, "reliabit", reason="worse").version == "1"
    with pytest.raises(ReliabitError, match="no earlier champion"):
        rollback(tracker, "reliabit")
    with pytest.raises(ReliabitError, match="there is no models:/reliabit/9"):
        promote(tracker, "reliabit", "9", decide=accepting)
    assert [(one.number, one.version, one.outcome) for one in history(tracker, "reliabit")] == [
        (1, "1", "accepted"),
        (2, "2", "accepted"),
        (3, "3", "refused"),
        (4, "2", "unchanged"),
        (5, "1", "accepted"),
        (6, None, "refused"),
    ]
    assert find_version(tracker, "reliabit", "1").tags["promotion.champion.reason"] == "worse"


def test_versions_are_found_and_kept(tracker, versions):
    assert [version.number for version in versions] == ["1", "2", "3"]
    tracker.client.set_registered_model_alias("reliabit", "kept", "3")
    assert resolve(tracker, "models:/reliabit@kept").number == "3"
    with pytest.raises(ReliabitError, match="models:/reliabit/3 is the .*kept"):
        delete_version(tracker, "reliabit", "3")
    tracker.client.delete_registered_model_alias("reliabit", "kept")
    for uri in ("models:/reliabit@kept", "models:/absent@champion", "models:/reliabit/9", "models:/absent/1"):
        with pytest.raises(ReliabitError, match="there is no"):
            resolve(tracker, uri)


def test_a_bundle_is_pulled_and_a_flipped_bit_is_noticed(tracker, versions, folder, tmp_path):
    pulled = pull(tracker, "models:/reliabit/2", tmp_path / "here")
    original = folder / "reliabit" / "b"
    for path in original.rglob("*"):
        if path.is_file():
            assert (pulled.folder / path.relative_to(original)).read_bytes() == path.read_bytes()
    (stored,) = (
        path
        for path in (folder / "served").rglob("model.safetensors")
        if path.read_bytes() == (original / "checkpoint" / "model.safetensors").read_bytes()
    )
    content = bytearray(stored.read_bytes())
    content[100] ^= 1
    stored.write_bytes(content)
    try:
        with pytest.raises(ReliabitError, match="models:/reliabit/2/checkpoint/model.safetensors differs"):
            pull(tracker, "models:/reliabit/2", tmp_path / "again")
    finally:
        content[100] ^= 1
        stored.write_bytes(content)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_service_gets_the_champion(tracker, folder, tmp_path):
    register(tracker, folder, name="served", content="x")
    promote(tracker, "served", "1", decide=accepting)
    offer = ChampionSource(tracker=tracker, cache=tmp_path, name="served").current()
    with offer.snapshot() as place:
        assert (offer.version, (place / "checkpoint" / "nested" / "tokenizer.json").read_text()) == ("1", "x")


def test_mlflow_loads_a_version_with_pickle_forbidden(server, versions):
    code = "import mlflow; print(mlflow.pyfunc.load_model('models:/reliabit/3').predict(['what?']))"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("['c: what?']")


def test_processes_take_turns_and_promotions_at_once_are_both_in_the_history(tracker, server, folder):
    for content in ("a", "b"):
        register(tracker, folder, name="contended", content=content)
    with multiprocessing.get_context("spawn").Pool(6) as processes:
        pids = processes.starmap(enter_and_leave, [(folder, server)] * 6, chunksize=1)
        outcomes = processes.starmap(
            promote_slowly,
            [(folder, "contended", "1", server), (folder, "contended", "2", server)],
            chunksize=1,
        )
    assert Counter((folder / "diary").read_text().split()) == Counter(str(pid) for pid in pids for _ in range(ROUNDS))
    first, second = history(tracker, "contended")
    assert {first.version, second.version} == {"1", "2"}
    assert (first.previous, second.previous) == (None, first.version)
    assert Counter(outcomes) == Counter([("accepted", None), ("accepted", first.version)])
    assert find_alias(tracker, "contended", "champion").number == second.version
    assert not [model for model in tracker.client.search_registered_models() if ".lock" in model.name]
