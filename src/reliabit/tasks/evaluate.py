"""`task=evaluate`: metrics, certificates and figures, a pure function of predictions tables."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from reliabit.config import Config
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.figures import report_figures
from reliabit.evaluation.headline import headline_numbers
from reliabit.evaluation.report import Report, build_report
from reliabit.evaluation.settings import ParetoSettings
from reliabit.files import replacing, sha256, write_manifest
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.metrics.definitions import AURC
from reliabit.progress import step
from reliabit.tasks._results import tell_report
from reliabit.terminal import show_markdown
from reliabit.tracking.settings import TrackingConfig

RUN, HEADLINE = "runs:/", "headline.json"


def evaluate(config: Config) -> float:
    """Write the report of a predictions table, and its comparison with another one; returns its AURC."""
    place = config.task.place("predictions")
    with located(place, config.tracking) as path:
        table, digest = read_predictions(path), sha256(path)
    output = config.paths.output_folder()
    with step("measuring, with intervals", shown=config.trainer.progress_bar):
        report = build_report(table, config.evaluation)
    settings, policy = config.evaluation, config.registry
    with step("drawing figures", shown=config.trainer.progress_bar):
        drawn = report_figures(
            table, report, split=settings.reported, title=_title(place), confidence=policy.confidence
        )
        written = [*report.write(output), _write_headline(report, policy, output), *write_figures(drawn, output)]
        write_manifest(output, written, predictions=digest)
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


def _title(place: str) -> str:
    """What the figures call it: the run, or the folder of the cell."""
    folders = [name for name in Path(place).parts[:-1] if name not in ("answers", "selected")]
    return place.removeprefix(RUN) if place.startswith(RUN) or not folders else folders[-1]


def _write_headline(report: Report, policy: ParetoSettings, folder: Path) -> Path:
    """Write the headline numbers as tables show them: few enough for a line of `dvc metrics show`."""
    recorded = {name: value for name, value in report.recorded().items() if isfinite(value)}
    found = headline_numbers(recorded, confidence=policy.confidence, required_risk=policy.required_risk)
    # Digits that no table shows would make a difference of what is none.
    shown = {one.headline.heading: round(one.headline.scale * one.value, 4) for one in found}
    path = folder / HEADLINE
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
    return path


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
