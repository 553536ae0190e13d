"""`task=pipeline`: quantize, answer, select and evaluate in one process, recorded as one run.

Whether a run is finished already is told by files and the tracking store: what computes, torch and all that is built on
it, is imported for runs that are not.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.data.prepared_table import is_prepared, prepare
from reliabit.digests import DigestCache, checkpoint_inputs, table_inputs
from reliabit.errors import ReliabitError
from reliabit.identity import CELL_TAG, Fingerprint, identify
from reliabit.metrics.definitions import AURC
from reliabit.paths import project_root
from reliabit.progress import step
from reliabit.tasks._cell import run_name, run_tags
from reliabit.tasks._results import tell_cell, tell_cell_of_sweep, widths_command
from reliabit.tasks.runtime import set_up
from reliabit.tracking.context import context_tags
from reliabit.tracking.sweep.parent import check_not_deleted, read_parent
from reliabit.tracking.system_metrics import system_metrics
from reliabit.tracking.tracker import TrackedRun, Tracker, open_tracker
from reliabit.tracking.ui.columns import columns_of, empty_columns
from reliabit.tracking.ui.links import run_link
from reliabit.tracking.ui.notes import CellNote, describe_cell

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

    from reliabit.tasks._model import QuantizedCheckpoint
    from reliabit.tasks._served import ServedCheckpoint


def pipeline(config: Config) -> float:
    """Run one configuration from checkpoint to report, unless a finished run has its numbers; returns its AURC."""
    shown = config.trainer.progress_bar
    name, tags = run_name(config), run_tags(config)
    with step("opening the store", shown=shown):
        tracker = open_tracker(config.tracking)
    parent = read_parent(config.tracking.parent_file)
    if parent is not None:
        check_not_deleted(tracker, parent)
        tracker.supersede(tags[CELL_TAG], parent=parent)
    try:
        computing = not _told_by_files(config)
        if computing:
            _get_ready(config)
        with step("reading what identifies the run", shown=shown):
            identity = run_identity(config)
        finished = None if config.sweep.force else tracker.find_finished(identity.hex)
        if finished is None and not computing:
            _get_ready(config)
    except ReliabitError:
        # What fails before it has an identity is recorded as a failed run all the same.
        with tracker.run(name, tags=tags, parent=parent):
            raise
    if finished is not None:
        if parent is not None:
            tracker.adopt(finished.info.run_id, parent=parent, cell=tags[CELL_TAG])
        return _reuse(finished, tracker, config=config)
    with step("reading the state of the checkout", shown=shown):
        tags = {**tags, **identity.to_tags(), **context_tags()}
    with tracker.run(name, tags=tags, parent=parent) as run, system_metrics(run):
        with step("opening the run", shown=shown):
            run.log_identity(to_mapping(config), fingerprint=identity)
            # MLflow shows metrics in the order in which they came first.
            run.log_metrics(empty_columns(config.registry.required_risk))
            run.log_inputs(_recorded_inputs(config))
        recorded = _run(config, run, title=name)
        _describe(config, tracker, run, metrics=recorded, parent=parent)
    _tell(config, tracker, run_id=run.run_id, metrics=recorded)
    return recorded[AURC.name]


def _told_by_files(config: Config) -> bool:
    """Whether files alone tell a run's identity: its tables are prepared, and nothing is drawn or asked for it."""
    if config.engine.is_remote:
        return False
    sources, root = [config.data, *config.other_data.values()], Path(config.paths.data)
    return not config.quant.is_calibrated and all(is_prepared(data, root=root) for data in sources)


def _get_ready(config: Config) -> None:
    """Set up what computes, and check the model before any image is opened; one that is served is probed later."""
    from reliabit.models.loading import check_loadable
    from reliabit.tasks._model import check_fits

    with step("loading libraries", shown=config.trainer.progress_bar):
        set_up(config)
    if not config.engine.is_remote:
        check_loadable(config.model)
        check_fits(config)


def _describe(
    config: Config, tracker: Tracker, run: TrackedRun, *, metrics: Mapping[str, float], parent: str | None
) -> None:
    """Give a run its description: the headline numbers, and what to do next."""
    chosen = f"reliabit promote --sweep {parent} --run {run.run_id} --dry-run"
    note = CellNote(
        run_id=run.run_id,
        config=to_mapping(config),
        data=config.data.called(),
        metrics=metrics,
        policy=config.registry,
        then=chosen if parent is not None else "" if config.engine.is_remote else widths_command(),
    )
    describe_cell(tracker, run, note, folder=config.paths.output_folder())


def _reuse(finished: "Run", tracker: Tracker, *, config: Config) -> float:
    """Take over the numbers and files of a finished run of the same identity."""
    with step("fetching the files of the finished run", shown=config.trainer.progress_bar):
        tracker.fetch_all(finished.info.run_id, config.paths.output_folder())
    note = f"is finished already: run {finished.info.run_id} has the same identity (sweep.force=true repeats it)"
    _tell(config, tracker, run_id=finished.info.run_id, metrics=finished.data.metrics, note=note)
    return float(finished.data.metrics[AURC.name])


def _tell(config: Config, tracker: Tracker, *, run_id: str, metrics: Mapping[str, float], note: str = "") -> None:
    """Say what the run came to, in a line where a sweep has a table for it."""
    name, link = run_name(config), run_link(config.tracking, experiment_id=tracker.experiment_id, run_id=run_id)
    if config.tracking.parent_file is None:
        tell_cell(config, name=name, metrics=metrics, link=link, folder=config.paths.output_folder(), note=note)
    else:
        tell_cell_of_sweep(config, name=name, metrics=metrics, note=note)


def _run(config: Config, run: TrackedRun, *, title: str) -> dict[str, float]:
    """Measure, and record what was measured; returns the metrics."""
    from functools import partial

    from reliabit.evaluation.figure_style import write_figures
    from reliabit.evaluation.figures import report_figures
    from reliabit.tasks._measurement import measure
    from reliabit.tracking.lightning_logger import RunLogger

    output = config.paths.output_folder()
    measured = measure(
        config,
        folder=output,
        loaded=partial(_log_conversion, run, folder=output),
        logger_of=lambda name: RunLogger(run, prefix=f"training/{name}"),
    )
    report, predictions = measured.report, measured.selected.predictions
    with step("drawing and recording", shown=config.trainer.progress_bar):
        settings, policy = config.evaluation, config.registry
        drawn = report_figures(predictions, report, split=settings.reported, title=title, confidence=policy.confidence)
        written = [*measured.selected.write(output), *report.write(output), *write_figures(drawn, output)]
        recorded = measured.recorded()
        columns = columns_of(recorded, confidence=policy.confidence, required_risk=policy.required_risk)
        run.log_metrics({**columns, **recorded})
        run.log_files(written, root=output)
    return recorded


def _log_conversion(run: TrackedRun, model: "QuantizedCheckpoint | ServedCheckpoint", *, folder: Path) -> None:
    from reliabit.inference.cell_record import KERNELS, kernels_text
    from reliabit.tasks._asked_questions import BAD_SAMPLES
    from reliabit.tasks._model import scales_table
    from reliabit.tasks._served import ServedCheckpoint

    if (folder / BAD_SAMPLES).is_file():
        run.log_file(folder / BAD_SAMPLES)
    if isinstance(model, ServedCheckpoint):
        run.log_files([model.write(folder)], root=folder)
        return
    if model.searched is not None:
        from reliabit.tasks.search import write_plan

        run.log_files(write_plan(model.searched, folder), root=folder)
    run.log_text(kernels_text(model.kernels), KERNELS)
    if model.report is None:
        return
    run.log_text("".join(f"{name}\n" for name in model.report.names), "converted_modules.txt")
    if model.report.scales:
        run.log_text(scales_table(model.report.scales), "scales.txt")


def run_identity(config: Config) -> Fingerprint:
    """Everything that decides the numbers of a run; its data is prepared first, where it is not yet.

    Raises:
        ReliabitError: A file that the run would read is missing or damaged, or data differs from its manifest.
    """
    cache = DigestCache(Path(config.paths.cache) / "digests")
    inputs: dict[str, str] = {}
    for key, _, folder in _prepared(config):
        inputs |= table_inputs(folder, cache=cache, name=key)
    inputs |= _model_inputs(config, cache=cache)
    if config.quant.is_calibrated:
        from reliabit.tasks._calibration_rows import calibration_digest

        inputs["calibration"] = str(calibration_digest(config))
    return identify(to_mapping(config), inputs=inputs)


def _model_inputs(config: Config, *, cache: DigestCache) -> dict[str, str]:
    """What identifies the model that answers."""
    if not config.engine.is_remote:
        return checkpoint_inputs(config.model.folder, cache=cache)
    from reliabit.tasks._served import served_inputs

    with step("probing the engine", shown=config.trainer.progress_bar):
        return served_inputs(config)


def _recorded_inputs(config: Config) -> "list[DatasetInput]":
    """The prepared tables as MLflow shows them, each with its address and hash; those outside the project have none."""
    from reliabit.tracking.dataset_source import SCHEME, dataset_input, resolve

    found = []
    for key, name, folder in _prepared(config):
        place = folder.resolve()
        if place.is_relative_to(project_root()):
            source = resolve(f"{SCHEME}{place.relative_to(project_root()).as_posix()}")
            found.append(dataset_input(source, name=name, context="evaluation" if key == "data" else "shift"))
    return found


def _prepared(config: Config) -> Iterator[tuple[str, str, Path]]:
    """The key, the name and the prepared table of each data set that a run reads."""
    for key, data in {"data": config.data, **config.other_data}.items():
        yield key, data.name, prepare(data, root=Path(config.paths.data))
