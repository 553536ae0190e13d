"""The key without which the service answers no questions, where there is one."""

import hmac
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address

from starlette.datastructures import Headers

from reliabit.errors import ReliabitError

VARIABLE = "RELIABIT_API_KEY"
SHORTEST = 16
"""Characters; a key may be guessed at for as long as somebody likes."""

HEADER = "X-API-Key"
BEARER = "bearer "


@dataclass(frozen=True)
class ApiKey:
    """A key, of which nothing but its hash is kept; that is not shown either.

    Attributes:
        digest: The SHA-256 of the key.
    """

    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str) -> "ApiKey":
        """The key that clients are to send.

        Raises:
            ReliabitError: It is too short, or cannot be sent in a header.
        """
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or key != key.strip():
            raise ReliabitError(
                f"the key in {VARIABLE} has less than {SHORTEST} characters or holds some that no header can; make one "
                "with `openssl rand -hex 24`"
            )
        return cls(sha256(key.encode()).digest())

    def opens(self, headers: Headers) -> bool:
        """Whether a request brings the key, as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

        >>> key = ApiKey.of("correct horse battery")
        >>> key.opens(Headers({"Authorization": "Bearer correct horse battery"})), key.opens(Headers({}))
        (True, False)
        """
        return any(self._is(one) for one in _brought(headers))

    def _is(self, brought: str) -> bool:
        # Of two hashes, neither what is alike nor how long the key is can be told from the time that this takes.
        return hmac.compare_digest(sha256(brought.encode("latin-1")).digest(), self.digest)


def key_from_environment(environment: Mapping[str, str] = os.environ) -> ApiKey | None:
    """The key in `RELIABIT_API_KEY`, if there is one.

    Raises:
        ReliabitError: It is none that could be used.
    """
    key = environment.get(VARIABLE, "")
    return ApiKey.of(key) if key else None


def _brought(headers: Headers) -> Iterable[str]:
    for value in headers.getlist("authorization"):
        if value[: len(BEARER)].lower() == BEARER:
            yield value[len(BEARER) :].strip()
    yield from headers.getlist(HEADER)


def is_loopback(sockets: Sequence[socket.socket]) -> bool:
    """Whether sockets can be reached from this machine alone."""
    return all(ip_address(one.getsockname()[0]).is_loopback for one in sockets)


def check_reach(sockets: Sequence[socket.socket], *, host: str, key: ApiKey | None) -> None:
    """Check that whoever can reach the service from elsewhere must bring a key.

    Raises:
        ReliabitError: There is no key, and an address is not of this machine alone.
    """
    if key is None and not is_loopback(sockets):
        raise ReliabitError(
            f"whoever reaches {host} could ask without a key; set {VARIABLE} (such as to `openssl rand -hex 24`), "
            "or listen at 127.0.0.1"
        )
