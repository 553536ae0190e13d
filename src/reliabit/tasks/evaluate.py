"""`task=evaluate`: metrics, certificates and figures, a pure function of predictions tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reliabit.config import Config
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.figures import report_figures, write_figures
from reliabit.evaluation.report import build_report
from reliabit.files import replacing, sha256, write_manifest
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.metrics.definitions import AURC
from reliabit.progress import step
from reliabit.tasks._results import tell_report
from reliabit.terminal import show_markdown
from reliabit.tracking.settings import TrackingConfig

RUN = "runs:/"


def evaluate(config: Config) -> float:
    """Write the report of a predictions table, and its comparison with another one; returns its AURC."""
    place = config.task.place("predictions")
    with located(place, config.tracking) as path:
        table, digest = read_predictions(path), sha256(path)
    output = config.paths.output_folder()
    with step("measuring, with intervals", shown=config.trainer.progress_bar):
        report = build_report(table, config.evaluation)
    title = place.split("/")[-1]
    with step("drawing figures", shown=config.trainer.progress_bar):
        drawn = report_figures(table, report, split=config.evaluation.reported, title=title)
        write_manifest(output, [*report.write(output), *write_figures(drawn, output)], predictions=digest)
    if config.task.baseline is not None:
        with (
            step("comparing with the baseline", shown=config.trainer.progress_bar),
            located(config.task.baseline, config.tracking) as path,
        ):
            tables = {"this": table, "baseline": read_predictions(path)}
            comparison = compare(tables, config.evaluation, baseline="baseline").markdown()
        with replacing(output / "comparison.md") as unfinished:
            unfinished.write_text(comparison)
        show_markdown(comparison)
    tell_report(config, report.recorded(), place=place)
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
