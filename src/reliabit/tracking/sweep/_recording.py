"""What the end of a sweep records and prints: its table, comparisons, figures, report and description."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.pareto_figures import write_pareto
from reliabit.evaluation.pareto_report import pareto_csv, pareto_markdown
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.sweep_report import PAGE, Illustrate, ReportedSweep, without_pictures
from reliabit.files import write_text
from reliabit.progress import step
from reliabit.terminal import shown_path
from reliabit.tracking.recorded_cells import cells_of
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.sweep._described import Judge, describe_sweep, without_verdict
from reliabit.tracking.sweep._shown import SweepTable, show_differences
from reliabit.tracking.sweep._tables import (
    BaselineComparisons,
    compare_with_baselines,
    in_order,
    pareto_of_sweep,
    summarize,
)
from reliabit.tracking.sweep.report import sweep_page
from reliabit.tracking.tracker import TrackedRun, Tracker
from reliabit.tracking.ui.columns import best_certified

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.cells import Cell
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
        prepared: The folder of prepared tables; None where questions are not sliced by what their pictures are like.
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
    prepared: Path | None = None
    judge: Judge = without_verdict
    then: str | None = None
    report: str = "none"
    illustrate: Illustrate = without_pictures
    cache: Path | None = None


def record(sweep: OpenSweep, *, runs: "Sequence[Run]", then: str) -> None:
    """Record what the cells of a sweep come to on its parent run, print its table, and write its files.

    Args:
        sweep: The sweep, whose parent run is still open.
        runs: Its cells, finished or not.
        then: The next command.

    Raises:
        ReliabitError: A finished cell lacks what it consists of, or they cannot be compared; there is a table even so.
    """
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
        # For whoever reads on without MLflow.
        write_text(sweep.folder / "summary.csv", summary.csv())
        table.show(whole=shown_path(sweep.folder / "summary.csv"))
    with step("recording comparisons and figures"), TemporaryDirectory() as folder:
        comparisons = _record_comparisons(sweep, done, compared=len(runs))
        _record_pareto(sweep, fronts, folder=Path(folder))
        verdicts = sweep.judge(done)
        reported = ReportedSweep(
            done,
            compared=len(runs),
            settings=sweep.settings,
            policy=sweep.policy,
            fronts=list(fronts.values()),
            comparisons=comparisons.differences,
            slices=comparisons.slices,
            verdicts=[(verdict.text, verdict.chosen) for verdict in verdicts],
            illustrate=sweep.illustrate,
        )
        describe_sweep(
            sweep.tracker,
            sweep.run,
            table,
            verdicts=verdicts,
            slices=comparisons.slices,
            folder=Path(folder),
            then=then,
            reported=_record_report(sweep, reported, then=then),
        )
    for found in comparisons.differences:
        sys.stdout.write("\n")
        show_differences(found, level=sweep.settings.level)
    for slices in comparisons.slices:
        sys.stdout.write(f"\nSlices: {slices.verdict}\n")


def _record_report(sweep: OpenSweep, found: ReportedSweep, *, then: str) -> bool:
    """Write the report and record it; what keeps it from being made is told, and spoils nothing else of the sweep."""
    if sweep.report == "none" or not found.cells:
        return False
    try:
        page = sweep_page(sweep.tracker, sweep.run.run_id, found, cache=sweep.cache, then=then)
    except ReliabitError as error:
        sys.stderr.write(f"there is no {PAGE}: {error}\n")
        return False
    write_text(sweep.folder / PAGE, page)
    sweep.run.log_file(sweep.folder / PAGE)
    return True


def _record_comparisons(sweep: OpenSweep, cells: "Sequence[Cell]", *, compared: int) -> BaselineComparisons:
    found = compare_with_baselines(
        cells, settings=sweep.settings, policy=sweep.policy, compared=compared, prepared=sweep.prepared
    )
    for name, table in found.tables.items():
        sweep.run.log_text(table, name)
    with TemporaryDirectory() as folder:
        for path in write_figures({name: draw() for name, draw in found.figures.items()}, Path(folder)):
            sweep.run.log_file(path)
    if sweep.paper and cells:
        with TemporaryDirectory() as folder:
            for path in paper_report(cells, sweep.settings).write(Path(folder)):
                sweep.run.log_file(path)
    return found


def _record_pareto(sweep: OpenSweep, fronts: "Mapping[str, Pareto]", *, folder: Path) -> None:
    if fronts:
        tables = [f"## {where}\n\n{pareto_markdown(front)}" for where, front in fronts.items()]
        sweep.run.log_text("\n".join(tables), "pareto.md")
        sweep.run.log_text(pareto_csv(fronts), "pareto.csv")
        for path in write_pareto(fronts, folder, axis=sweep.pareto_axis):
            sweep.run.log_file(path)
