"""`reliabit serve`: the champion over HTTP."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config

if TYPE_CHECKING:
    from reliabit.serving.hosting import Source


def serve(config: Config, options: argparse.Namespace) -> None:
    """Serve until told to stop.

    Raises:
        ReliabitError: There is nothing to serve, or it is damaged.
    """
    import torch

    from reliabit.serving.service import run_service

    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    run_service(
        source_of(config, options.bundle),
        host=options.host,
        port=options.port,
        accelerator=config.trainer.accelerator,
    )


def source_of(config: Config, bundle: Path | None) -> "Source":
    """Where the service gets its model: a folder that was pulled, or whatever is champion."""
    from reliabit.serving.hosting import FolderSource

    if bundle is not None:
        return FolderSource(bundle)
    from reliabit.registry.champion_source import ChampionSource
    from reliabit.tracking.opening import open_tracker

    return ChampionSource(open_tracker(config.tracking), cache=Path(config.paths.cache), name=config.registry.model)
