"""A folder of its own for everything that a run in a process of its own writes."""

import subprocess
from pathlib import Path

from mlflow import MlflowClient

from launching import run_job


class Place:
    """A folder of its own for everything that a run writes; a sweep ends with a report where that is looked at."""

    def __init__(self, folder: Path, *, report: str = "none") -> None:
        self.folder = folder
        self.report = report
        self.output = folder / "unused"
        self._placed = 0
        self.uri = f"sqlite:///{folder}/mlruns/mlflow.db"

    def placed(self) -> list[str]:
        """The overrides that keep a run within the folder; what it writes itself goes to `output`, a new one each."""
        self._placed += 1
        self.output = self.folder / f"output-{self._placed}"
        return [
            f"hydra.run.dir={self.output}",
            f"hydra.sweep.dir={self.output}",
            f"paths.data={self.folder}/data",
            f"paths.cache={self.folder}/cache",
            f"tracking.uri={self.uri}",
            f"tracking.artifacts={self.folder}/mlruns/artifacts",
            f"sweep.report={self.report}",
            "trainer.progress_bar=false",
        ]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_job(*arguments, *self.placed())

    def has_store(self) -> bool:
        return (self.folder / "mlruns" / "mlflow.db").is_file()

    def runs(self, kind: str):
        if not self.has_store():
            return []
        client = MlflowClient(tracking_uri=self.uri)
        experiment = client.get_experiment_by_name("reliabit")
        if experiment is None:
            return []
        return client.search_runs([experiment.experiment_id], filter_string=f"tags.kind = '{kind}'")
