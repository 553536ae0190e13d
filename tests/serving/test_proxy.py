"""The example of a proxy, `docs/examples/nginx.conf`, in a real nginx with a certificate made here."""

import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from reliabit.serving.hosting import FolderSource, ModelHost
from reliabit.serving.http._instruments import Instruments
from reliabit.serving.http.access import ApiKey, Guard
from serving.running import free_port

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "nginx.conf"
KEY = "0123456789abcdef-key"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin")

pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="nginx (Debian's nginx-light) or openssl is not installed"
)


async def _echo(request):
    body = await request.body()
    return JSONResponse({"host": request.headers["host"], "bytes": len(body)})


def _guarded():
    """What stands before the service's own application, with its rules for hosts, origins and the key."""
    app = Starlette(routes=[Route("/answer", _echo, methods=["POST"]), Route("/healthz", _echo)])
    host = ModelHost(FolderSource(Path("nowhere")))
    return Guard(app, instruments=Instruments(host), hosts=("localhost", "127.0.0.1"), key=ApiKey.of(KEY))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    certificate, private = folder / "server.pem", folder / "server.key"
    names = "subjectAltName=DNS:mlflow.example.org,DNS:answers.example.org,DNS:localhost"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", private, "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", names]
    subprocess.run(made, check=True, capture_output=True)
    service, tls, plain = free_port(), free_port(), free_port()
    text = EXAMPLE.read_text()
    for old, new in {
        "/etc/nginx/tls/server.pem": str(certificate),
        "/etc/nginx/tls/server.key": str(private),
        "/var/log/nginx/": f"{folder}/",
        "listen 443 ": f"listen 127.0.0.1:{tls} ",
        "listen 80 ": f"listen 127.0.0.1:{plain} ",
        "rate=20r/s": "rate=1r/s",
        "burst=40": "burst=15",
        "127.0.0.1:5000": f"127.0.0.1:{service}",
        "127.0.0.1:8000": f"127.0.0.1:{service}",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n"
    )
    server = uvicorn.Server(uvicorn.Config(_guarded(), port=service, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    process = subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.PIPE)
    try:
        _wait(f"http://127.0.0.1:{plain}/", process)
        _wait(f"http://127.0.0.1:{service}/healthz", process)
        yield SimpleNamespace(tls=tls, plain=plain, certificate=certificate, folder=folder)
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()
        server.should_exit = True
        thread.join(30)


def _wait(address, process):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert process.poll() is None, process.stderr.read().decode()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(address)


def asked(proxy, path, *, name="answers.example.org", body=b"", **headers):
    context = ssl.create_default_context(cafile=proxy.certificate)
    address = f"https://localhost:{proxy.tls}{path}"
    request = urllib.request.Request(address, data=body, headers={"Host": name, **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "wrong-wrong-wrong"}, 401),
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"X-API-Key": KEY, "Origin": "https://answers.example.org", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"X-API-Key": KEY, "Origin": "https://evil.example.com"}, 403),
        ({"X-API-Key": KEY, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_the_key_and_the_origin_count_behind_the_proxy(proxy, headers, status):
    assert asked(proxy, "/answer", **headers)[0] == status


def test_a_name_that_is_not_served_here_is_refused(proxy):
    assert asked(proxy, "/answer", name="evil.example.com", **{"X-API-Key": KEY})[0] == 403


def test_a_body_beyond_the_limit_is_refused_by_the_proxy(proxy):
    headers = {"X-API-Key": KEY, "Content-Length": str(33 * 2**20)}
    assert asked(proxy, "/answer", body=iter([b"a"]), **headers)[0] == 413


def test_who_asks_too_often_is_told_so_and_no_key_is_in_a_log(proxy):
    found = [asked(proxy, f"/answer?key={KEY}", **{"X-API-Key": KEY})[0] for _ in range(20)]
    assert found[0] == 200
    assert 429 in found
    time.sleep(0.1)
    assert all(KEY not in path.read_text() for path in proxy.folder.glob("*.log"))
    assert "POST /answer" in (proxy.folder / "answers.log").read_text()


def test_nothing_goes_in_the_clear_or_by_an_old_protocol(proxy):
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.plain}/answer", data=b"a", timeout=30)
    refused.value.close()
    assert re.search(r"^ssl_protocols TLSv1.2 TLSv1.3;$", EXAMPLE.read_text(), re.MULTILINE)
