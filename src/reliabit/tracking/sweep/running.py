"""A sweep under way: its parent run is opened before the cells, and closed with their tables."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from reliabit.errors import KilledError, ReliabitError
from reliabit.evaluation.cells import FINISHED
from reliabit.evaluation.headline import judging
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.sweep_report import PAGE, pictures_of, without_pictures
from reliabit.paths import run_command
from reliabit.progress import step
from reliabit.terminal import show_result, shown_path
from reliabit.tracking.reaping import reap
from reliabit.tracking.redaction import redact
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.sweep._described import Judge, record_best, without_verdict
from reliabit.tracking.sweep._recording import OpenSweep, record
from reliabit.tracking.sweep.parent import (
    check_not_deleted,
    parent_file,
    reopen,
    start_parent,
    sweep_to_resume,
    swept_parameters,
    write_parent,
)
from reliabit.tracking.tags import cell_tags_of
from reliabit.tracking.tracker import TrackedRun, open_tracker
from reliabit.tracking.ui.links import compare_link, run_link, ui_hint

if TYPE_CHECKING:
    from mlflow.entities import Run


@contextmanager
def sweep_parent(config: DictConfig, *, asked: int, judge: Judge = without_verdict) -> Iterator[TrackedRun]:
    """Make a sweep one parent run, whatever launches its cells in the block.

    The store is created here, in the launching process, before any worker starts. A sweep that is cut short is closed
    as a failed one, with the table of what there is.

    Args:
        config: The sweep's configuration, Hydra's own included.
        asked: How many different cells it is to have.
        judge: Says what a policy would choose among them, for the parent's description.

    Raises:
        ReliabitError: The store cannot be opened, the sweep to go on with is unknown or still running, or the parent
            was deleted meanwhile.
    """
    sweep = replace(_open(config, asked=asked), judge=judge)
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
        prepared=Path(config.paths.data) if config.sweep.image_slices else None,
        then=config.sweep.then,
        report=config.sweep.report,
        illustrate=partial(pictures_of, tables=Path(config.paths.data))
        if config.sweep.report == "full"
        else without_pictures,
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
        record(sweep, runs=runs, then=then)
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
