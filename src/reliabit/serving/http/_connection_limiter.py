"""Who has a connection: so many altogether, so many for each client, and a few more that are only told so.

uvicorn's `limit_concurrency` would refuse everything, `/healthz` as well, whoever asks and however idle the others.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Protocol

SURPLUS_PLACES = 32
"""Connections beyond the limits that are kept until they have asked: `/healthz` is answered, all else refused."""

TAKEN = "all connections of this service are taken"
CLIENT_TAKEN = "this client has as many connections as one may have"


class Connection(Protocol):
    """What the limiter knows of a connection.

    Attributes:
        owner: Whose it is; see `client_of`.
        waiting_since: Since when no request of it is under way, by the clock of the loop; `None` while one is.
    """

    owner: str
    waiting_since: float | None

    def turn_away(self, reason: str) -> None:
        """Close it, with the reason as its answer where it still waits for one."""


class ConnectionLimiter:
    """Gives places to connections.

    Nobody holds a place by sending nothing: where all are taken, the connection that has waited longest without a
    request gives its own to a new one. Where requests are under way on all of them, the new one is surplus.
    """

    def __init__(self, *, places: int, each: int, count: Callable[[str], None]) -> None:
        """Have so many places of all clients together, and for each; all are free.

        `count` is told of everyone who is turned away: `limit`, `client`, or `waiting` for who gives a place away.
        """
        self._places = places
        self._each = each
        self._count = count
        self._admitted: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self._surplus: OrderedDict[Connection, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._admitted) + len(self._surplus)

    def admit(self, connection: Connection) -> str | None:
        """Give a connection a place; or say why it gets none and is surplus."""
        refused = None
        if self._clients[connection.owner] >= self._each:
            own = (one for one in self._admitted if one.owner == connection.owner)
            refused = None if self._make_room(own, CLIENT_TAKEN) else ("client", CLIENT_TAKEN)
        if refused is None and len(self._admitted) >= self._places:
            refused = None if self._make_room(self._admitted, TAKEN) else ("limit", TAKEN)
        if refused is None:
            self._admitted.add(connection)
            self._clients[connection.owner] += 1
            return None
        kind, reason = refused
        self._count(kind)
        self._surplus[connection] = reason
        if len(self._surplus) > SURPLUS_PLACES:
            oldest, why = self._surplus.popitem(last=False)
            oldest.turn_away(why)
        return reason

    def release(self, connection: Connection) -> None:
        """Take a place back, if there is one to take."""
        self._surplus.pop(connection, None)
        if connection in self._admitted:
            self._admitted.remove(connection)
            self._clients[connection.owner] -= 1
            if not self._clients[connection.owner]:
                del self._clients[connection.owner]

    def _make_room(self, among: Iterable[Connection], reason: str) -> bool:
        """Take the place of whoever has waited longest; whether somebody did."""
        waiting = [(one.waiting_since, one) for one in among if one.waiting_since is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda found: found[0])
        self.release(longest)
        self._count("waiting")
        longest.turn_away(reason)
        return True


def client_of(address: str) -> str:
    """Whom an address belongs to: everyone has one IPv4 address, but 2^64 of IPv6.

    >>> client_of("192.0.2.7"), client_of("::ffff:192.0.2.7"), client_of("2001:db8::1:2:3:4")
    ('192.0.2.7', '192.0.2.7', '2001:db8::/64')
    """
    try:
        # A scope, as in fe80::1%eth0, is this machine's own.
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
