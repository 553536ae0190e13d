"""`task=evaluate`: metrics, certificates and figures, a pure function of predictions tables."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reliabit.config import Config
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.figures import report_figures
from reliabit.evaluation.report import build_report
from reliabit.files import replacing, sha256, write_manifest
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.metrics.definitions import AURC
from reliabit.tracking.settings import TrackingConfig

RUN = "runs:/"


def evaluate(config: Config) -> float:
    """Write the report of a predictions table, and its comparison with another one; returns its AURC."""
    place = config.task.place("predictions")
    with located(place, config.tracking) as path:
        table, digest = read_predictions(path), sha256(path)
    output = config.paths.output_folder()
    report = build_report(table, config.evaluation)
    title = place.split("/")[-1]
    settings, confidence = config.evaluation, config.registry.confidence
    drawn = report_figures(table, report, split=settings.reported, title=title, confidence=confidence)
    write_manifest(output, [*report.write(output), *write_figures(drawn, output)], predictions=digest)
    for name, interval in sorted(report.intervals.items()):
        sys.stdout.write(f"{name} = {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]\n")
    if config.task.baseline is not None:
        with located(config.task.baseline, config.tracking) as path:
            tables = {"this": table, "baseline": read_predictions(path)}
        comparison = compare(tables, config.evaluation, baseline="baseline").markdown()
        with replacing(output / "comparison.md") as unfinished:
            unfinished.write_text(comparison)
        sys.stdout.write(comparison)
    return report.metrics[AURC.name]


@contextmanager
def located(place: str, tracking: TrackingConfig) -> Iterator[Path]:
    """A predictions table as a file: the one that is named, or that of a run, for as long as a block runs.

    Raises:
        DamagedError: It is not the one that the run recorded.
        ReliabitError: There is no such run, or it has none.
    """
    if not place.startswith(RUN):
        yield Path(place)
        return
    from reliabit.tracking.tracker import open_tracker

    tracker = open_tracker(tracking)
    with TemporaryDirectory() as folder:
        yield tracker.fetch(place.removeprefix(RUN), PREDICTIONS, Path(folder))
