"""The predictions of recorded runs, fetched once each, however often they are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow.entities import Run


@dataclass(frozen=True)
class RecordedPredictions:
    """The predictions of runs.

    Attributes:
        tracker: Where they are recorded.
        folder: Where they are kept meanwhile.
    """

    tracker: Tracker
    folder: Path

    def read(self, run: "Run") -> "pa.Table":
        """The predictions table of a run.

        Raises:
            ReliabitError: It has none.
        """
        fetched = self.folder / run.info.run_id
        if not (fetched / PREDICTIONS).is_file():
            self.tracker.fetch(run.info.run_id, PREDICTIONS, fetched)
        return read_predictions(fetched / PREDICTIONS)


@contextmanager
def recorded_predictions(tracker: Tracker) -> Iterator[RecordedPredictions]:
    """The predictions of a store's runs, kept for as long as a block runs."""
    with TemporaryDirectory() as folder:
        yield RecordedPredictions(tracker=tracker, folder=Path(folder))
