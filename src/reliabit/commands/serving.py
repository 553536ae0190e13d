"""`reliabit serve`: the champion over HTTP."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.serving.bundle.manifest import check_bundle
from reliabit.serving.http.limits import Limits
from reliabit.serving.service import bound, check_reach, run_service
from reliabit.threads import threads_of
from reliabit.tracking.store.opening import check_registry

if TYPE_CHECKING:
    from reliabit.serving.hosting import Source


def serve(config: Config, options: argparse.Namespace) -> None:
    """Serve until told to stop.

    Raises:
        ReliabitError: The address cannot be taken, there is nothing to serve, it is damaged, or it could be asked from
            elsewhere without a key.
    """
    limits = Limits() if options.client_connections is None else Limits(client_connections=options.client_connections)
    # Before torch and the model, which take many seconds: the address is taken for good once they are there.
    with bound(options.host, options.port) as sockets:
        # What knows about keys knows about HTTP, and takes a second to import.
        from reliabit.serving.http.access import key_from_environment

        key = key_from_environment()
        check_reach(sockets, host=options.host, key=key)
        _check_source(config, options.bundle, digest=options.digest)
    source = _source(config, options.bundle, digest=options.digest)
    threads = threads_of(config.trainer.threads)
    import torch

    torch.set_num_threads(threads)
    run_service(
        source,
        host=options.host,
        port=options.port,
        limits=limits,
        key=key,
        accelerator=config.trainer.accelerator,
    )


def _check_source(config: Config, bundle: Path | None, *, digest: str | None) -> None:
    """Check what can be told of the source of a model without looking into it."""
    if digest is not None and bundle is None:
        raise ReliabitError("--digest goes with --bundle; of the champion the registry holds the digest")
    if digest is not None and re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise ReliabitError(f"--digest={digest} is no SHA-256; give the 64 digits that `reliabit pull` showed")
    if bundle is not None:
        check_bundle(bundle)
    else:
        check_registry(config.tracking.uri)


def _source(config: Config, bundle: Path | None, *, digest: str | None) -> "Source":
    """Where the service gets its model: a folder that was pulled, or whatever is champion."""
    from reliabit.serving.hosting import FolderSource

    if bundle is not None:
        return FolderSource(bundle, digest=digest)
    from reliabit.registry.champion_source import ChampionSource
    from reliabit.tracking.tracker import open_tracker

    return ChampionSource(open_tracker(config.tracking), cache=Path(config.paths.cache), name=config.registry.model)
