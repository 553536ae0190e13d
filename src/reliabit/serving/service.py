"""Running the service: one process, one model, until it is told to stop."""

import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from reliabit.serving.admission import Admission
from reliabit.serving.api_key import ApiKey, check_reach, is_loopback
from reliabit.serving.application import application_of
from reliabit.serving.hosting import ModelHost, Source
from reliabit.serving.limits import Limits
from reliabit.serving.listening import bound, listen

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def run_service(
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    accelerator: str = "cpu",
    hosts: Sequence[str] | None = None,
    key: ApiKey | None = None,
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
        key: What clients must bring to ask; it may be `None` at a loopback address alone.

    Raises:
        ReliabitError: The address cannot be taken or can be reached from elsewhere without a key, there is no model to
            serve, or it cannot be loaded.
    """
    with bound(host, port) as sockets:
        check_reach(sockets, host=host, key=key)
        here = is_loopback(sockets)
        names = hosts if hosts is not None else default_hosts(host, here=here)
        with _exiting_when_told():
            server = build_server(source, limits=limits or Limits(), accelerator=accelerator, hosts=names, key=key)
        listen(sockets)
        logger.info("listening at %s", ", ".join(_url(one) for one in sockets))
        with _returning_when_told():
            server.run(sockets=sockets)


def build_server(
    source: Source, *, limits: Limits, accelerator: str, hosts: Sequence[str], key: ApiKey | None = None
) -> "uvicorn.Server":
    """Load the model and build the server of `run_service`, which then only has to run on its sockets."""
    import uvicorn

    from reliabit.serving.protocol import protocol_class

    model_host = ModelHost(source, accelerator=accelerator)
    application = application_of(model_host, limits=limits, hosts=hosts, key=key)
    instruments = application.state.service.instruments
    admission = Admission(
        places=limits.connections, each=limits.client_connections, count=instruments.count_turned_away
    )
    instruments.connections.set_function(lambda: len(admission))
    config = uvicorn.Config(
        application,
        http=protocol_class(admission=admission, limits=limits, count=instruments.count_turned_away),
        # Nothing but HTTP is spoken, and nobody is believed who says for whom he asks.
        ws="none",
        proxy_headers=False,
        log_config=_log_config(),
        # It would write what clients ask for into the log.
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=int(limits.answer_seconds) + 1,
    )
    _quieten()
    model_host.refresh()
    return uvicorn.Server(config)


def default_hosts(host: str, *, here: bool) -> tuple[str, ...]:
    """The `Host` names that are answered when listening at an address.

    Args:
        host: A name or an address.
        here: Whether it can be reached from this machine alone.

    >>> default_hosts("127.0.0.2", here=True)
    ('127.0.0.1', 'localhost', '[::1]', '127.0.0.2')
    >>> default_hosts("0.0.0.0", here=False)
    ('*',)
    """
    if not here:
        return ("*",)
    return LOOPBACK if host in LOOPBACK or ":" in host else (*LOOPBACK, host.lower())


def _url(one: socket.socket) -> str:
    address, port = one.getsockname()[:2]
    return f"http://[{address}]:{port}" if one.family == socket.AF_INET6 else f"http://{address}:{port}"


@contextmanager
def _exiting_when_told() -> Iterator[None]:
    """Let SIGTERM end the block as an error would, so that what it made for a while is cleaned up."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
