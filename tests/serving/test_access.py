"""Who may ask: pages of this service alone, and where there is a key, only who brings it."""

import json
import logging
import re
import shutil
import subprocess

import pytest
from starlette.testclient import TestClient

from reliabit.cli import main
from reliabit.errors import ReliabitError
from reliabit.serving.drift.watch import fetch_drift
from reliabit.serving.http._pages import PAGE
from reliabit.serving.http.access import ApiKey, key_from_environment
from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from reliabit.serving.service import LOOPBACK, default_hosts, run_service
from serving.requests import ROW, samples, wait_until
from serving.test_listening import Unasked
from serving.test_service import serving

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def locked(host):
    """A client of the service with a key."""
    with TestClient(create_application(host, limits=Limits(), key=ApiKey.of(KEY))) as client:
        yield client


@pytest.fixture
def local(host):
    """A client of the service at localhost:8000."""
    application = create_application(host, limits=Limits(), hosts=LOOPBACK)
    with TestClient(application, base_url="http://localhost:8000") as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8000"}, 200),
        ({"Origin": "HTTP://LOCALHOST:8000", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://localhost:8000"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "http://localhost:8000.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        # A form on another page that sends itself.
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Origin": "http://localhost:9999", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
        # DNS rebinding: the foreign page's own name leads here.
        ({"Host": "rebound.example:8000", "Origin": "http://rebound.example:8000"}, 403),
        ({"Host": "localhost.evil.example:8000"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}, 200),
        ({"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}, 200),
        ({"Host": "[::1]:8000", "Origin": "http://[::1]:9999"}, 403),
        ({"Host": ""}, 403),
    ],
)
def test_pages_of_other_hosts_and_ports_are_foreign(local, headers, status):
    answered = local.post("/answer", json=ROW, headers=headers)
    assert answered.status_code == status, answered.text
    if status == 403:
        assert not {name for name in answered.headers if name.startswith("access-control")}
        assert "\n" not in answered.json()["detail"]


def test_a_link_on_another_page_may_be_followed(local):
    for site in ("cross-site", "same-site"):
        followed = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert local.get("/", headers=followed).status_code == 200
        assert local.get("/healthz", headers={**followed, "Sec-Fetch-Mode": "no-cors"}).status_code == 403


def test_where_names_are_free_a_page_still_asks_its_own_host_alone(client):
    """Off loopback the service does not know its names; behind a proxy with TLS it does not know the scheme."""
    for host, origin, status in [
        ("answers.example", "https://answers.example", 200),
        ("answers.example:443", "https://answers.example", 200),
        ("answers.example", "http://answers.example:80", 200),
        ("answers.example", "https://answers.example:8443", 403),
        ("answers.example", "https://other.example", 403),
    ]:
        answered = client.post("/answer", json=ROW, headers={"Host": host, "Origin": origin})
        assert answered.status_code == status, (host, origin)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
        ({}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {KEY}x"}, 401),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, 401),
        ({"X-API-Key": KEY.upper()}, 401),
        ({"X-API-Key": "ÿ".encode("latin-1")}, 401),
        ({"X-API-Key": ""}, 401),
    ],
)
def test_with_a_key_only_those_who_bring_it_are_answered(locked, headers, status):
    for method, path, sent in [
        ("POST", "/answer", ROW),
        ("POST", "/batch", {"questions": [ROW]}),
        ("GET", "/drift", None),
        ("GET", "/metrics", None),
    ]:
        answered = locked.request(method, path, json=sent, headers=headers)
        assert answered.status_code == status, (path, answered.text)
        if status == 401:
            assert answered.headers["WWW-Authenticate"] == "Bearer"
            assert "send it as Authorization: Bearer" in answered.json()["detail"]
    for path in ("/nothing/here", "/metrics/", "/answer"):
        assert locked.get(path, headers=headers).status_code in ({401} if status == 401 else {404, 405, 200})


def test_without_the_key_the_body_is_not_even_read(locked):
    def body():
        pytest.fail("it was read")
        yield b""

    assert locked.post("/answer", content=body(), headers={"Content-Length": "10"}).status_code == 401


def test_pages_and_health_are_open_and_name_no_folder(host):
    class Broken:
        def current(self):
            raise ReliabitError("/srv/secret/place differs")

    host.source = Broken()
    with TestClient(create_application(host, limits=Limits(), key=ApiKey.of(KEY))) as locked:
        assert_open(locked)


def assert_open(locked):
    wait_until(lambda: "refused" in locked.get("/healthz").json())
    for path in ("/", "/docs", "/openapi.json", "/healthz"):
        assert locked.get(path).status_code == 200, path
    assert locked.get("/healthz").json()["refused"] == {"version": None}
    assert locked.get("/healthz").json()["needs_key"]
    known = locked.get("/healthz", headers={"X-API-Key": KEY}).json()
    assert known["refused"] == {"version": None, "reason": "/srv/secret/place differs"}


def test_refusals_for_want_of_a_key_are_counted(locked):
    for _ in range(3):
        locked.post("/answer", json=ROW)
    locked.headers["X-API-Key"] = KEY
    assert samples(locked)["reliabit_requests_total", ("path", "/answer"), ("status", "401")] == 3


@pytest.mark.parametrize(("name", "optional"), [("locked", False), ("local", True)])
def test_the_document_names_both_ways_to_send_it(name, optional, request):
    client = request.getfixturevalue(name)
    for _ in range(2):
        document = client.get("/openapi.json").json()
        schemes = document["components"]["securitySchemes"]
        assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
        assert (schemes["header"]["type"], schemes["header"]["in"], schemes["header"]["name"]) == (
            ("apiKey", "header", "X-API-Key")
        )
        for path in ("/answer", "/batch", "/drift", "/metrics"):
            [endpoint] = document["paths"][path].values()
            ways = [set(way) for way in endpoint["security"]]
            assert ways == [set()] * optional + [{"bearer"}, {"header"}]
        assert "security" not in document["paths"]["/healthz"]["get"]
    assert "X-API-Key" in client.get("/docs").text


def test_the_page_asks_for_the_key_and_keeps_it_nowhere():
    assert re.search(r'<input id="key" type="password" autocomplete="off"', PAGE.html)
    assert "Authorization" in PAGE.html
    for store in ("localStorage", "sessionStorage", "cookie", "indexedDB", "location"):
        assert store not in PAGE.html


BROWSER = """
// As much of a browser as the page's script asks for.
const nodes = {}, asked = [], listeners = {};
const node = (id) => nodes[id] ??= {
  style: {}, value: "", files: [{ name: "shape.png" }], textContent: "", hidden: id === "locked",
  setAttribute() {}, replaceChildren() {}, addEventListener(kind, does) { listeners[id + kind] = does; },
};
globalThis.document = { getElementById: node, createElement: () => ({}) };
globalThis.FormData = class { append() {} };
globalThis.URL = { createObjectURL: () => "", revokeObjectURL() {} };
globalThis.setInterval = () => 0;
globalThis.fetch = async (path, options = {}) => {
  asked.push({ path, headers: options.headers ?? {} });
  if (path === "healthz") {
    return { ok: true, json: async () => ({ status: "ok", needs_key: NEEDS, certificates: [], model_version: "1" }) };
  }
  return { ok: false, json: async () => ({ detail: "this needs the service's key" }) };
};
(0, eval)(SCRIPT);
setTimeout(async () => {
  const shown = !nodes.locked.hidden;
  node("key").value = KEY;
  await listeners.formsubmit({ preventDefault() {} });
  console.log(JSON.stringify({ shown, asked, said: nodes.said.textContent }));
}, 20);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the page's script")
@pytest.mark.parametrize(("needs", "key"), [(True, KEY), (True, ""), (False, "")])
def test_the_page_sends_the_key_that_it_was_given(needs, key):
    [script] = re.findall(r"<script>(.*?)</script>", PAGE.html, flags=re.DOTALL)
    values = {"SCRIPT": script, "NEEDS": needs, "KEY": key}
    code = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items()) + BROWSER
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert found["shown"] is needs
    [answer] = [one for one in found["asked"] if one["path"] == "answer"]
    assert answer["headers"] == ({"Authorization": f"Bearer {key}"} if key else {})
    assert found["said"] == "this needs the service's key"


@pytest.mark.parametrize(
    "key", ["short", "x" * 15, "pässword-pässword", "two\nlines of a key here", " leading blank of it"]
)
def test_keys_that_cannot_be_used_are_refused_without_being_shown(key):
    with pytest.raises(ReliabitError, match="RELIABIT_API_KEY has less than 16 characters or holds some") as caught:
        key_from_environment({"RELIABIT_API_KEY": key})
    assert key not in str(caught.value)


def test_an_empty_variable_is_none():
    assert key_from_environment({}) is None
    assert key_from_environment({"RELIABIT_API_KEY": ""}) is None


def test_a_key_does_not_show_itself():
    key = ApiKey.of(KEY)
    assert KEY not in repr(key)
    assert key.digest.hex() not in repr(key)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_off_loopback_it_does_not_start_without_a_key(host):
    with pytest.raises(ReliabitError, match=f"whoever reaches {host} could ask without a key; set RELIABIT_API_KEY"):
        run_service(Unasked(), host=host, port=0)
    with pytest.raises(AssertionError, match="a model was asked for"):
        run_service(Unasked(), host=host, port=0, key=ApiKey.of(KEY))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_at_loopback_none_is_needed(host):
    with pytest.raises(AssertionError, match="a model was asked for"):
        run_service(Unasked(), host=host, port=0)
    assert host in default_hosts(host, here=True)


def test_the_key_is_in_no_log(offline, caplog):
    """Nor is what is tried instead of it, even where every message is shown."""
    with caplog.at_level(logging.DEBUG), serving(offline.bundle, key=ApiKey.of(KEY)) as (_, port):
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(ReliabitError, match="wants its key; set RELIABIT_API_KEY"):
            fetch_drift(url)
        with pytest.raises(ReliabitError, match="wants its key"):
            fetch_drift(url, key="tried-instead-of-the-key")
        assert fetch_drift(url, key=KEY).report.answers == 0
    assert caplog.text
    assert KEY not in caplog.text
    assert "tried-instead" not in caplog.text


def test_a_defect_does_not_log_the_key(locked, host, monkeypatch, caplog):
    monkeypatch.setattr(host, "answer", lambda _: 1 / 0)
    with caplog.at_level(logging.DEBUG):
        assert locked.post("/answer", json=ROW, headers={"X-API-Key": KEY}).status_code == 500
    assert "ZeroDivisionError" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "key", "reason"),
    [
        (["--bundle", "BUNDLE", "--host", "0.0.0.0", "--port", "0"], "", "set RELIABIT_API_KEY"),
        (["--bundle", "BUNDLE", "--port", "0"], "short", "RELIABIT_API_KEY has less than 16 characters"),
        (["--digest", "0" * 64], "", "--digest goes with --bundle"),
        (["--bundle", "BUNDLE", "--digest", "0"], "", "is no SHA-256; give the 64 digits"),
        (["--bundle", "BUNDLE", "--digest", "0" * 64, "--port", "0"], "", "is not the one that is expected"),
        (["--bundle", "BUNDLE", "--client-connections", "0"], "", "the limit client_connections is 0; set it above"),
    ],
)
def test_the_command_says_in_a_line_what_is_missing(offline, monkeypatch, capsys, arguments, key, reason):
    monkeypatch.setenv("RELIABIT_API_KEY", key)
    with pytest.raises(SystemExit) as caught:
        main(["serve", *(str(offline.bundle) if one == "BUNDLE" else one for one in arguments)])
    errors = capsys.readouterr().err
    assert (caught.value.code, reason in errors, errors.count("\n")) == (2, True, 1), errors


def test_health_is_json_for_everybody(locked):
    assert json.loads(locked.get("/healthz").text)["status"] == "ok"
