"""`reliabit`: what is done about runs, rather than by them.

Overrides are those of `src/run.py`, such as `tracking=offline` or `tracking.uri=...`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from reliabit.cache import Entry, entries, make_room
from reliabit.composition import conf_folder, register, to_config
from reliabit.config import Config
from reliabit.config_errors import in_one_line
from reliabit.errors import ReliabitError

GIB = 2**30


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what the user can put right ends in one line and status 2."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    options = parser().parse_args(arguments)
    try:
        options.command(compose_config(options.overrides), options)
    except (ReliabitError, HydraException, OmegaConfBaseException) as error:
        sys.stderr.write(in_one_line(error))
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="reliabit", description="Look after recorded runs and shared results.")
    commands = top.add_subparsers(required=True)
    for name, command, text in (
        ("reap", reap_runs, "close the runs of dead processes"),
        ("sync", sync_journal, "import the journal of tracking=offline into a tracking store, once"),
        ("doctor", doctor, "show what is shared below paths.cache, and make room"),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("overrides", nargs="*", help="overrides of the configuration, such as tracking.uri=...")
        one.set_defaults(command=command)
        if name == "sync":
            one.add_argument("--journal", type=Path, help="the journal's folder; mlruns/journal by default")
        if name == "doctor":
            one.add_argument("--keep-gib", type=float, help="remove what was of no use for longest, down to so much")
    return top


def compose_config(overrides: Sequence[str]) -> Config:
    """The configuration that overrides describe."""
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=list(overrides)))


def reap_runs(config: Config, _: argparse.Namespace) -> None:
    """Close the runs of dead processes, and say which."""
    from reliabit.tracking.opening import open_tracker
    from reliabit.tracking.reaping import reap

    found = reap(open_tracker(config.tracking))
    for run in found:
        sys.stdout.write(f"closed {run.name} ({run.run_id}): {run.reason}\n")
    sys.stdout.write(f"{len(found)} runs closed\n")


def sync_journal(config: Config, options: argparse.Namespace) -> None:
    """Import a journal, and say what came of it."""
    from reliabit.tracking.journal_sync import sync
    from reliabit.tracking.opening import open_tracker

    folder = options.journal or Path(config.paths.root) / "mlruns" / "journal"
    if not folder.is_dir():
        raise ReliabitError(f"{folder} is no journal; record runs with tracking=offline, or name it with --journal")
    done = sync(folder, open_tracker(config.tracking))
    sys.stdout.write(f"{len(done.imported)} runs imported, {done.unchanged} were there, {done.open} are still open\n")


def doctor(config: Config, options: argparse.Namespace) -> None:
    """Show what is shared by kind, and make room where that is asked for."""
    cache = Path(config.paths.cache)
    if options.keep_gib is not None:
        removed = make_room(cache, limit=int(options.keep_gib * GIB))
        sys.stdout.write(f"removed {len(removed)} entries, {_gib(removed)}\n")
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries(cache):
        kinds[entry.kind].append(entry)
    for kind, found in kinds.items():
        sys.stdout.write(f"{cache / kind}: {len(found)} entries, {_gib(found)}\n")
    if not kinds:
        sys.stdout.write(f"{cache}: nothing is shared yet\n")


def _gib(found: Sequence[Entry]) -> str:
    return f"{sum(entry.size for entry in found) / GIB:.3f} GiB"
