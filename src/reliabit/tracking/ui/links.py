"""Where runs are seen: every address of the MLflow UI that is printed, or that a description holds.

MLflow 3.17 opens an experiment as traces of a GenAI application, whatever the tag of its kind says, unless the address
itself says that models are trained there. So each address does.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote, urlsplit, urlunsplit

from reliabit.paths import project_root
from reliabit.tracking.redaction import redact
from reliabit.tracking.settings import JOURNAL, TrackingConfig

UI = "http://127.0.0.1:5000"
"""Where `make ui` shows the runs of the project's own store."""

TRAINING = "workflowType=machine_learning"
"""What makes a page of MLflow's one of runs and models, and not of traces."""

CELLS_VIEW = "cells"
"""The saved view of an experiment's cells."""


def run_link(tracking: TrackingConfig, *, experiment_id: str, run_id: str) -> str:
    """The page of a run in the MLflow UI; of a journal, which has no pages, the id of the run.

    >>> run_link(TrackingConfig(uri="https://me:secret@mlflow.example/"), experiment_id="1", run_id="a")
    'https://mlflow.example/#/experiments/1/runs/a?workflowType=machine_learning'
    """
    where = _ui(tracking)
    return f"{where}{run_page(experiment_id, run_id)}" if where else run_id


def runs_link(tracking: TrackingConfig, *, experiment_id: str) -> str:
    """The list of an experiment's cells with the headline numbers; empty for a journal, which has no pages."""
    where = _ui(tracking)
    return f"{where}{view_page(experiment_id, CELLS_VIEW)}" if where else ""


def compare_link(tracking: TrackingConfig, *, experiment_id: str, sweep: str) -> str:
    """The cells of a sweep side by side, as charts; empty for a journal, which has no pages."""
    where = _ui(tracking)
    return f"{where}{view_page(experiment_id, sweep_view(sweep), charts=True)}" if where else ""


def ui_hint(tracking: TrackingConfig) -> str:
    """The command after which a link opens; empty where a server is up already, or there is no page to open.

    >>> ui_hint(TrackingConfig(uri="https://mlflow.example"))
    ''
    """
    if tracking.uri.startswith(("http://", "https://", JOURNAL)):
        return ""
    own = f"sqlite:///{project_root() / 'mlruns' / 'mlflow.db'}"
    return "make ui" if tracking.uri == own else f"mlflow ui --backend-store-uri {redact(tracking.uri)}"


def run_page(experiment_id: str, run_id: str) -> str:
    """A run's page, relative to the UI's address."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def artifact_page(experiment_id: str, run_id: str, artifact: str) -> str:
    """The page of a run that shows an artifact, relative to the UI's address."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}/artifacts/{quote(artifact)}?{TRAINING}"


def view_page(experiment_id: str, view: str, *, charts: bool = False) -> str:
    """A saved view of an experiment's runs, as a table or as charts, relative to the UI's address."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"/#/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={view}{mode}"


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    """MLflow's own page that compares runs key by key, relative to the UI's address."""
    runs, experiments = (quote(json.dumps(found)) for found in ([*run_ids], [experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{TRAINING}"


def sweep_view(sweep: str) -> str:
    """The key of the saved view of a sweep's cells."""
    return f"sweep-{sweep}"


def _ui(tracking: TrackingConfig) -> str:
    """The UI's address without a slash at its end, and without who asks."""
    if tracking.uri.startswith(JOURNAL):
        return ""
    if not tracking.uri.startswith(("http://", "https://")):
        return UI
    parts = urlsplit(tracking.uri)
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")))
