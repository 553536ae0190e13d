"""An MLflow server that knows who asks, as docs/security.md sets it up: nobody reads without a password."""

import base64
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from messages import CANNOT_BE_OPENED
from reliabit.errors import ReliabitError
from reliabit.tracking.tracker import Tracker
from tracking.servers import started

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
PASSWORDS = {"admin": "correct-horse-admin", "ann": "correct-horse-ann", "bob": "correct-horse-bob"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("flask_wtf", reason="the extra mlflow[auth] is not installed")
    folder = tmp_path_factory.mktemp("login")
    settings = re.search(r"^    \[mlflow\]\n(?:    .+\n)+", PAGE.read_text(), re.MULTILINE)[0]
    users = f"sqlite:///{folder}/users.db"
    settings = re.sub("^    ", "", settings, flags=re.MULTILINE).replace("sqlite:////srv/mlflow/users.db", users)
    assert users in settings
    (folder / "auth.ini").write_text(settings)
    served = ("--app-name", "basic-auth", "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"))
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789abcdef",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
    }
    with started("server", *served, folder=folder, **variables) as address:
        for name in ("ann", "bob"):
            made = {"username": name, "password": PASSWORDS[name]}
            assert asked(f"{address}/api/2.0/mlflow/users/create", "admin", body=made) == 200
        yield address


@pytest.fixture
def act_as(monkeypatch):
    def act(name, password=None):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password or PASSWORDS[name])

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return act


def asked(address, name=None, *, body=None):
    """The status of a request."""
    request = urllib.request.Request(address, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if name is not None:
        pair = base64.b64encode(f"{name}:{PASSWORDS[name]}".encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def recorded(server, name):
    tracker = Tracker(uri=server, artifacts="", experiment=f"of-{name}")
    with tracker.run("cell", tags={}) as run:
        run.log_metrics({"accuracy": 0.5})
        run.log_text("hello", "note.txt")
    return tracker, run.run_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/2.0/mlflow/experiments/search", {"max_results": 1}),
        ("/api/2.0/mlflow/runs/search", {"experiment_ids": ["0", "1"]}),
        ("/api/2.0/mlflow/runs/create", {"experiment_id": "0"}),
        ("/api/2.0/mlflow/registered-models/search", None),
        ("/api/2.0/mlflow-artifacts/artifacts", None),
        ("/graphql", {"query": '{ mlflowSearchRuns(input: {experimentIds: ["0"]}) { runs { info { runId } } } }'}),
    ],
)
def test_without_a_password_nothing_is_read_or_written(server, path, body):
    assert asked(f"{server}{path}", body=body) == 401


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", "correct-horse-ann")])
def test_a_wrong_password_is_told_in_one_sentence(server, act_as, name, password):
    act_as(name, password)
    with pytest.raises(ReliabitError, match=CANNOT_BE_OPENED) as told:
        Tracker(uri=server, artifacts="", experiment="x")
    assert "401" in str(told.value)
    assert "\n" not in str(told.value)
    assert password not in str(told.value)


def test_what_one_user_records_no_other_reads(server, act_as, tmp_path):
    act_as("ann")
    tracker, run_id = recorded(server, "ann")
    assert tracker.fetch(run_id, "note.txt", tmp_path / "ann").read_text() == "hello"
    assert tracker.client.get_run(run_id).data.metrics["accuracy"] == 0.5
    act_as("bob")
    for path in (f"runs/get?run_id={run_id}", f"experiments/get?experiment_id={tracker.experiment_id}"):
        assert asked(f"{server}/api/2.0/mlflow/{path}", "bob") == 403
    kept = f"{tracker.experiment_id}/{run_id}/artifacts/note.txt"
    assert asked(f"{server}/api/2.0/mlflow-artifacts/artifacts/{kept}", "ann") == 200
    assert asked(f"{server}/api/2.0/mlflow-artifacts/artifacts/{kept}", "bob") == 403
