"""`tracking=server`: a sweep against a real MLflow server on a real PostgreSQL, and no credential on record."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tracking.servers import mlflow_server, postgres

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
SMALL = ["data.ask={val: 10, cal: 20, test: 20}", "evaluation.resamples=20", "confidence=maxprob"]
DATABASE_PASSWORD, URI_PASSWORD, PASSWORD = "d4tabase-s3cret", "ur1-s3cret/with-slash", "env1ronment-s3cret"


@pytest.fixture(scope="module")
def database():
    with postgres(DATABASE_PASSWORD) as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database, folder):
    with mlflow_server(database, folder=folder) as address:
        yield address


def sweep(server: str, folder: Path, *, output: str = "sweep") -> subprocess.CompletedProcess[str]:
    quoted = URI_PASSWORD.replace("/", "%2F")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        "MLFLOW_TRACKING_URI": server.replace("http://", f"http://me:{quoted}@"),
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    placed = [
        f"hydra.sweep.dir={folder}/{output}",
        f"paths.data={folder}/data",
        f"paths.cache={folder}/cache",
        "trainer.progress_bar=false",
        "trainer.threads=1",
    ]
    command = [sys.executable, "src/run.py", "-m", "tracking=server", "quant.bits=2,4", *SMALL, *placed]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, check=False)


@pytest.fixture(scope="module")
def swept(server, folder):
    done = sweep(server, folder)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def runs(swept, server):
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("reliabit")
    return client.search_runs([experiment.experiment_id])


def test_the_sweep_and_its_cells_are_rows_of_the_database(swept, runs, database):
    import psycopg

    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT run_uuid, status FROM runs").fetchall()
    assert sorted(rows) == sorted((run.info.run_id, "FINISHED") for run in runs)
    (parent,) = (run for run in runs if run.data.tags["kind"] == "sweep")
    cells = [run for run in runs if run.data.tags["kind"] == "cell"]
    assert sorted(run.data.tags["bits"] for run in cells) == ["16", "2", "4"]
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}
    assert all(run.data.metrics["accuracy/questions"] > 0 for run in cells)


def test_artifacts_go_through_the_server_and_come_back_as_they_were(runs, server, folder):
    client = MlflowClient(tracking_uri=server)
    written = {digest(path) for path in (folder / "sweep").rglob("predictions.parquet")}
    assert len(written) == 3
    fetched = set()
    for run in runs:
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        if run.data.tags["kind"] == "cell":
            fetched.add(digest(Path(client.download_artifacts(run.info.run_id, "predictions.parquet"))))
    assert fetched == written
    served = {digest(path) for path in (folder / "served").rglob("predictions.parquet")}
    assert served == written


def test_no_credential_is_on_record_or_in_what_was_printed(swept, runs, server, folder, database):
    import psycopg

    secrets = [DATABASE_PASSWORD, PASSWORD, URI_PASSWORD, URI_PASSWORD.replace("/", "%2F")]
    with psycopg.connect(database) as connection:
        for table in ("params", "tags", "experiment_tags", "runs", "experiments", "inputs", "datasets", "input_tags"):
            text = "\n".join(str(row) for row in connection.execute(f'SELECT * FROM "{table}"'))
            assert not [secret for secret in secrets if secret in text], table
        recorded = connection.execute("SELECT value FROM params WHERE key = 'tracking.uri'").fetchall()
    assert {uri for (uri,) in recorded} == {server.replace("http://", "http://[redacted]@")}
    for path in [*(folder / "served").rglob("*"), *(folder / "sweep").rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
    assert not [secret for secret in secrets if secret in swept.stdout + swept.stderr]


def test_a_finished_sweep_is_not_repeated(swept, runs, server, folder):
    done = sweep(server, folder, output="again")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished already") == 3
    client = MlflowClient(tracking_uri=server)
    after = client.search_runs([run.info.experiment_id for run in runs[:1]])
    # The new sweep's own run alone.
    assert len(after) == len(runs) + 1


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
