"""The parent run of a sweep, as a Hydra callback: opened before the cells, closed with their table."""

import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from reliabit.config import EvaluationConfig, RegistryConfig, TrackingConfig
from reliabit.errors import ReliabitError
from reliabit.tracking.differences import compare_with_baselines
from reliabit.tracking.opening import open_tracker
from reliabit.tracking.reaping import reap
from reliabit.tracking.resuming import find_sweep, reopen, start_parent
from reliabit.tracking.summary import Summary, summarize
from reliabit.tracking.sweep_pareto import pareto_of_sweep
from reliabit.tracking.tracker import TrackedRun, Tracker, parent_file, write_parent

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.cells import Cell
    from reliabit.evaluation.pareto_points import Pareto


@dataclass
class OpenSweep:
    """A sweep under way in this process, how its cells are compared, and the policy that may choose among them."""

    tracker: Tracker
    run: TrackedRun
    settings: EvaluationConfig
    policy: RegistryConfig
    paper: bool


_open: list[OpenSweep] = []
_refused: list[ReliabitError] = []


class SweepParent(Callback):
    """Makes every sweep one parent run, whatever launches its cells.

    The store is created here, in the launching process, before any worker starts. Hydra does not call
    `on_multirun_end` when the sweep raises; the entry point calls `close_abandoned` then.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Open the parent run, or keep for `raise_refusal` why that is refused."""
        try:
            _open.append(open_sweep(config))
        except ReliabitError as error:
            _refused.append(error)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Put the table of the cells on the parent run, print it, and close the parent."""
        if _open:
            close(_open.pop(), status="FINISHED")


def open_sweep(config: DictConfig) -> OpenSweep:
    """Create the store, close what dead processes left, open the parent run, and leave its id for the cells.

    Raises:
        ReliabitError: The store cannot be opened, or the sweep to go on with is unknown or still running.
    """
    settings, tracking = OmegaConf.to_object(config.evaluation), OmegaConf.to_object(config.tracking)
    policy = OmegaConf.to_object(config.registry)
    if (
        not isinstance(settings, EvaluationConfig)
        or not isinstance(tracking, TrackingConfig)
        or not isinstance(policy, RegistryConfig)
    ):
        raise TypeError("the schema decides the type of a configuration")
    tracker = open_tracker(tracking)
    for found in reap(tracker):
        sys.stdout.write(f"closed the run {found.name} ({found.run_id}): {found.reason}\n")
    if config.sweep.resume is None:
        run = start_parent(tracker, overrides=list(config.hydra.overrides.task))
    else:
        run = reopen(tracker, find_sweep(tracker, config.sweep.resume))
    write_parent(parent_file(Path(config.hydra.sweep.dir)), run.run_id)
    return OpenSweep(tracker=tracker, run=run, settings=settings, policy=policy, paper=config.sweep.paper)


def raise_refusal() -> None:
    """Raise what kept the parent run from being opened; Hydra only warns of what its callbacks raise.

    Raises:
        ReliabitError: The parent run was refused.
    """
    if _refused:
        raise _refused.pop()


def close_abandoned() -> None:
    """Close the parent of a sweep that was cut short by an error, with the table of what there is."""
    while _open:
        close(_open.pop(), status="FAILED")


def close(sweep: OpenSweep, *, status: str) -> None:
    """Put the table of a sweep's cells on its parent run, print it, and end the parent."""
    runs = sweep.tracker.children(sweep.run.run_id)
    if not runs:
        # Refused before its first cell: an empty parent would only be in the way.
        sweep.tracker.client.delete_run(sweep.run.run_id)
        return
    finished = [run for run in runs if run.info.status == "FINISHED"]
    try:
        _record(sweep, runs=runs, finished=finished)
    except BaseException:
        # Hydra only warns when a callback raises; the parent must not stay open then.
        sweep.tracker.client.set_terminated(sweep.run.run_id, "FAILED")
        raise
    sweep.tracker.client.set_terminated(sweep.run.run_id, status)
    sys.stdout.write(f"{len(finished)} of {len(runs)} cells finished; parent run {sweep.run.run_id}\n")
    if len(finished) < len(runs):
        sys.stdout.write(f"Run the others again: python src/run.py sweep.resume={sweep.run.run_id}\n")
    sys.stdout.write("Compare them in the MLflow UI: make ui\n")


def _record(sweep: OpenSweep, *, runs: "Sequence[Run]", finished: "Sequence[Run]") -> None:
    # Hydra loads this module for every run; what it takes to measure is needed by sweeps alone.
    from reliabit.tracking.cells import cells_of

    fronts: dict[str, Pareto] = {}
    try:
        cells = cells_of(sweep.tracker, runs)
        done = [cell for cell in cells if cell.finished]
        fronts = pareto_of_sweep(done, policy=sweep.policy, compared=len(runs))
    finally:
        # What cells cannot be measured together for is no reason not to show what each has recorded.
        certified: dict[str, dict[str, float]] = defaultdict(dict)
        for front in fronts.values():
            certified[front.certified_label] |= front.certified
        summary = summarize(runs, parent=sweep.run.run_id, certified=certified)
        sweep.run.log_text(summary.markdown(), "summary.md")
        sweep.run.log_text(summary.csv(), "summary.csv")
        show(summary)
    _record_comparisons(sweep, done)
    _record_pareto(sweep, fronts)
    sweep.run.log_metrics({"sweep/cells": len(runs), "sweep/finished": len(finished)})


def _record_comparisons(sweep: OpenSweep, cells: "Sequence[Cell]") -> None:
    from reliabit.evaluation.paper import paper_report

    compared = compare_with_baselines(cells, settings=sweep.settings)
    for name, table in compared.tables.items():
        sweep.run.log_text(table, name)
    for name, figure in compared.figures.items():
        sweep.run.log_figure(figure, name)
    if sweep.paper and cells:
        with TemporaryDirectory() as folder:
            for path in paper_report(cells, sweep.settings).write(Path(folder)):
                sweep.run.log_file(path)


def _record_pareto(sweep: OpenSweep, fronts: "Mapping[str, Pareto]") -> None:
    from reliabit.evaluation.pareto_figure import pareto_figure
    from reliabit.evaluation.pareto_table import pareto_csv, pareto_markdown

    if fronts:
        tables = [f"## {where}\n\n{pareto_markdown(front)}" for where, front in fronts.items()]
        sweep.run.log_text("\n".join(tables), "pareto.md")
        sweep.run.log_text(pareto_csv(fronts), "pareto.csv")
        sweep.run.log_figure(pareto_figure(fronts), "pareto.png")


def show(summary: Summary) -> None:
    """Print the table of a sweep."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, heading in enumerate(summary.headings):
        table.add_column(heading, no_wrap=number == 0)
    for row in summary.rows:
        table.add_row(*row)
    # A pipe has no width of its own; a table squeezed into 80 columns would lose its numbers.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 240
    Console(width=width).print(table)
