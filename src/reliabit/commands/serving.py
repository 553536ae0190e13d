"""`reliabit serve`: the champion over HTTP."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.serving.listening import bound
from reliabit.serving.manifest import check_bundle
from reliabit.tracking.address import check_registry

if TYPE_CHECKING:
    from reliabit.serving.hosting import Source


def serve(config: Config, options: argparse.Namespace) -> None:
    """Serve until told to stop.

    Raises:
        ReliabitError: The address cannot be taken, there is nothing to serve, or it is damaged.
    """
    # Before torch and the model, which take many seconds: the address is taken for good once they are there.
    with bound(options.host, options.port):
        check_source(config, options.bundle)
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


def check_source(config: Config, bundle: Path | None) -> None:
    """Check what can be told of the source of a model without looking into it.

    Raises:
        ReliabitError: The bundle is none, or runs are recorded where nothing is promoted.
    """
    if bundle is not None:
        check_bundle(bundle)
    else:
        check_registry(config.tracking.uri)


def source_of(config: Config, bundle: Path | None) -> "Source":
    """Where the service gets its model: a folder that was pulled, or whatever is champion."""
    from reliabit.serving.hosting import FolderSource

    if bundle is not None:
        return FolderSource(bundle)
    from reliabit.registry.champion_source import ChampionSource
    from reliabit.tracking.opening import open_tracker

    return ChampionSource(open_tracker(config.tracking), cache=Path(config.paths.cache), name=config.registry.model)
