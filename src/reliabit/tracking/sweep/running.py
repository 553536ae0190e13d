"""A sweep under way: its parent run is opened before the cells, and closed with their tables."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from reliabit.errors import KilledError, ReliabitError
from reliabit.evaluation.cells import FINISHED
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.headline import judging
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.pareto_figures import write_pareto
from reliabit.evaluation.pareto_report import pareto_csv, pareto_markdown
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.sweep_report import PAGE, Illustrate, ReportedSweep
from reliabit.evaluation.sweep_report.questions import without_pictures
from reliabit.files import replacing
from reliabit.paths import run_command
from reliabit.progress import step
from reliabit.terminal import show_result, shown_path
from reliabit.tracking.reaping import reap
from reliabit.tracking.recorded_cells import cells_of
from reliabit.tracking.redaction import redact
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.sweep._described import Judge, describe_sweep, record_best, without_verdict
from reliabit.tracking.sweep._shown import SweepTable, show_differences
from reliabit.tracking.sweep._tables import Summary, compare_with_baselines, in_order, pareto_of_sweep, summarize
from reliabit.tracking.sweep.parent import (
    check_not_deleted,
    parent_file,
    reopen,
    start_parent,
    sweep_to_resume,
    swept_parameters,
    write_parent,
)
from reliabit.tracking.sweep.report import sweep_page, write_page
from reliabit.tracking.tags import cell_tags_of
from reliabit.tracking.tracker import TrackedRun, Tracker, open_tracker
from reliabit.tracking.ui.columns import best_certified
from reliabit.tracking.ui.links import compare_link, run_link, ui_hint

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.cells import Cell
    from reliabit.evaluation.comparison import Comparison
    from reliabit.evaluation.pareto import Pareto


@dataclass
class OpenSweep:
    """A sweep under way in this process, how its cells are compared, and the policy that may choose among them.

    Attributes:
        tracker: Where it is recorded.
        tracking: What names that place.
        run: Its parent run.
        new: Whether it was begun here, and not gone on with.
        asked: How many different cells it is to have.
        settings: How they are compared.
        policy: What may choose among them.
        paper: Whether it ends with the paper's tables.
        folder: Where its files are written.
        places: The overrides that say where it is recorded, which the next command needs as well.
        pareto_axis: The cost that `pareto.png` shows.
        judge: What the policy would choose, for the description.
        then: The arguments of the run to go on with, where it is not to choose among the cells.
        report: Whether its end makes the report: `full`, `without_pictures` or `none`.
        illustrate: Finds the report's pictures.
        cache: Where the library that draws it is kept.
    """

    tracker: Tracker
    tracking: TrackingConfig
    run: TrackedRun
    new: bool
    asked: int
    settings: EvaluationConfig
    policy: ParetoSettings
    paper: bool
    folder: Path
    places: Sequence[str] = ()
    pareto_axis: str = "stored"
    judge: Judge = without_verdict
    then: str | None = None
    report: str = "none"
    illustrate: Illustrate = without_pictures
    cache: Path | None = None


@contextmanager
def sweep_parent(
    config: DictConfig, *, asked: int, judge: Judge = without_verdict, illustrate: Illustrate = without_pictures
) -> Iterator[TrackedRun]:
    """Make a sweep one parent run, whatever launches its cells in the block.

    The store is created here, in the launching process, before any worker starts. A sweep that is cut short is closed
    as a failed one, with the table of what there is.

    Args:
        config: The sweep's configuration, Hydra's own included.
        asked: How many different cells it is to have.
        judge: Says what a policy would choose among them, for the parent's description.
        illustrate: Finds the pictures of the report.

    Raises:
        ReliabitError: The store cannot be opened, the sweep to go on with is unknown or still running, or the parent
            was deleted meanwhile.
    """
    sweep = replace(_open(config, asked=asked), judge=judge, illustrate=illustrate)
    try:
        yield sweep.run
    except BaseException as error:
        # What cut it short is the error to report.
        with suppress(ReliabitError):
            if isinstance(error, KilledError):
                # Nobody else closes the runs of cells that were killed on this machine.
                reap(sweep.tracker)
            close(sweep, status="FAILED", began=isinstance(error, KilledError))
        raise
    close(sweep, status="FINISHED")


def _open(config: DictConfig, *, asked: int) -> OpenSweep:
    """Create the store, close what dead processes left, open the parent run, and leave its id for the cells."""
    settings, tracking = OmegaConf.to_object(config.evaluation), OmegaConf.to_object(config.tracking)
    policy = OmegaConf.to_object(config.registry)
    if (
        not isinstance(settings, EvaluationConfig)
        or not isinstance(tracking, TrackingConfig)
        or not isinstance(policy, ParetoSettings)
    ):
        raise TypeError("the schema decides the type of a configuration")
    with step("opening the store", shown=config.trainer.progress_bar):
        tracker, resume = open_tracker(tracking), config.sweep.resume
    for found in reap(tracker):
        sys.stdout.write(f"closed the run {found.name} ({found.run_id}): {found.reason}\n")
    if resume is None:
        swept = swept_parameters(config)
        run = start_parent(tracker, overrides=list(config.hydra.overrides.task), of=(swept["model"], swept["data"]))
        run.log_parameters(swept)
    else:
        run = reopen(tracker, sweep_to_resume(tracker, resume))
    write_parent(parent_file(Path(config.hydra.sweep.dir)), run.run_id)
    return OpenSweep(
        tracker=tracker,
        tracking=tracking,
        run=run,
        new=resume is None,
        asked=asked,
        settings=settings,
        policy=policy,
        paper=config.sweep.paper,
        folder=Path(config.hydra.sweep.dir),
        places=[one for one in config.hydra.overrides.task if one.lstrip("+~").startswith(("tracking", "paths.root"))],
        pareto_axis=config.sweep.pareto_axis,
        then=config.sweep.then,
        report=config.sweep.report,
        cache=Path(config.paths.cache),
    )


def close(sweep: OpenSweep, *, status: str, began: bool = False) -> None:
    """Put the table of a sweep's cells on its parent run, print it, and end the parent.

    Args:
        sweep: The sweep.
        status: How it ended.
        began: Whether a cell began, even where none came so far as to be recorded.

    Raises:
        ReliabitError: The parent was deleted meanwhile.
    """
    client, parent = sweep.tracker.client, sweep.run.run_id
    check_not_deleted(sweep.tracker, parent)
    runs = sweep.tracker.children(parent)
    if not runs and sweep.new and not began:
        # Refused before its first cell: an empty parent would only be in the way.
        client.delete_run(parent)
        return
    finished = [run for run in runs if run.info.status == FINISHED]
    done = len(cell_tags_of(finished, parent=parent))
    then = _next_command(sweep, finished, done=done)
    record_best(sweep.run, finished, sweep.policy)
    sweep.run.log_metrics({"sweep/cells": sweep.asked, "sweep/finished": done})
    try:
        _record(sweep, runs=runs, then=then)
    except BaseException:
        status = "FAILED"
        raise
    finally:
        # Whatever cannot be compared, the parent must not stay open, and what there is must be known.
        client.set_terminated(parent, status)
        _tell(sweep, done=done, then=then)


def _tell(sweep: OpenSweep, *, done: int, then: str) -> None:
    """Say where the sweep is recorded and compared, and what to do next."""
    parent, where = sweep.run.run_id, {"experiment_id": sweep.tracker.experiment_id}
    link = run_link(sweep.tracking, **where, run_id=parent)
    links = [("run", link), ("compare", compare_link(sweep.tracking, **where, sweep=parent))]
    hint = ui_hint(sweep.tracking)
    sys.stdout.write("\n")
    show_result(
        f"{done} of {sweep.asked} cells finished; parent run {parent}",
        [
            ("folder", shown_path(sweep.folder)),
            *([("report", shown_path(sweep.folder / PAGE))] if (sweep.folder / PAGE).is_file() else []),
            *((name, found) for name, found in links if found),
            *([("links", f"open after: {hint}")] if hint else []),
        ],
        then=then,
    )


def _next_command(sweep: OpenSweep, finished: "Sequence[Run]", *, done: int) -> str:
    """Go on with what is not finished, or let the gate choose, by a confidence that all cells have."""
    parent, wanted = sweep.run.run_id, sweep.policy.confidence
    everywhere = all(judging(run.data.metrics, wanted=wanted) == wanted for run in finished)
    gate = "reliabit promote --dry-run" + ("" if everywhere else f" registry.confidence={MAXPROB}")
    further = f"{run_command()} {sweep.then}" if sweep.then else gate
    command = f"{run_command()} sweep.resume={parent}" if done < sweep.asked else further
    return redact(shlex.join([*shlex.split(command), *sweep.places]))


def _record(sweep: OpenSweep, *, runs: "Sequence[Run]", then: str) -> None:
    fronts: dict[str, Pareto] = {}
    try:
        with step(f"reading {len(runs)} cells"):
            cells = cells_of(sweep.tracker, in_order(runs))
        done = [cell for cell in cells if cell.finished]
        with step(f"certifying and comparing {len(done)} cells"):
            fronts = pareto_of_sweep(done, policy=sweep.policy, compared=len(runs))
    finally:
        # What cells cannot be measured together for is no reason not to show what each has recorded.
        certified: dict[str, dict[str, float]] = defaultdict(dict)
        for front in fronts.values():
            certified[front.certified_label] |= front.certified
        shares = [share for cells_of_front in certified.values() for share in cells_of_front.values()]
        sweep.run.log_metrics(best_certified(shares, required_risk=sweep.policy.required_risk))
        summary = summarize(runs, parent=sweep.run.run_id, certified=certified)
        sweep.run.log_text(summary.markdown(), "summary.md")
        sweep.run.log_text(summary.csv(), "summary.csv")
        table = SweepTable(
            runs, parent=sweep.run.run_id, policy=sweep.policy, level=sweep.settings.level, certified=certified
        )
        sys.stdout.write("\n")
        table.show(whole=shown_path(_write_summary(summary, sweep.folder)))
    with step("recording comparisons and figures"), TemporaryDirectory() as folder:
        comparisons = _record_comparisons(sweep, done)
        _record_pareto(sweep, fronts, folder=Path(folder))
        verdicts = sweep.judge(done)
        reported = ReportedSweep(
            done,
            compared=len(runs),
            settings=sweep.settings,
            policy=sweep.policy,
            fronts=list(fronts.values()),
            comparisons=comparisons,
            verdicts=[(verdict.text, verdict.chosen) for verdict in verdicts],
            illustrate=sweep.illustrate if sweep.report == "full" else without_pictures,
        )
        describe_sweep(
            sweep.tracker,
            sweep.run,
            table,
            verdicts=verdicts,
            folder=Path(folder),
            then=then,
            reported=_record_report(sweep, reported, then=then),
        )
    for found in comparisons:
        sys.stdout.write("\n")
        show_differences(found, level=sweep.settings.level)


def _record_report(sweep: OpenSweep, found: ReportedSweep, *, then: str) -> bool:
    """Write the report and record it; what keeps it from being made is told, and spoils nothing else of the sweep."""
    if sweep.report == "none" or not found.cells:
        return False
    try:
        page = sweep_page(sweep.tracker, sweep.run.run_id, found, cache=sweep.cache, then=then)
    except ReliabitError as error:
        sys.stderr.write(f"there is no {PAGE}: {error}\n")
        return False
    write_page(page, sweep.folder / PAGE)
    sweep.run.log_file(sweep.folder / PAGE)
    return True


def _record_comparisons(sweep: OpenSweep, cells: "Sequence[Cell]") -> "list[Comparison]":
    comparisons, tables, figures = compare_with_baselines(cells, settings=sweep.settings, policy=sweep.policy)
    for name, table in tables.items():
        sweep.run.log_text(table, name)
    with TemporaryDirectory() as folder:
        for path in write_figures(figures, Path(folder)):
            sweep.run.log_file(path)
    if sweep.paper and cells:
        with TemporaryDirectory() as folder:
            for path in paper_report(cells, sweep.settings).write(Path(folder)):
                sweep.run.log_file(path)
    return comparisons


def _record_pareto(sweep: OpenSweep, fronts: "Mapping[str, Pareto]", *, folder: Path) -> None:
    if fronts:
        tables = [f"## {where}\n\n{pareto_markdown(front)}" for where, front in fronts.items()]
        sweep.run.log_text("\n".join(tables), "pareto.md")
        sweep.run.log_text(pareto_csv(fronts), "pareto.csv")
        for path in write_pareto(fronts, folder, axis=sweep.pareto_axis):
            sweep.run.log_file(path)


def _write_summary(summary: Summary, folder: Path) -> Path:
    """Write the table as a file of the sweep's folder, for whoever reads on without MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "summary.csv") as unfinished:
        unfinished.write_text(summary.csv(), encoding="utf-8")
    return folder / "summary.csv"
