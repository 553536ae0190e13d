"""`reliabit serve`: the champion over HTTP."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.serving.limits import Limits
from reliabit.serving.listening import bound
from reliabit.serving.manifest import check_bundle
from reliabit.tracking.store.opening import check_registry

if TYPE_CHECKING:
    from reliabit.serving.hosting import Source


def serve(config: Config, options: argparse.Namespace) -> None:
    """Serve until told to stop.

    Raises:
        ReliabitError: The address cannot be taken, there is nothing to serve, it is damaged, or it could be asked from
            elsewhere without a key.
    """
    from reliabit.serving.api_key import check_reach, key_from_environment

    key = key_from_environment()
    limits = Limits() if options.client_connections is None else Limits(client_connections=options.client_connections)
    # Before torch and the model, which take many seconds: the address is taken for good once they are there.
    with bound(options.host, options.port) as sockets:
        check_reach(sockets, host=options.host, key=key)
        check_source(config, options.bundle, digest=options.digest)
    source = source_of(config, options.bundle, digest=options.digest)
    import torch

    from reliabit.serving.service import run_service

    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    run_service(
        source,
        host=options.host,
        port=options.port,
        limits=limits,
        key=key,
        accelerator=config.trainer.accelerator,
    )


def check_source(config: Config, bundle: Path | None, *, digest: str | None = None) -> None:
    """Check what can be told of the source of a model without looking into it.

    Raises:
        ReliabitError: The bundle is none, a digest is none or has no bundle, or runs are recorded where nothing is
            promoted.
    """
    if digest is not None and bundle is None:
        raise ReliabitError("--digest goes with --bundle; of the champion the registry holds the digest")
    if digest is not None and re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise ReliabitError(f"--digest={digest} is no SHA-256; give the 64 digits that `reliabit pull` showed")
    if bundle is not None:
        check_bundle(bundle)
    else:
        check_registry(config.tracking.uri)


def source_of(config: Config, bundle: Path | None, *, digest: str | None = None) -> "Source":
    """Where the service gets its model: a folder that was pulled, or whatever is champion.

    Args:
        config: Where the champion is looked for.
        bundle: A folder instead of it.
        digest: The SHA-256 of that bundle's manifest; `None` where whatever is in the folder may be served.
    """
    from reliabit.serving.hosting import FolderSource

    if bundle is not None:
        return FolderSource(bundle, digest=digest)
    from reliabit.registry.champion_source import ChampionSource
    from reliabit.tracking.tracker import open_tracker

    return ChampionSource(open_tracker(config.tracking), cache=Path(config.paths.cache), name=config.registry.model)
