"""`task=report`: the paper's tables, figures and findings from the predictions of a recorded sweep."""

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.paper import paper_report
from reliabit.progress import step
from reliabit.terminal import show_result
from reliabit.tracking.recorded_cells import cells_of
from reliabit.tracking.tracker import open_tracker


def report(config: Config) -> None:
    """Write the report of a sweep's finished cells.

    Raises:
        ReliabitError: No sweep is named, or it has no finished cell.
    """
    sweep, tracking = config.task.place("sweep"), config.tracking
    tracker = open_tracker(tracking)
    finished = [run for run in tracker.children(sweep) if run.info.status == "FINISHED"]
    if not finished:
        raise ReliabitError(f"the run {sweep} has no finished cells in {tracking.uri}; was it a sweep?")
    with step(f"reading {len(finished)} cells", shown=config.trainer.progress_bar):
        cells = cells_of(tracker, finished)
    with step("measuring and drawing", shown=config.trainer.progress_bar):
        written = paper_report(cells, config.evaluation).write(config.paths.output_folder())
    show_result(
        f"the report of {len(cells)} cells of {sweep}: {len(written)} files",
        [("", str(path)) for path in written],
        then=f"reliabit promote --dry-run --sweep {sweep}",
    )
