"""The service behind a real socket: what happens to clients when it stops, and to it when they misbehave."""

import base64
import http.client
import json
import os
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from reliabit.errors import ReliabitError
from reliabit.serving.bundle import served_model
from reliabit.serving.drift.watch import fetch_drift
from reliabit.serving.hosting import FolderSource
from reliabit.serving.http.limits import Limits
from reliabit.serving.service import LOOPBACK, bound, build_server, run_service


@contextmanager
def serving(bundle, *, key=None, **limits):
    """The server in a thread, and its port."""
    with bound("127.0.0.1", 0) as sockets:
        server = build_server(FolderSource(bundle), limits=Limits(**limits), accelerator="cpu", hosts=LOOPBACK, key=key)
        port = sockets[0].getsockname()[1]
        thread = threading.Thread(target=server.run, args=[sockets])
        thread.start()
        try:
            end = time.monotonic() + 20
            while not server.started:
                assert time.monotonic() < end
                time.sleep(0.01)
            yield server, port
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def post(port, path, content, kind="application/json"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, content, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def bodies(offline, count):
    return [
        json.dumps({"image": base64.b64encode(row["image"]).decode(), "question": row["question"]}).encode()
        for row in offline.table.select(range(count))
    ]


def test_requests_under_way_are_answered_before_it_stops(offline):
    """Seven of the eight that would fill a batch wait for the eighth when it is told to stop."""
    sent = bodies(offline, 7)
    with serving(offline.bundle, gather_seconds=1.0) as (server, port), ThreadPoolExecutor(7) as pool:
        answers = [pool.submit(post, port, "/answer", body) for body in sent]
        service = server.config.app.state.service
        while service.waiting() < 7:
            time.sleep(0.001)
        server.should_exit = True
        found = [answer.result() for answer in answers]
        assert [status for status, _ in found] == [200] * 7
        for (_, answer), confidence in zip(found, offline.confidence, strict=False):
            assert answer["confidence"] == pytest.approx(confidence, abs=1e-4)
    with pytest.raises(ConnectionRefusedError):
        post(port, "/answer", sent[0])


def test_a_body_in_endless_chunks_is_cut_off(offline):
    with serving(offline.bundle, image_bytes=1000) as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            head = "POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(60):
                client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            answer = client.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 413"), answer
        assert post(port, "/answer", b"{}")[0] == 422


def test_a_body_that_never_arrives_is_given_up(offline):
    with serving(offline.bundle, read_seconds=0.2) as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            head = "POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 100\r\n\r\nx".encode())
            answer = client.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 408"), answer
        assert post(port, "/answer", bodies(offline, 1)[0])[0] == 200


def test_a_client_that_hangs_up_is_counted_and_forgotten(offline):
    body = bodies(offline, 1)[0]
    with serving(offline.bundle, gather_seconds=0.5) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            head = "POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            service = server.config.app.state.service
            while not service.waiting():
                time.sleep(0.001)
        end = time.monotonic() + 10
        while 'status="499"' not in service.instruments.text().decode():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert service.waiting() == 0
        assert "reliabit_confidence_count 0" in service.instruments.text().decode(), "it was answered all the same"
        assert post(port, "/answer", body)[0] == 200


def test_foreign_host_names_are_refused_at_a_loopback_address(offline):
    with serving(offline.bundle) as (_, port):
        for name, status in [(f"localhost:{port}", 200), (f"rebound.example:{port}", 403)]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/healthz", headers={"Host": name})
            answer = connection.getresponse()
            assert answer.status == status
            assert answer.getheader("server") is None
            connection.close()


def test_the_drift_watch_can_be_asked_from_elsewhere(offline):
    with serving(offline.bundle) as (server, port):
        found = fetch_drift(f"http://127.0.0.1:{port}/")
        assert found.version == FolderSource(offline.bundle).current().version
        loaded = server.config.app.state.service.host.loaded
        assert found.report == loaded.watch.report
        server.config.app.state.service.host.loaded = None
        with pytest.raises(ReliabitError, match="has no model loaded yet"):
            fetch_drift(f"http://127.0.0.1:{port}")
        with pytest.raises(ReliabitError, match="is no service of Reliabit"):
            fetch_drift(f"http://127.0.0.1:{port}/elsewhere")
    with pytest.raises(ReliabitError, match="cannot be reached"):
        fetch_drift(f"http://127.0.0.1:{port}")
    with pytest.raises(ReliabitError, match="is no address of a service"):
        fetch_drift("localhost")


def test_without_a_bundle_it_does_not_start(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    for folder, reason in [(tmp_path, "is no bundle: it has no manifest.json"), (tmp_path / "no", "no is no folder")]:
        with pytest.raises(ReliabitError, match=f"{reason}; name (the )?one that `reliabit pull` made"):
            run_service(FolderSource(folder), port=0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_service_that_is_told_to_end_while_it_loads_leaves_nothing(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def told(*_, **__):
        seen.extend(path.name for path in tmp_path.iterdir())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(served_model, "load_checkpoint", told)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run_service(FolderSource(offline.bundle), port=0)
    assert ended.value.code == 128 + signal.SIGTERM
    assert len(seen) == 1, "there was no snapshot that could be left"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_bodies_of_all_requests_together_are_bounded(offline):
    """While one large body is on its way there is no room for another, and there is once it has gone."""
    limits = {"queue_bytes": 40_000, "batch_bytes": 30_000, "image_bytes": 100, "question_characters": 100}
    with serving(offline.bundle, **limits) as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            head = "POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 30000\r\n\r\n".encode() + b" " * 29_000)
            end = time.monotonic() + 10
            while (found := post(port, "/batch", b" " * 29_000))[0] != 503:
                assert time.monotonic() < end
            assert "too large bodies" in found[1]["detail"]
        while post(port, "/batch", b" " * 29_000)[0] != 400:
            assert time.monotonic() < end
