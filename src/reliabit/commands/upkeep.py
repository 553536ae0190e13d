"""`reliabit reap | sync | doctor`: looking after runs, journals, results and what is shared.

Each command imports what it needs: looking at the cache takes neither numpy nor the tracking store.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.cache import Entry, entries, evict_lru
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.models.pretrained.assembling import describe_state

if TYPE_CHECKING:
    from reliabit.serving.drift.watch import ServedDrift

GIB = 2**30


def reap_runs(config: Config, _: argparse.Namespace) -> None:
    """Close the runs of dead processes, and say which."""
    from reliabit.tracking.reaping import reap
    from reliabit.tracking.tracker import open_tracker

    found = reap(open_tracker(config.tracking))
    for run in found:
        sys.stdout.write(f"closed {run.name} ({run.run_id}): {run.reason}\n")
    sys.stdout.write(f"{len(found)} runs closed\n")


def sync(config: Config, options: argparse.Namespace) -> None:
    """Record what an offline journal and the versioned pipeline hold, and say what came of it.

    Where one of them is named, that one alone.

    Raises:
        ReliabitError: There is neither, or what is there is damaged.
    """
    from reliabit.tracking.journal.sync import sync as sync_journal
    from reliabit.tracking.results_sync import sync_results
    from reliabit.tracking.tracker import Journal, open_tracker

    root = Path(config.paths.root)
    for named, what in ((options.journal, "journal"), (options.results, "folder of results")):
        if named is not None and not named.is_dir():
            raise ReliabitError(f"{named} is no {what}; correct the path")
    journal, results = options.journal, options.results
    if journal is None and results is None:
        journal, results = (path if path.is_dir() else None for path in (root / "mlruns" / "journal", root / "results"))
    if journal is None and results is None:
        raise ReliabitError(
            f"there is nothing to record below {root}: neither a journal of tracking=offline in mlruns/journal, nor "
            "results of dvc repro in results; name them with --journal and --results"
        )
    tracker = open_tracker(config.tracking)
    if isinstance(tracker, Journal):
        raise ReliabitError(
            f"tracking.uri={config.tracking.uri} is a journal, and what is synchronized goes into a store; use "
            "tracking=sqlite or tracking=server"
        )
    if journal is not None:
        done = sync_journal(journal, tracker)
        sys.stdout.write(
            f"{len(done.imported)} runs imported, {done.unchanged} were there, {done.open} are still open\n"
        )
    if results is not None:
        from reliabit.digests import DigestCache

        cache = DigestCache(Path(config.paths.cache) / "digests")
        recorded = sync_results(results, tracker, root=root, cache=cache)
        sys.stdout.write(f"{len(recorded.imported)} cells of {results} recorded, {recorded.unchanged} were there\n")


def doctor(config: Config, options: argparse.Namespace) -> None:
    """Show what is shared by kind and which model is there, make room, and ask a service whether answers drift."""
    cache = Path(config.paths.cache)
    if options.keep_gib is not None:
        removed = evict_lru(cache, limit=int(options.keep_gib * GIB), spare_in_use=False)
        sys.stdout.write(f"removed {len(removed)} entries, {_gib(removed)}\n")
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries(cache):
        kinds[entry.kind].append(entry)
    for kind, found in kinds.items():
        sys.stdout.write(f"{cache / kind}: {len(found)} entries, {_gib(found)}\n")
    if not kinds:
        sys.stdout.write(f"{cache}: nothing is shared yet\n")
    sys.stdout.write(f"{describe_state(Path(config.paths.root))}\n")
    if options.service is not None:
        from reliabit.serving.drift.watch import fetch_drift
        from reliabit.serving.http.access import VARIABLE

        drift = fetch_drift(options.service, key=os.environ.get(VARIABLE, ""))
        sys.stdout.write(f"{_drift_in_words(drift)}\n")


def _drift_in_words(found: "ServedDrift") -> str:
    """What a service says of drift, as a sentence."""
    report = found.report
    state = "ANSWERS HAVE DRIFTED from the certificate's sample" if report.alarm else "no drift found"
    rate = report.abstention_rate
    withheld = "none yet" if rate is None else f"{100 * rate:.1f} % withheld"
    expected = f"{100 * report.calibration_abstention_rate:.1f} %"
    return f"version {found.version}: {state} in {report.answers} answers, {withheld} ({expected} of that sample)"


def _gib(found: Sequence[Entry]) -> str:
    return f"{sum(entry.size for entry in found) / GIB:.3f} GiB"
