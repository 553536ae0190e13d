"""Lightning's logger, bound to a run that the tracker owns: it opens none, closes none, and renames nothing."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from reliabit.tracking.tracker import TrackedRun

COUNTERS = ("epoch",)
"""What Lightning adds to every call."""


class RunLogger(Logger):  # type: ignore[misc]
    """Writes what a training logs into an open run, whatever store holds that."""

    def __init__(self, run: TrackedRun, *, prefix: str) -> None:
        """Bind a logger to a run.

        Args:
            run: The run.
            prefix: What comes before the names of metrics, such as `training/selector`.
        """
        super().__init__()
        self.run = run
        self.prefix = prefix

    @property
    def name(self) -> str:
        """What is trained."""
        return self.prefix

    @property
    def version(self) -> str:
        """The run."""
        return self.run.run_id

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of a step."""
        found = {f"{self.prefix}/{name}": value for name, value in metrics.items() if name not in COUNTERS}
        self.run.log_metrics(found, step=step or 0)

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run has its whole configuration."""
