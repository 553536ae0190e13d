"""The tracker: the only code that writes runs. A run that it opens always ends, as finished or as failed."""

import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.tracking.store import open_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARAMETERS_A_CALL = 100
METRICS_A_CALL = 1000
PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class TrackedRun:
    """An open run.

    Attributes:
        client: The client of the store that holds it.
        run_id: The run.
    """

    client: "MlflowClient"
    run_id: str

    def log_parameters(self, config: Mapping[str, Any]) -> None:
        """Record a nested configuration as parameters, `quant.bits` and so on."""
        from mlflow.entities import Param

        parameters = [Param(key, str(value)) for key, value in flatten(config).items()]
        for start in range(0, len(parameters), PARAMETERS_A_CALL):
            self.client.log_batch(self.run_id, params=parameters[start : start + PARAMETERS_A_CALL])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record metrics in few calls; an infinite one, which MLflow would store as a huge number, as not a number."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value if math.isfinite(value) else math.nan for name, value in metrics.items()}
        found = [Metric(name, value, now, 0) for name, value in finite.items()]
        for start in range(0, len(found), METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=found[start : start + METRICS_A_CALL])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Record a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def log_text(self, text: str, name: str) -> None:
        """Record a text as an artifact of that name."""
        self.client.log_text(self.run_id, text, name)

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Record a figure as an artifact of that name."""
        self.client.log_figure(self.run_id, figure, name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)


class Tracker:
    """A tracking store and one experiment in it."""

    def __init__(self, *, uri: str, artifacts: str, experiment: str) -> None:
        """Open the store; see `open_store`."""
        self.client, self.experiment_id = open_store(uri=uri, artifacts=artifacts, experiment=experiment)

    def start(self, name: str, *, tags: Mapping[str, str], parent: str | None = None) -> TrackedRun:
        """Open a run.

        Args:
            name: The run's name.
            tags: Its tags.
            parent: The run it belongs to.
        """
        own = {PARENT_TAG: parent} if parent else {}
        run = self.client.create_run(self.experiment_id, run_name=name, tags={**tags, **own})
        return TrackedRun(client=self.client, run_id=run.info.run_id)

    @contextmanager
    def run(self, name: str, *, tags: Mapping[str, str], parent: str | None = None) -> Iterator[TrackedRun]:
        """Open a run for as long as a block runs; an exception makes it a failed one, with its reason on it."""
        run = self.start(name, tags=tags, parent=parent)
        try:
            yield run
        except BaseException as error:
            run.set_tags({"failure.type": type(error).__name__, "failure.reason": str(error)[:500]})
            if not isinstance(error, ReliabitError):
                run.log_text(traceback.format_exc(), "traceback.txt")
            self.client.set_terminated(run.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.client.set_terminated(run.run_id, "FINISHED")

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Download an artifact of a run into a folder.

        Raises:
            ReliabitError: There is no such run, or it has no such artifact.
        """
        from mlflow.exceptions import MlflowException

        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self.client.download_artifacts(run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            raise ReliabitError(f"the run {run_id} has no {name} to read; was it finished?") from error

    def children(self, parent: str) -> "list[Run]":
        """The runs that belong to a run, oldest first."""
        found = self.client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`{PARENT_TAG}` = '{parent}'",
            order_by=["attributes.start_time ASC"],
            max_results=5000,
        )
        return list(found)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into dotted keys.

    >>> flatten({"quant": {"bits": 4}, "seed": 0})
    {'quant.bits': 4, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parent_file(sweep_folder: Path) -> Path:
    """Where a sweep leaves word of its parent run for its cells."""
    return sweep_folder / "mlflow_parent.json"


def write_parent(path: Path, run_id: str) -> None:
    """Leave word of a sweep's parent run."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({"run_id": run_id}))


def read_parent(path: str | None) -> str | None:
    """The parent run of the sweep that a cell belongs to, or `None` outside a sweep."""
    if path is None or not Path(path).is_file():
        return None
    return str(json.loads(Path(path).read_text())["run_id"])
