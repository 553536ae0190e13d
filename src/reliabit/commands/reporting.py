"""`reliabit report`: one page of a sweep, for readers who have neither the project nor its store."""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from reliabit.config import Config
from reliabit.evaluation.sweep_report import PAGE
from reliabit.evaluation.sweep_report.questions import without_pictures
from reliabit.progress import step
from reliabit.registry.verdict import verdicts
from reliabit.tasks._pictures import pictures_of
from reliabit.terminal import show_result, shown_path
from reliabit.tracking.sweep.parent import check_ended, find_sweep
from reliabit.tracking.sweep.report import measured_sweep, sweep_page, write_page
from reliabit.tracking.tracker import TrackedRun, open_tracker


def report(config: Config, options: argparse.Namespace) -> None:
    """Write the page, and record it on the parent run.

    Raises:
        ReliabitError: There is no such sweep, it is still running, no cell finished, or its cells cannot be compared.
    """
    with step("opening the store"):
        tracker = open_tracker(config.tracking)
    found = find_sweep(tracker, options.sweep)
    check_ended(found)
    parent, then = found.info.run_id, f"reliabit promote --dry-run --sweep {found.info.run_id}"
    tables = Path(config.paths.data)
    sweep = measured_sweep(
        tracker,
        parent,
        settings=config.evaluation,
        policy=config.registry,
        judge=partial(verdicts, policy=config.registry),
        illustrate=without_pictures if options.without_pictures else partial(pictures_of, tables=tables),
        prepared=tables if config.sweep.image_slices else None,
    )
    with step("writing the report"):
        page = sweep_page(tracker, parent, sweep, cache=Path(config.paths.cache), then=then)
        write_page(page, options.file)
        with TemporaryDirectory() as folder:
            write_page(page, Path(folder, PAGE))
            TrackedRun(tracker.client, parent).log_file(Path(folder, PAGE))
    size = f"{len(page.encode()) / 1e6:.2f} MB"
    show_result(
        f"the report of {len(sweep.cells)} configurations", [("file", f"{shown_path(options.file)}, {size}")], then=then
    )
