"""`task=report`: the paper's tables, figures and findings from the predictions of a recorded sweep."""

import sys

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.paper import paper_report
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
    found = paper_report(cells_of(tracker, finished), config.evaluation)
    for path in found.write(config.paths.output_folder()):
        sys.stdout.write(f"{path}\n")
