"""The parent run of a sweep as the MLflow UI shows it: what was found, the best of each column, and how to compare."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from reliabit.evaluation.sweep_report import PAGE
from reliabit.evaluation.tables import markdown_table
from reliabit.tracking.sweep._shown import NEEDED, SweepTable
from reliabit.tracking.sweep._tables import in_order
from reliabit.tracking.tags import CHOSEN
from reliabit.tracking.tracker import Journal, TrackedRun, Tracker
from reliabit.tracking.ui.columns import best_columns
from reliabit.tracking.ui.links import artifact_page, compare_page, sweep_view, view_page
from reliabit.tracking.ui.notes import describe, log_pictures, page_link, picture, plain
from reliabit.tracking.ui.views import save_sweep_view

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.cells import Cell
    from reliabit.evaluation.settings import ParetoSettings
    from reliabit.evaluation.slice_comparison import SliceComparison

PARETO = "pareto.png"

BESIDE = ("C@5%", "bits/weight")
"""Headings of columns that the description shows beside those that a choice takes."""

ALONE = (
    "Certified coverage in this table holds for the best of {}. In MLflow's lists and charts each cell has the one "
    "that holds for it alone, which may be a little higher."
)

ALL_SLICES = "Each slice under each cell is in the artifacts `slice_changes`."


class Verdict(Protocol):
    """What a policy says of some cells; see `reliabit.registry.verdict`, which stands above this floor."""

    @property
    def text(self) -> str:
        """Which it would choose and why, or why none."""

    @property
    def chosen(self) -> str | None:
        """The run that it would choose."""


Judge: TypeAlias = "Callable[[Sequence[Cell]], Sequence[Verdict]]"
"""What a policy says of the cells that finished."""


def without_verdict(_cells: "Sequence[Cell]") -> "Sequence[Verdict]":
    """Nothing, where no policy is asked."""
    return []


def record_best(run: TrackedRun, runs: "Sequence[Run]", policy: "ParetoSettings") -> None:
    """Record the best value of each headline number, and of which cells a sweep is."""
    finished = [cell.data.metrics for cell in runs if cell.info.status == "FINISHED"]
    run.log_metrics(best_columns(finished, required_risk=policy.required_risk))


def describe_sweep(
    tracker: Tracker,
    run: TrackedRun,
    table: SweepTable,
    *,
    verdicts: "Sequence[Verdict]",
    slices: "Sequence[SliceComparison]" = (),
    folder: Path,
    then: str,
    reported: bool,
) -> None:
    """Give the parent run its description, and save how its cells are compared.

    Args:
        tracker: Where the sweep is recorded.
        run: Its run.
        table: Its cells.
        verdicts: What the policy says of them.
        slices: What each does to every slice of the data.
        folder: Where the figure of the Pareto front lies, if there is one.
        then: The next command.
        reported: Whether the parent holds the report.
    """
    if isinstance(tracker, Journal) or not table.runs:
        return
    runs, experiment, parent = in_order(table.runs), tracker.experiment_id, run.run_id
    chosen = {verdict.chosen for verdict in verdicts} - {None}
    for run_id in chosen:
        tracker.client.set_tag(parent, CHOSEN, str(run_id))
    name = str(tracker.client.get_run(parent).info.run_name)
    ids = [run.info.run_id for run in runs]
    risk = table.policy.required_risk
    save_sweep_view(tracker.client, experiment, sweep=parent, name=name[:80], cells=ids, required_risk=risk)
    charts, rows = (view_page(experiment, sweep_view(parent), charts=drawn)[1:] for drawn in (True, False))
    parts = [
        *(_bold_first(verdict.text) for verdict in verdicts),
        _table(table, runs, experiment=experiment, chosen=chosen),
        f"Compare the cells: [as charts of bits, AURC, certified coverage and bytes]({charts}), [as a table]({rows}), "
        f"[key by key]({compare_page(experiment, ids)[1:]}).",
        ALONE.format(len(runs)),
        *(f"**Slices.** {plain(found.verdict)} {ALL_SLICES}" for found in slices),
        f"Report to pass on: [{PAGE}]({artifact_page(experiment, parent, PAGE)[1:]})" if reported else "",
        *(picture(parent, name, about="Pareto front") for name in log_pictures(run, [folder / PARETO])),
        f"Next: `{then}`",
    ]
    describe(tracker, parent, "\n\n".join(part for part in parts if part))


def _bold_first(text: str) -> str:
    first, point, others = text.partition(". ")
    return f"**{plain(first + point.strip())}** {plain(others)}".strip()


def _table(table: SweepTable, runs: "Sequence[Run]", *, experiment: str, chosen: "set[str | None]") -> str:
    """The columns that a choice takes; the UI's own list has all."""
    columns = table.columns(intervals=True)
    kept = [column for column in columns[1:] if column.priority <= len(NEEDED) or column.heading in BESIDE]
    short = [name.strip() for name in columns[0].cells]
    links = [
        page_link(name, experiment_id=experiment, run_id=run.info.run_id) + " (chosen)" * (run.info.run_id in chosen)
        for run, name in zip(runs, short, strict=True)
    ]
    rows = zip(links, *([cell.replace("\n", "<br>") for cell in column.cells] for column in kept), strict=True)
    return markdown_table([columns[0].heading, *(column.heading for column in kept)], rows)
