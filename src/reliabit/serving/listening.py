"""The address of the service, taken before a model is loaded: what is wrong with it is said at once."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from reliabit.errors import ReliabitError

BACKLOG = 2048
PORTS = range(2**16)

REMEDIES = {
    errno.EADDRINUSE: "something listens there already; stop it or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose 127.0.0.1, or 0.0.0.0 for all that it has",
    errno.EACCES: "the system allows it to nobody but root; choose a port above 1023",
}


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
            raise _refused(one.getsockname(), error) from error


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host, without those of a protocol that this machine does not speak."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ReliabitError(
            f"no address is known for the host {host!r}; choose 127.0.0.1, or 0.0.0.0 for all"
        ) from error
    addresses: list[tuple[socket.AddressFamily, str]] = []
    for family, _, _, _, place in found:
        if (family, str(place[0])) not in addresses:
            addresses.append((family, str(place[0])))
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
        raise _refused(address, error) from error


def _refused(address: Sequence[object], error: OSError) -> ReliabitError:
    number = error.errno or 0
    remedy = REMEDIES.get(number, f"{os.strerror(number)}; choose another address")
    return ReliabitError(f"the service cannot listen at {address[0]} port {address[1]}: {remedy}")
