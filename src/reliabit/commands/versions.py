"""`reliabit rollback | history | delete | pull`: the versions that are and were live.

Each command imports what it needs: listing what happened takes neither numpy nor the gate.
"""

import argparse
import sys
from pathlib import Path

from reliabit.config import Config
from reliabit.tracking.tracker import open_tracker


def roll_back(config: Config, options: argparse.Namespace) -> None:
    """Give the alias back to an earlier champion."""
    from reliabit.registry import promotion

    attempt = promotion.rollback(
        open_tracker(config.tracking), config.registry.model, to=options.to, reason=options.reason
    )
    sys.stdout.write(f"champion is models:/{config.registry.model}/{attempt.version}, before {attempt.previous}\n")


def show_history(config: Config, _: argparse.Namespace) -> None:
    """List every attempt to change the champion."""
    from reliabit.registry.attempts import show_attempts
    from reliabit.registry.history import history

    show_attempts(history(open_tracker(config.tracking), config.registry.model))


def delete(config: Config, options: argparse.Namespace) -> None:
    """Delete a version that no alias names."""
    from reliabit.registry.versions import delete_version

    delete_version(open_tracker(config.tracking), config.registry.model, options.version)
    sys.stdout.write(f"models:/{config.registry.model}/{options.version} is deleted\n")


def pull_bundle(config: Config, options: argparse.Namespace) -> None:
    """Fetch a promoted bundle, every file checked."""
    from reliabit.registry.pulling import pull

    pulled = pull(open_tracker(config.tracking), options.uri, Path(options.folder), replace=options.replace)
    how = "fetched and verified" if pulled.fetched else "was there and is verified"
    sys.stdout.write(f"{pulled.version.uri} in {pulled.folder}: {how}, digest {pulled.version.digest}\n")
