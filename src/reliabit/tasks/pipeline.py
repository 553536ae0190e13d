"""`task=pipeline`: quantize, answer, select and evaluate in one process, recorded as one run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.figures import report_figures, write_figures
from reliabit.identity import cell_digest
from reliabit.inference.answered import KERNELS, kernels_text
from reliabit.metrics.definitions import AURC
from reliabit.tasks.asked import BAD_SAMPLES
from reliabit.tasks.calibrated import scales_table
from reliabit.tasks.cells import run_name, run_tags
from reliabit.tasks.measured import measure
from reliabit.tasks.quantized import QuantizedCheckpoint
from reliabit.tasks.run_identity import recorded_inputs, run_identity
from reliabit.tasks.runtime import set_up
from reliabit.tracking.context import context_tags
from reliabit.tracking.lightning_logger import RunLogger
from reliabit.tracking.opening import open_tracker
from reliabit.tracking.resuming import check_not_deleted
from reliabit.tracking.system_metrics import system_metrics
from reliabit.tracking.tracker import TrackedRun, Tracker, read_parent

if TYPE_CHECKING:
    from mlflow.entities import Run


def pipeline(config: Config) -> float:
    """Run one configuration from checkpoint to report, unless a finished run has its numbers; returns its AURC."""
    set_up(config)
    tracker = open_tracker(config.tracking)
    parent = read_parent(config.tracking.parent_file)
    if parent is not None:
        check_not_deleted(tracker, parent)
        tracker.supersede(cell_digest(to_mapping(config)), parent=parent)
    with recorded_failure(config, tracker, parent=parent):
        identity = run_identity(config)
    finished = None if config.sweep.force else tracker.find_finished(identity.hex)
    if finished is not None:
        return reuse(finished, config, tracker, parent=parent)
    tags = {**run_tags(config), **identity.to_tags(), **context_tags()}
    with tracker.run(run_name(config), tags=tags, parent=parent) as run, system_metrics(run):
        run.log_identity(to_mapping(config), fingerprint=identity)
        run.log_inputs(recorded_inputs(config))
        return _run(config, run)


@contextmanager
def recorded_failure(config: Config, tracker: Tracker, *, parent: str | None) -> Iterator[None]:
    """Record what fails before a run has an identity as a failed run all the same."""
    try:
        yield
    except ReliabitError as error:
        with tracker.run(run_name(config), tags=run_tags(config), parent=parent):
            raise error


def reuse(finished: "Run", config: Config, tracker: Tracker, *, parent: str | None) -> float:
    """Take over the numbers and files of a finished run of the same identity.

    Args:
        finished: The run.
        config: The configuration that asked for it.
        tracker: Where it is recorded.
        parent: The sweep that it becomes a member of as well.
    """
    if parent is not None:
        tracker.adopt(finished.info.run_id, parent=parent, cell=cell_digest(to_mapping(config)))
    tracker.fetch_all(finished.info.run_id, config.paths.output_folder())
    sys.stdout.write(
        f"{run_name(config)} is finished already: run {finished.info.run_id} has the same identity; its files are in "
        f"{config.paths.output_folder()} (sweep.force=true repeats it)\n"
    )
    return float(finished.data.metrics[AURC.name])


def _run(config: Config, run: TrackedRun) -> float:
    output = config.paths.output_folder()
    measured = measure(
        config,
        folder=output,
        loaded=partial(_log_conversion, run, folder=output),
        logger_of=lambda name: RunLogger(run, prefix=f"training/{name}"),
    )
    report, predictions = measured.report, measured.selected.predictions
    title = f"{run_name(config)} · {config.data.name}"
    drawn = report_figures(predictions, report, split=config.evaluation.reported, title=title)
    written = [*measured.selected.write(output), *report.write(output), *write_figures(drawn, output)]
    run.log_metrics(measured.recorded())
    run.log_files(written, root=output)
    return report.metrics[AURC.name]


def _log_conversion(run: TrackedRun, model: QuantizedCheckpoint, *, folder: Path) -> None:
    if (folder / BAD_SAMPLES).is_file():
        run.log_file(folder / BAD_SAMPLES)
    run.log_text(kernels_text(model.kernels), KERNELS)
    if model.report is None:
        return
    run.log_text("".join(f"{name}\n" for name in model.report.names), "converted_modules.txt")
    if model.report.scales:
        run.log_text(scales_table(model.report.scales), "scales.txt")
