"""Where a run is seen: the addresses that are printed."""

from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.store.opening import JOURNAL, SQLITE

UI = "http://127.0.0.1:5000"
"""Where `make ui` shows the runs of the project's own store."""


def run_link(tracking: TrackingConfig, *, experiment_id: str, run_id: str) -> str:
    """The page of a run in the MLflow UI; of a journal, which has no pages, the id of the run.

    >>> run_link(TrackingConfig(uri="https://mlflow.example/"), experiment_id="1", run_id="a")
    'https://mlflow.example/#/experiments/1/runs/a'
    """
    if tracking.uri.startswith(JOURNAL):
        return run_id
    where = UI if tracking.uri.startswith(SQLITE) else tracking.uri.rstrip("/")
    return f"{where}/#/experiments/{experiment_id}/runs/{run_id}"
