"""The service among strangers: who holds connections, drips bytes or sends mountains of them stops nobody else.

A real service in a process of its own, on loopback; every loop here ends.
"""

import http.client
import json
import socket
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.requests import ROW
from serving.running import service
from serving.test_service import bodies

HEAD = "POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LIMITS = {
    "connections": 64,
    "client_connections": 24,
    "header_seconds": 1.5,
    "progress_seconds": 1.5,
    "write_seconds": 1.5,
    "linger_seconds": 0.5,
}


@pytest.fixture(scope="module")
def running(offline, tmp_path_factory):
    with service(offline.bundle, tmp_path_factory.mktemp("strangers"), **LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(running):
    """Nobody's connections are left over from the test before."""
    end = time.monotonic() + 15
    while counted(running)["open"] > 1:
        assert time.monotonic() < end
        time.sleep(0.1)


def port_of(running):
    return int(running.url.rpartition(":")[2])


def ask(running, method, path, content=None, *, source="127.0.0.1", **headers):
    """Status, headers and body of an answer, which must not take longer than it is worth waiting for."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(running), timeout=20, source_address=(source, 0))
    try:
        connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def assert_healthy(running, *, source="127.0.0.1"):
    start = time.monotonic()
    status, _, content = ask(running, "GET", "/healthz", source=source)
    taken = time.monotonic() - start
    assert (status, json.loads(content)["status"]) == (200, "ok")
    assert taken < 1, f"it took {taken:.2f} s"


def counted(running):
    """Connections that are open, and those that were turned away by reason, as Prometheus is told."""
    found = {}
    for family in text_string_to_metric_families(ask(running, "GET", "/metrics")[2].decode()):
        for sample in family.samples:
            if sample.name == "reliabit_connections":
                found["open"] = sample.value
            elif sample.name == "reliabit_connections_turned_away_total":
                found[sample.labels["reason"]] = sample.value
    return found


def connect(running, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port_of(running)), timeout=20, source_address=(source, 0))


@contextmanager
def attackers(running, number, say, *, sources=("127.0.0.1",)):
    with ExitStack() as stack:
        found = []
        for one in range(number):
            client = stack.enter_context(connect(running, sources[one % len(sources)]))
            say(client)
            found.append(client)
        yield found


def read_all(client):
    """What the service says until it closes the connection."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"<reset>")
    return b"".join(parts)


SAY = {
    "nothing": lambda client: None,
    "half a header": lambda client: client.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc"),
    "no end of headers": lambda client: client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 100),
    "a body by the byte": lambda client: client.sendall(f"{HEAD}Content-Length: 5000\r\n\r\n{{".encode()),
    "nothing of its chunks": lambda client: client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()),
    "the body of a GET": lambda client: client.sendall(
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nx"
    ),
}


@pytest.mark.parametrize("say", SAY.values(), ids=SAY)
def test_connections_that_never_ask_stop_nobody(running, offline, say):
    """From one address and from several, more than there are places for; some go on dripping all the time."""
    with attackers(running, 100, say, sources=("127.0.0.1", "127.0.0.2", "127.0.0.3")) as held:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            for source in ("127.0.0.1", "127.0.0.2", "127.0.0.9"):
                assert_healthy(running, source=source)
            for client in held:
                drip(client)
            time.sleep(0.1)
        # The times are over, whatever was dripped meanwhile.
        assert ask(running, "POST", "/answer", bodies(offline, 1)[0])[0] == 200
        assert counted(running)["open"] <= 2


def drip(client):
    with suppress(OSError):
        client.sendall(b"x")


def test_whoever_waits_longest_without_a_request_gives_way(running, offline):
    """Even while they may still wait, those who send nothing take no place from those who ask."""
    before = counted(running)
    with attackers(running, 100, SAY["nothing"], sources=("127.0.0.1", "127.0.0.2")) as held:
        start = time.monotonic()
        assert ask(running, "POST", "/answer", bodies(offline, 1)[0])[0] == 200
        assert time.monotonic() - start < 1.4, "it was answered only after they had had their time"
        told = held[0].recv(65536).decode()
        assert told.startswith("HTTP/1.1 503 Service Unavailable\r\n")
        assert "Retry-After: 1" in told
        assert "as many connections as one may have" in json.loads(told.partition("\r\n\r\n")[2])["detail"]
    assert counted(running)["waiting"] - before["waiting"] >= 52


def settle(running):
    """Wait until what was sent has been read: until then nobody knows that these connections ask for something."""
    time.sleep(0.2)
    assert_healthy(running, source="127.0.0.50")


def test_a_request_beyond_the_limits_is_told_so_and_counted(running, offline):
    """Where every place of a client has a request under way, its next one is refused at once, but for its health."""
    before = counted(running)
    with attackers(running, 24, SAY["a body by the byte"]):
        settle(running)
        status, headers, content = ask(running, "POST", "/answer", bodies(offline, 1)[0])
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(content)["detail"] == "this client has as many connections as one may have; try again in 1 s"
        assert_healthy(running)
        # Others have places of their own.
        assert ask(running, "POST", "/answer", bodies(offline, 1)[0], source="127.0.0.2")[0] == 200
    after = counted(running)
    assert after["client"] - before["client"] >= 2
    with attackers(running, 64, SAY["a body by the byte"], sources=[f"127.0.0.{n}" for n in range(11, 19)]):
        settle(running)
        status, _, content = ask(running, "POST", "/batch", b'{"questions": []}', source="127.0.0.99")
        assert (status, "all connections of this service are taken" in content.decode()) == (503, True)
        assert_healthy(running, source="127.0.0.99")
    assert counted(running)["limit"] - after["limit"] >= 2


@pytest.mark.parametrize(
    ("say", "status", "reason"),
    [
        ("nothing", 408, "no request arrived within 1.5 s"),
        ("half a header", 408, "no request arrived within 1.5 s"),
        ("a body by the byte", 408, "less than a KiB of the body arrived within 1.5 s"),
        ("nothing of its chunks", 408, "less than a KiB of the body arrived within 1.5 s"),
    ],
)
def test_whoever_takes_too_long_is_told_why(running, say, status, reason):
    with connect(running) as client:
        SAY[say](client)
        told = read_all(client).decode()
    assert told.startswith(f"HTTP/1.1 {status} "), told
    assert reason in json.loads(told.partition("\r\n\r\n")[2])["detail"]


def test_a_kept_connection_is_closed_when_nothing_more_is_asked(running):
    with connect(running) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        told = read_all(client).decode()
    assert told.startswith("HTTP/1.1 200")
    assert "HTTP/1.1" not in told[8:], "nobody asked again"
    with connect(running) as client:
        for _ in range(3):
            client.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
        assert read_all(client).decode().count("HTTP/1.1 200") == 6


def test_answers_that_nobody_reads_are_thrown_away(running):
    before = counted(running)["unread"]
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(2)
            client.connect(("127.0.0.1", port_of(running)))
            with suppress(OSError):
                for _ in range(300):
                    client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        end = time.monotonic() + 10
        while counted(running)["unread"] == before:
            assert time.monotonic() < end
            assert_healthy(running)
            time.sleep(0.1)


MILLION = 1_000_000
MOUNTAINS = {
    "a million empty questions": ("/batch", b'{"questions":[' + b",".join([b"{}"] * MILLION) + b"]}", {}, 422),
    "as many as are parsed": ("/batch", b'{"questions":[' + b",".join([b"{}"] * 30_000) + b"]}", {}, 422),
    "an object of many fields": (
        "/batch",
        b'{"questions":[{' + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}]}",
        {},
        422,
    ),
    "many objects of many fields": (
        "/batch",
        b'{"questions":[' + b",".join([b"{" + b",".join(b'"%d":1' % n for n in range(1900)) + b"}"] * 32) + b"]}",
        {},
        422,
    ),
    "deep brackets": ("/batch", b'{"questions":' + b"[" * 8 * MILLION, {}, 422),
    "deep objects": ("/answer", b'{"image":' * MILLION, {}, 422),
    "blanks": ("/batch", b"{" + b" " * 30 * MILLION, {}, 400),
    "endless digits": ("/answer", b'{"risk":' + b"9" * 14 * MILLION, {}, 400),
    "an image in single letters": (
        "/answer",
        b'{"question":"a","image":"' + b"A " * 7 * MILLION + b'"}',
        {},
        415,
    ),
    "a million fields of a form": (
        "/answer",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 280_000,
        {"Content-Type": "multipart/form-data; boundary=x"},
        400,
    ),
    "line ends of a form": (
        "/answer",
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"\r\n-" * 5 * MILLION,
        {"Content-Type": "multipart/form-data; boundary=x"},
        422,
    ),
}


@pytest.mark.parametrize(("path", "content", "headers", "status"), MOUNTAINS.values(), ids=MOUNTAINS)
def test_what_is_sent_in_masses_stops_nobody(running, path, content, headers, status):
    """Three at once: every answer is short and there soon, and `/healthz` is answered meanwhile."""
    start = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(running)) for _ in range(3)]
        kind = {"Content-Type": "application/json", **headers}["Content-Type"]
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        for client in clients:
            client.sendall(head.encode())
            client.sendall(content)
            assert_healthy(running)
        for _ in range(3):
            assert_healthy(running)
        for client in clients:
            answer = http.client.HTTPResponse(client)
            answer.begin()
            told = answer.read()
            assert (answer.status, len(told) < 1000) == (status, True), told[:1000]
            assert_healthy(running)
    assert time.monotonic() - start < 12


def test_a_body_in_tiny_chunks_is_given_up(running):
    """Each chunk of a byte costs as much time as one of many."""
    before = counted(running)["malformed"]
    with connect(running) as client:
        client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        start = time.monotonic()
        with suppress(OSError):
            for _ in range(100):
                client.sendall(b"1\r\nx\r\n" * 10_000)
        assert_healthy(running)
        assert time.monotonic() - start < 5
    assert counted(running)["malformed"] == before + 1


def test_chunks_of_any_usual_size_are_taken(running, offline):
    body = bodies(offline, 1)[0]
    with connect(running) as client:
        client.sendall(f"{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for start in range(0, len(body), 300):
            part = body[start : start + 300]
            client.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 600_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no host", "two hosts", "a long line", "two lengths", "no chunk", "no chunk after an answer"],
)
def test_what_is_no_http_is_refused_without_a_trace(running, noise):
    with connect(running) as client:
        client.sendall(noise)
        told = read_all(client)
    assert told.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200")), told
    assert_healthy(running)
    assert "Traceback" not in running.log.read_text()


def test_a_refused_client_hears_why_while_it_still_sends(running):
    """The answer comes before the body is there, and is not lost with the connection."""
    for _ in range(5):
        with connect(running) as client:
            client.sendall(f"{HEAD}Content-Length: {100 * MILLION}\r\n\r\n".encode())
            client.sendall(b"x" * 200_000)
            time.sleep(0.05)
            told = read_all(client).decode()
        assert told.startswith("HTTP/1.1 413"), told
        assert "connection: close" in told.lower()


def test_nothing_was_logged_of_what_was_sent(running):
    log = running.log.read_text()
    assert "Traceback" not in log
    assert ROW["question"] not in log
