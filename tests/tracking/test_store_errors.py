"""A store that is locked, read-only, full, of another version or absent: one sentence each, and no status 0."""

import errno
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from disks import mounted
from messages import CANNOT_BE_OPENED, NO_SPACE
from reliabit.errors import ReliabitError
from reliabit.tracking.store.opening import open_store
from tracking.stores import runs_of, store_at, tracker_at

PROJECT = Path(__file__).parents[2]

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store that was opened once."""
    folder = tmp_path_factory.mktemp("made")
    tracker_at(folder)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of that store for one test to break."""
    (tmp_path / "mlruns").mkdir()
    shutil.copyfile(made / "mlruns" / "mlflow.db", tmp_path / "mlruns" / "mlflow.db")
    return tmp_path


@contextmanager
def held(database: Path):
    """Another process that holds a database for itself."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.communicate("")


@contextmanager
def read_only(database: Path):
    if os.geteuid():
        database.chmod(0o444)
        yield
        return
    # Permissions mean nothing to root, a read-only mount does.
    with mounted("--bind", str(database), at=database):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(database)], check=True)
        yield


def database_of(folder: Path) -> Path:
    return folder / "mlruns" / "mlflow.db"


def set_schema(folder: Path, revision: str) -> None:
    connection = sqlite3.connect(database_of(folder))
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    connection.close()


def test_a_locked_database_is_named(place):
    with held(database_of(place)), pytest.raises(ReliabitError) as refused:
        tracker_at(place)
    assert str(refused.value) == (
        f"the tracking store sqlite:///{place}/mlruns/mlflow.db is locked by another process; end what holds it (an "
        "open sqlite shell, a backup) and run again"
    )
    with tracker_at(place).run("afterwards", tags={}):
        pass


def test_a_locked_database_ends_a_command_in_one_line(place):
    store = [f"tracking.uri=sqlite:///{database_of(place)}", f"tracking.artifacts={place}", "tracking.experiment=test"]
    command = [sys.executable, "src/run.py", "task=evaluate", "task.predictions=runs:/x", f"hydra.run.dir={place}/run"]
    with held(database_of(place)):
        done = subprocess.run([*command, *store], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the tracking store sqlite:///")
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_read_only_database_is_named_by_the_first_run(place):
    message = "cannot be written, it is read-only; make it writable or set tracking.uri"
    with read_only(database_of(place)), pytest.raises(ReliabitError, match=message):
        tracker_at(place).start("x", tags={})


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (
            "ffffffffffff",
            r"newer MLflow than the [\d.]+ installed here \(schema ffffffffffff is unknown to it\); install",
        ),
        # A schema of MLflow 1.
        ("451aebb31d03", r"older MLflow; copy it away, then run: mlflow db upgrade sqlite:///"),
    ],
)
def test_a_schema_of_another_version_is_told_from_an_older_one(place, revision, message):
    set_schema(place, revision)
    with pytest.raises(ReliabitError, match=message) as refused:
        tracker_at(place)
    assert "\n" not in str(refused.value)


def test_a_full_disk_fails_the_run_whose_artifact_does_not_fit(tmp_path):
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(8 << 20))
    artifacts = tmp_path / "mlruns" / "artifacts"
    artifacts.mkdir(parents=True)
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", at=artifacts):
        tracker = tracker_at(tmp_path)
        full = pytest.raises(ReliabitError, match=f"{NO_SPACE} on its disk; make room there")
        with full, tracker.run("big", tags={}) as run:
            run.log_file(big)
        with tracker.run("small", tags={}) as run:
            run.log_metrics({"x": 1.0})
        assert [run.info.status for run in runs_of(tracker)] == ["FAILED", "FINISHED"]
        (failed, _) = runs_of(tracker)
        assert failed.data.tags["failure.reason"].startswith("the tracking store")


def test_a_full_disk_under_the_database_is_named(tmp_path):
    mlruns = tmp_path / "mlruns"
    mlruns.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=mlruns):
        tracker = tracker_at(tmp_path)
        with pytest.raises(ReliabitError, match=f"{NO_SPACE} on its disk"), tracker.run("x", tags={}) as run:
            log_on_a_full_disk(run, filler=mlruns / "filler")


def test_a_full_disk_does_not_hide_the_error_that_came_first(tmp_path):
    mlruns = tmp_path / "mlruns"
    mlruns.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=mlruns):
        tracker = tracker_at(tmp_path)
        with pytest.raises(ZeroDivisionError), tracker.run("y", tags={}):
            break_on_a_full_disk(filler=mlruns / "filler")
        (mlruns / "filler").unlink()
        # Nothing could be written about its end; `reliabit reap` closes it once its process is gone.
        assert [run.info.status for run in runs_of(tracker)] == ["RUNNING"]


def log_on_a_full_disk(run, *, filler: Path) -> None:
    fill(filler)
    run.log_parameters({f"key{number}": "x" * 5000 for number in range(200)})


def break_on_a_full_disk(*, filler: Path) -> None:
    fill(filler)
    _ = 1 / 0


def fill(path: Path) -> None:
    """Take all the space there is."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills_up_while_an_artifact_is_copied_needs_no_mount(place, monkeypatch):
    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tracker = tracker_at(place)
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(ReliabitError, match="no space left"), tracker.run("x", tags={}) as run:
        run.log_text("hello", "note.txt")
    assert [run.info.status for run in runs_of(tracker)] == ["FAILED"]


def test_an_unknown_error_of_the_store_keeps_its_kind(place):
    from mlflow.exceptions import MlflowException

    tracker = tracker_at(place)
    with pytest.raises(MlflowException, match="not found"):
        tracker.client.set_tag("nobody", "a", "b")


def test_an_address_where_no_server_listens_is_refused_at_once_without_its_password():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ReliabitError) as refused:
        open_store(uri=f"http://me:hunter2@127.0.0.1:{port}", artifacts="", experiment="x")
    assert str(refused.value) == (
        f"no tracking server answers at http://[redacted]@127.0.0.1:{port}; start one (mlflow server), "
        "or set MLFLOW_TRACKING_URI"
    )


def test_a_database_that_cannot_be_reached_is_told_without_its_password(monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    uri = "postgresql://me:hunter2@127.0.0.1:1/runs"
    with pytest.raises(ReliabitError, match=CANNOT_BE_OPENED) as refused:
        open_store(**{**store_at(Path("unused")), "uri": uri})
    assert "hunter2" not in str(refused.value)


def test_the_password_of_an_address_is_on_no_run_whichever_way_it_gets_there(tmp_path):
    uri = "https://me:hunter2@tracking.example"
    tracker = tracker_at(tmp_path)
    with tracker.run("x", tags={"command": f"tracking.uri={uri}"}) as run:
        run.log_parameters({"tracking": {"uri": uri}})
        run.log_text(f"uri: {uri}", "config.yaml")
    with pytest.raises(ConnectionError), tracker.run("y", tags={}):
        raise ConnectionError(f"{uri} does not answer")
    assert len(runs_of(tracker)) == 2
    written = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    assert {"config.yaml", "traceback.txt", "mlflow.db"} <= {path.name for path in written}
    assert not [path for path in written if b"hunter2" in path.read_bytes()]


def test_no_run_s_address_is_printed_where_it_holds_a_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")
    with pytest.raises(ReliabitError, match="no tracking server answers"):
        open_store(uri="http://me:hunter2@127.0.0.1:1", artifacts="", experiment="x")
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
