"""`reliabit report`: one page of a sweep, for readers who have neither the project nor its store."""

import argparse
import shlex
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from reliabit.config import Config
from reliabit.evaluation.cells import common_confidence
from reliabit.evaluation.sweep_report import PAGE, ReportedSweep, pictures_of, without_pictures
from reliabit.files import check_no_folder, write_text
from reliabit.progress import step
from reliabit.registry.verdict import verdicts
from reliabit.terminal import show_result, shown_path
from reliabit.tracking.redaction import redact
from reliabit.tracking.sweep.parent import check_ended, find_sweep
from reliabit.tracking.sweep.report import measured_sweep, sweep_page
from reliabit.tracking.tracker import TrackedRun, open_tracker


def report(config: Config, options: argparse.Namespace) -> None:
    """Write the page, and record it on the parent run.

    Raises:
        ReliabitError: There is no such sweep, it is still running, no cell finished, its cells cannot be compared, or a
            folder stands where the page should be written.
    """
    check_no_folder(options.file, option="--file")
    with step("opening the store"):
        tracker = open_tracker(config.tracking)
    found = find_sweep(tracker, options.sweep)
    check_ended(found)
    parent = found.info.run_id
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
    then = _next(options, sweep, parent=parent)
    with step("writing the report"):
        page = sweep_page(tracker, parent, sweep, cache=Path(config.paths.cache), then=then)
        write_text(options.file, page)
        with TemporaryDirectory() as folder:
            write_text(Path(folder, PAGE), page)
            TrackedRun(tracker.client, parent).log_file(Path(folder, PAGE))
    size = f"{len(page.encode()) / 1e6:.2f} MB"
    show_result(
        f"the report of {len(sweep.cells)} configurations", [("file", f"{shown_path(options.file)}, {size}")], then=then
    )


def _next(options: argparse.Namespace, sweep: ReportedSweep, *, parent: str) -> str:
    """The gate, by a confidence that all cells have, at the place and by the policy of this command."""
    confidence = common_confidence(sweep.cells, wanted=sweep.policy.confidence)
    own = [] if confidence == sweep.policy.confidence else [f"registry.confidence={confidence}"]
    kept = [one for one in options.overrides if not own or not one.startswith("registry.confidence=")]
    return redact(shlex.join(["reliabit", "promote", "--dry-run", "--sweep", parent, *own, *kept]))
