"""`task=evaluate`: metrics, certificates and figures, a pure function of predictions tables."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.config import Config, TrackingConfig
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.report import build_report
from reliabit.files import replacing
from reliabit.inference.predictions import PREDICTIONS, read_predictions

if TYPE_CHECKING:
    import pyarrow as pa

RUN = "runs:/"


def evaluate(config: Config) -> float:
    """Write the report of a predictions table, and its comparison with another one; returns its AURC."""
    place = config.task.place("predictions")
    table = read(place, config.tracking)
    output = config.paths.output_folder()
    report = build_report(table, config.evaluation, title=place.split("/")[-1])
    report.write(output)
    for name, interval in sorted(report.intervals.items()):
        sys.stdout.write(f"{name} = {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]\n")
    if config.task.baseline is not None:
        tables = {"this": table, "baseline": read(config.task.baseline, config.tracking)}
        comparison = compare(tables, config.evaluation, baseline="baseline").markdown()
        with replacing(output / "comparison.md") as unfinished:
            unfinished.write_text(comparison)
        sys.stdout.write(comparison)
    return report.metrics["selective/aurc"]


def read(place: str, tracking: TrackingConfig) -> "pa.Table":
    """Read a predictions table from a file, or from the run that recorded it."""
    if not place.startswith(RUN):
        return read_predictions(Path(place))
    from reliabit.tracking.opening import open_tracker

    tracker = open_tracker(tracking)
    with TemporaryDirectory() as folder:
        return read_predictions(tracker.fetch(place.removeprefix(RUN), PREDICTIONS, Path(folder)))
