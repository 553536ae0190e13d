"""Running the service: one address, one process, one model, until it is told to stop.

The address is taken before anything heavy is imported or a model is loaded: what is wrong with it is said at once.
"""

import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.serving.http.limits import Limits

if TYPE_CHECKING:
    import uvicorn

    from reliabit.serving.hosting import Source
    from reliabit.serving.http.access import ApiKey

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BACKLOG = 2048
PORTS = range(2**16)

REMEDIES = {
    errno.EADDRINUSE: "something listens there already; stop it or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose 127.0.0.1, or 0.0.0.0 for all that it has",
    errno.EACCES: "the system allows it to nobody but root; choose a port above 1023",
}


def run_service(
    source: "Source",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    accelerator: str = "cpu",
    key: "ApiKey | None" = None,
) -> None:
    """Load the source's model and serve it until SIGTERM or SIGINT; requests that are under way are answered first.

    Args:
        source: Says what is to be served.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        limits: What is taken; the defaults of `Limits` where it is `None`.
        accelerator: `cpu`, `gpu` or `auto`.
        key: What clients must bring to ask; it may be `None` at a loopback address alone.

    Raises:
        ReliabitError: The address cannot be taken or can be reached from elsewhere without a key, there is no model to
            serve, or it cannot be loaded.
    """
    with bound(host, port) as sockets:
        check_reach(sockets, host=host, key=key)
        hosts = default_hosts(host, here=_is_loopback(sockets))
        # Ended as by an error, so that what loading makes for a while is cleaned up.
        with _on_sigterm(lambda number, _: sys.exit(128 + number)):
            server = build_server(source, limits=limits or Limits(), accelerator=accelerator, hosts=hosts, key=key)
        listen(sockets)
        logger.info("listening at %s", ", ".join(_url(one) for one in sockets))
        # uvicorn sends itself the signal once more after it has shut down, for whoever handled it before: the caller is
        # to clean up and exit in good order.
        with _on_sigterm(lambda *_: None), suppress(KeyboardInterrupt):
            server.run(sockets=sockets)


def build_server(
    source: "Source", *, limits: Limits, accelerator: str, hosts: Sequence[str], key: "ApiKey | None" = None
) -> "uvicorn.Server":
    """Load the model and build the server of `run_service`, which then only has to run on its sockets."""
    import uvicorn

    from reliabit.serving.hosting import ModelHost
    from reliabit.serving.http._connection_limiter import ConnectionLimiter
    from reliabit.serving.http._protocol import protocol_class
    from reliabit.serving.http.application import create_application

    model_host = ModelHost(source, accelerator=accelerator)
    application = create_application(model_host, limits=limits, hosts=hosts, key=key)
    instruments = application.state.service.instruments
    count = instruments.count_turned_away
    limiter = ConnectionLimiter(places=limits.connections, each=limits.client_connections, count=count)
    instruments.connections.set_function(lambda: len(limiter))
    config = uvicorn.Config(
        application,
        http=protocol_class(limiter=limiter, limits=limits, count=count),
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


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Take an address for as long as the block lasts; nobody can connect before `listen`.

    Args:
        host: A name or an address; one socket is made for each address of a name.
        port: The port; 0 for any that is free.

    Raises:
        ReliabitError: It is no address of this machine, or is taken.

    Example:
        >>> with bound("127.0.0.1", 0) as [one]:
        ...     one.getsockname()[0]
        '127.0.0.1'
    """
    if port not in PORTS:
        raise ReliabitError(f"there is no port {port}; choose one of 1 to {PORTS[-1]}, or 0 for any that is free")
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # A name with several addresses has one port at all of them.
            wanted = sockets[0].getsockname()[1] if sockets else port
            _bind(one, (address, wanted))
            sockets.append(one)
        yield sockets


def listen(sockets: Sequence[socket.socket]) -> None:
    """Let clients connect to what `bound` took.

    Raises:
        ReliabitError: Something else, which took the address at the same time, listens there by now.
    """
    for one in sockets:
        try:
            one.listen(BACKLOG)
        except OSError as error:
            raise _untaken(one.getsockname(), error) from error


def check_reach(sockets: Sequence[socket.socket], *, host: str, key: "ApiKey | None") -> None:
    """Check that whoever can reach the service from elsewhere must bring a key.

    Raises:
        ReliabitError: There is no key, and an address is not of this machine alone.
    """
    if key is None and not _is_loopback(sockets):
        from reliabit.serving.http.access import VARIABLE

        raise ReliabitError(
            f"whoever reaches {host} could ask without a key; set {VARIABLE} (such as to `openssl rand -hex 24`), "
            "or listen at 127.0.0.1"
        )


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


def _is_loopback(sockets: Sequence[socket.socket]) -> bool:
    """Whether sockets can be reached from this machine alone."""
    return all(ip_address(one.getsockname()[0]).is_loopback for one in sockets)


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host, without those of a protocol that this machine does not speak."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ReliabitError(
            f"no address is known for the host {host!r}; choose 127.0.0.1, or 0.0.0.0 for all"
        ) from error
    addresses: list[tuple[socket.AddressFamily, str]]
    addresses = list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))
    return [one for one in addresses if len(addresses) == 1 or _is_here(*one)] or addresses[:1]


def _is_here(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _bind(one: socket.socket, address: tuple[str, int]) -> None:
    # The port of a service that has just ended is free, though connections to it are still being wound up.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        one.bind(address)
    except OSError as error:
        raise _untaken(address, error) from error


def _untaken(address: Sequence[object], error: OSError) -> ReliabitError:
    number = error.errno or 0
    remedy = REMEDIES.get(number, f"{os.strerror(number)}; choose another address")
    return ReliabitError(f"the service cannot listen at {address[0]} port {address[1]}: {remedy}")


def _url(one: socket.socket) -> str:
    address, port = one.getsockname()[:2]
    return f"http://[{address}]:{port}" if one.family == socket.AF_INET6 else f"http://{address}:{port}"


@contextmanager
def _on_sigterm(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, handler)
    try:
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
