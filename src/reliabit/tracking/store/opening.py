"""Opening a tracking store: its database and experiment are made once, under a lock, before anyone writes."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.process import rare_collections
from reliabit.tracking.redaction import redact
from reliabit.tracking.settings import JOURNAL
from reliabit.tracking.store._failures import deleted, guarded, sentence
from reliabit.tracking.store.calls import store_errors
from reliabit.tracking.store.outages import AGAIN_SECONDS, SERVERS, ask_often
from reliabit.tracking.store.sqlite import SQLITE, SqliteClient, can_read

if TYPE_CHECKING:
    from mlflow import MlflowClient

NO_REGISTRY = "tracking=offline has no registry; use tracking=sqlite or tracking=server"

ANSWER_SECONDS = 10.0
"""So long a server may take to answer at all. MLflow itself asks an address where nobody listens for minutes."""


def check_address(uri: str) -> None:
    """Check that an address names a database, a server or a journal.

    Raises:
        ReliabitError: It is a plain folder.

    >>> check_address("sqlite:///mlruns/mlflow.db")
    """
    if "://" not in uri or uri.startswith("file:"):
        raise ReliabitError(f"tracking.uri={uri} is a plain folder, which MLflow 3 refuses; use sqlite:///<file>")


def check_registry(uri: str) -> None:
    """Check that an address may have a registry beside its runs.

    Raises:
        ReliabitError: Runs go to a journal, which has none, or it is a plain folder.
    """
    check_address(uri)
    if uri.startswith(JOURNAL):
        raise ReliabitError(NO_REGISTRY)


@contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    """Let one process at a time create a sqlite store; servers see to this themselves.

    Of six processes that open a fresh database at once without a lock, five fail while creating its tables.
    """
    from filelock import FileLock

    if not uri.startswith(SQLITE):
        yield
        return
    database = Path(uri.removeprefix(SQLITE))
    lock = FileLock(database.with_suffix(".lock"))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ReliabitError(
            f"the tracking database {database} cannot be written ({error.strerror}); make its folder writable or "
            "set tracking.uri"
        ) from error
    try:
        yield
    finally:
        lock.release()


def open_store(*, uri: str, artifacts: str, experiment: str, patience: float = 0.0) -> "tuple[MlflowClient, str]":
    """Open the tracking store, and make the database and the experiment where they are missing.

    Args:
        uri: The tracking URI, `sqlite:///...` or a server's address.
        artifacts: Where a new experiment on a sqlite store keeps its artifacts; a server decides by itself.
        experiment: The experiment's name.
        patience: Seconds to wait for a server that does not answer.

    Returns:
        A client, and the id of the experiment.

    Raises:
        ReliabitError: The store is of a kind that MLflow no longer writes, cannot be reached, is locked, read-only or
            full, or is of another version than MLflow; the client's calls raise it as well.
    """
    check_address(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It logs what it raises as well, with its traceback.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if redact(uri) != uri:
        # MLflow prints the address of every run that ends, user and password included.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from reliabit.tracking.ui.views import mark_experiment

    # A store imports its tables when it is first asked.
    with _store_lock(uri), rare_collections():
        try:
            _create_database(uri)
            _check_server(uri, patience=patience)
            client = guarded(_client(uri), uri=uri)
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "deleted":
                told = deleted("experiment", found.experiment_id)
                raise ReliabitError(redact(f"the tracking store {uri} {told}"))
            experiment_id = found.experiment_id if found is not None else _create(client, uri, artifacts, experiment)
            mark_experiment(client, experiment_id, known=found)
            return client, experiment_id
        except ReliabitError:
            raise
        except store_errors(OSError) as error:
            reason = " ".join(str(error).split())
            told = sentence(error, uri=uri) or redact(f"the tracking store {uri} cannot be opened: {reason}")
            raise ReliabitError(told) from error


def _client(uri: str) -> "MlflowClient":
    """MLflow's client; where the store can be read without MLflow, what takes its place."""
    if can_read(uri):
        return cast("MlflowClient", SqliteClient(uri))
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _create(client: "MlflowClient", uri: str, artifacts: str, experiment: str) -> str:
    """Make an experiment; on a sqlite store with a place for its artifacts, which a server decides by itself."""
    if not uri.startswith(SQLITE):
        return str(client.create_experiment(experiment))
    location = Path(artifacts).resolve()
    location.mkdir(parents=True, exist_ok=True)
    return str(client.create_experiment(experiment, artifact_location=location.as_uri()))


def _create_database(uri: str) -> None:
    """Make a sqlite database that is not there yet under another name, and rename it once it has all its tables.

    A process that is killed while it creates tables would leave a database that nothing can open.
    """
    database = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or database.exists():
        return
    from mlflow import MlflowClient

    with replacing(database) as unfinished:
        MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)


def _check_server(uri: str, *, patience: float) -> None:
    """Find out at once whether anybody listens at a server's address; what it answers does not matter."""
    import requests

    if not uri.startswith(SERVERS):
        return
    ask_often()
    until = time.monotonic() + patience
    while True:
        try:
            requests.get(uri, timeout=ANSWER_SECONDS, stream=True).close()
            return
        except requests.exceptions.SSLError:
            # Somebody answers; MLflow may know the certificate, or be told not to ask for one.
            return
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            if time.monotonic() > until:
                raise ReliabitError(
                    redact(
                        f"no tracking server answers at {uri}; start one (mlflow server), or set MLFLOW_TRACKING_URI"
                    )
                ) from error
        time.sleep(AGAIN_SECONDS)
