"""Which model serves: none yet, a new champion, or the old one because the new one is damaged."""

import shutil
import threading

import numpy as np
from starlette.testclient import TestClient

from reliabit.serving.hosting import FolderSource, ModelHost
from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from serving.requests import ROW, body, samples, wait_until


def test_before_a_model_is_loaded_nothing_is_ready(offline):
    gate = threading.Event()

    class Slow(FolderSource):
        def current(self):
            assert gate.wait(20)
            return super().current()

    with TestClient(create_application(ModelHost(Slow(offline.bundle)), limits=Limits())) as client:
        health = client.get("/healthz")
        assert (health.status_code, health.json()) == (503, {"status": "loading", "needs_key": False})
        for answered in (client.post("/answer", json=ROW), client.get("/drift")):
            assert (answered.status_code, answered.headers["Retry-After"]) == (503, "1")
        assert samples(client)["reliabit_ready",] == 0
        gate.set()
        wait_until(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/answer", json=ROW).status_code == 200


def test_a_new_champion_takes_over_between_batches(offline, plain, tmp_path):
    """While clients ask, the source changes; every answer is one of the version that it names."""
    champion = tmp_path / "champion"
    shutil.copytree(offline.bundle, champion)
    source = FolderSource(champion)
    host = ModelHost(source)
    host.refresh()
    before, rows = source.current().version, list(offline.table.select(range(8)))
    said = {before: offline.confidence[:8]}
    stop, found = threading.Event(), []
    with TestClient(create_application(host, limits=Limits(poll_seconds=0.05))) as client:

        def ask():
            while not stop.is_set():
                found.append(client.post("/batch", json={"questions": [body(row) for row in rows]}))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: len(found) > 2)
        replace_folder(plain.bundle, champion)
        after = source.current().version
        said[after] = plain.confidence[:8]
        wait_until(lambda: client.get("/healthz").json()["model_version"] == after)
        seen = len(found)
        wait_until(lambda: len(found) > seen + 2)
        stop.set()
        asking.join()
    assert {one.status_code for one in found} == {200}
    versions = []
    for one in found:
        [version] = {answer["model_version"] for answer in one.json()["answers"]}
        np.testing.assert_allclose([a["confidence"] for a in one.json()["answers"]], said[version], atol=1e-4)
        versions.append(version)
    assert versions == sorted(versions, key=[before, after].index)
    assert set(versions) == {before, after}


def replace_folder(source, target):
    fresh = target.with_name("fresh")
    shutil.copytree(source, fresh)
    target.rename(target.with_name("old"))
    fresh.rename(target)


def test_a_damaged_successor_is_refused_and_seen(offline, plain, tmp_path):
    champion = tmp_path / "champion"
    shutil.copytree(offline.bundle, champion)
    host = ModelHost(FolderSource(champion))
    host.refresh()
    before = host.loaded.version
    damaged = tmp_path / "damaged"
    shutil.copytree(plain.bundle, damaged)
    (damaged / "checkpoint" / "config.json").write_text("{}")
    replace_folder(damaged, champion)
    with TestClient(create_application(host, limits=Limits(poll_seconds=0.05))) as client:
        wait_until(lambda: "refused" in client.get("/healthz").json())
        health = client.get("/healthz")
        assert (health.status_code, health.json()["model_version"]) == (200, before)
        assert "config.json differs from what manifest.json lists" in health.json()["refused"]["reason"]
        version = FolderSource(champion).current().version
        assert samples(client)["reliabit_refused", ("version", version)] == 1
        assert client.post("/answer", json=ROW).json()["model_version"] == before
        refusals = host.refusals
        wait_until(lambda: client.get("/healthz").status_code == 200)
        assert host.refusals == refusals == 1, "it is not hashed again at every poll"
        shutil.rmtree(champion)
        shutil.copytree(plain.bundle, champion)
        host.refused = None
        wait_until(lambda: client.get("/healthz").json()["name"] == "plain")
        assert "refused" not in client.get("/healthz").json()


def test_a_source_that_fails_leaves_the_model_in_place(host):
    class Broken:
        def current(self):
            raise ConnectionError("secret address")

    host.source = Broken()
    with TestClient(create_application(host, limits=Limits())) as client:
        wait_until(lambda: "refused" in client.get("/healthz").json())
        refused = client.get("/healthz").json()["refused"]
        assert refused == {"version": None, "reason": "ConnectionError; see the log"}
        assert client.post("/answer", json=ROW).status_code == 200
