"""`task=pipeline`: quantize, answer, select and evaluate in one process, recorded as one run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.report import build_report
from reliabit.identity import cell_digest
from reliabit.inference.features import FEATURES
from reliabit.tasks.answer import answer_questions
from reliabit.tasks.calibrated import scales_table
from reliabit.tasks.cells import efficiency, run_name, run_tags
from reliabit.tasks.estimators import needs_training
from reliabit.tasks.parallel_answers import answer_on_devices
from reliabit.tasks.quantized import load_quantized
from reliabit.tasks.questions import load_questions
from reliabit.tasks.run_identity import recorded_inputs, run_identity
from reliabit.tasks.runtime import set_up
from reliabit.tasks.select import fit_estimators
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
    return float(finished.data.metrics["selective/aurc"])


def _run(config: Config, run: TrackedRun) -> float:
    questions = load_questions(config, training=needs_training(config.confidence))
    answer_on_devices(config, questions)
    model = load_quantized(config)
    if model.report is not None:
        run.log_text("".join(f"{name}\n" for name in model.report.names), "converted_modules.txt")
        if model.report.scales:
            run.log_text(scales_table(model.report.scales), "scales.txt")
    output = config.paths.output_folder()
    answered = answer_questions(config, model, questions, features=output / FEATURES)
    selected = fit_estimators(
        config,
        answered.predictions,
        features=output / FEATURES,
        logger_of=lambda name: RunLogger(run, prefix=f"training/{name}"),
    )
    written = selected.write(output)
    title = f"{run_name(config)} · {config.data.name}"
    report = build_report(selected.predictions, config.evaluation, title=title)
    run.log_metrics({**report.recorded(), **selected.recorded(), **efficiency(config, model, answered)})
    run.log_files([*written, *report.write(output)], root=output)
    return report.metrics["selective/aurc"]
