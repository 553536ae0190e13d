"""Running the service: one process, one model, until it is told to stop."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from reliabit.serving.application import application_of
from reliabit.serving.hosting import ModelHost, Source
from reliabit.serving.limits import Limits

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def run_service(
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    accelerator: str = "cpu",
    hosts: Sequence[str] | None = None,
) -> None:
    """Load the source's model and serve it until SIGTERM or SIGINT; requests that are under way are answered first.

    Args:
        source: Says what is to be served.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        limits: What is taken; the defaults of `Limits` where it is `None`.
        accelerator: `cpu`, `gpu` or `auto`.
        hosts: The names in `Host` headers that are answered: by default those of this machine itself when listening at
            a loopback address, and all otherwise.

    Raises:
        ReliabitError: There is no model to serve, or it cannot be loaded.
    """
    server = build_server(source, host=host, port=port, limits=limits or Limits(), accelerator=accelerator, hosts=hosts)
    with _returning_when_told():
        server.run()


def build_server(
    source: Source, *, host: str, port: int, limits: Limits, accelerator: str, hosts: Sequence[str] | None
) -> "uvicorn.Server":
    """Load the model and build the server of `run_service`, which then only has to run."""
    import uvicorn

    model_host = ModelHost(source, accelerator=accelerator)
    names = hosts if hosts is not None else default_hosts(host)
    config = uvicorn.Config(
        application_of(model_host, limits=limits, hosts=names),
        host=host,
        port=port,
        log_config=_log_config(),
        # It would write what clients ask for into the log.
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=int(limits.answer_seconds) + 1,
    )
    _quieten()
    model_host.refresh()
    return uvicorn.Server(config)


def default_hosts(host: str) -> tuple[str, ...]:
    """The `Host` names that are answered when listening at an address.

    >>> default_hosts("127.0.0.1")
    ('127.0.0.1', 'localhost', '[::1]')
    >>> default_hosts("0.0.0.0")
    ('*',)
    """
    return LOOPBACK if host in ("localhost", "::1") or host.startswith("127.") else ("*",)


@contextmanager
def _returning_when_told() -> Iterator[None]:
    """Let the block return after a signal that ended it, so that the caller can clean up and exit in good order.

    uvicorn sends itself the signal once more after it has shut down, for whoever handled it before.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _log_config() -> dict[str, Any]:
    """uvicorn's, with our own messages beside its."""
    from uvicorn.config import LOGGING_CONFIG

    ours = {"reliabit": {"handlers": ["default"], "level": "INFO"}}
    return {**LOGGING_CONFIG, "loggers": {**LOGGING_CONFIG["loggers"], **ours}}


def _quieten() -> None:
    """No progress bars between the lines of the log."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
