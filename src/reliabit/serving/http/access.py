"""Who may ask: the service's key, hosts and origins; and what is around every request: headers, and what is counted."""

import hmac
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from reliabit.errors import ReliabitError
from reliabit.serving.http.messages import RefusalError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reliabit.serving.http._instruments import Instruments

logger = logging.getLogger(__name__)

VARIABLE = "RELIABIT_API_KEY"
SHORTEST = 16
"""Characters; a key may be guessed at for as long as somebody likes."""

HEADER = "X-API-Key"
BEARER = "bearer "

CLIENT_GONE = 499
"""What is counted where the client left before its answer; nothing is sent."""

SURPLUS = "surplus"
"""Where a request's scope says, in its `state`, why its connection should not be there."""

FOR_SURPLUS = ("/healthz", "/metrics")
"""What is answered where all connections are taken: nothing that takes long."""

OPEN = ("/", "/healthz", "/docs", "/openapi.json")
"""What needs no key: pages that hold nothing secret, and what those that watch over the service ask."""

PATHS = (*OPEN, "/answer", "/batch", "/drift", "/metrics")
PORTS = {"http": "80", "https": "443"}

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""For every answer; nothing allows another origin (CORS)."""


@dataclass(frozen=True)
class ApiKey:
    """A key, of which nothing but its SHA-256 is kept; that is not shown either."""

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


class Guard:
    """ASGI middleware that passes a request on or refuses it, adds headers to its answer, and counts it."""

    def __init__(self, app: "ASGIApp", *, instruments: "Instruments", hosts: Sequence[str], key: ApiKey | None) -> None:
        """Wrap an application for the names in `Host` headers that are answered (`*` for all), and a key, if any."""
        self.app = app
        self.instruments = instruments
        self.hosts = tuple(hosts)
        self.key = key

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        headers = Headers(scope=scope)
        # Whatever else a client asks for must not make a counter of its own.
        path = scope["path"] if scope["path"] in PATHS else "other"
        arrived = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

        async def receive_guarded() -> "Message":
            nonlocal arrived
            message = await receive()
            arrived = arrived or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def send_guarded(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    told.setdefault(name, value)
                if not arrived:
                    # The rest of the body would have to be read before the next request.
                    told["Connection"] = "close"
            await send(message)

        try:
            refused = self._refused(scope, headers)
            app = self.app if refused is None else refused.response()
            await app(scope, receive_guarded, send_guarded)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            if status:
                raise
            # Neither the answer nor the log holds anything of the request.
            logger.exception("a request to %s failed", path)
            failed = JSONResponse({"detail": "the service failed; its log says why"}, status_code=500)
            await failed(scope, receive, send_guarded)
        finally:
            self.instruments.requests.labels(path=path, status=str(status or 500)).inc()
            self.instruments.seconds.labels(path=path).observe(time.perf_counter() - start)

    def _refused(self, scope: "Scope", headers: Headers) -> RefusalError | None:
        """Why a request is not passed on, if it is not; whoever brings the key is told more in some places."""
        foreign = self._foreign(scope["method"], headers)
        if foreign is not None:
            return RefusalError(403, foreign)
        state, path = scope.setdefault("state", {}), scope["path"]
        if SURPLUS in state and path not in FOR_SURPLUS:
            return RefusalError.busy(state[SURPLUS])
        state["trusted"] = self.key is None or self.key.opens(headers)
        if not state["trusted"] and path not in OPEN:
            return RefusalError(
                401, "this needs the service's key; send it as Authorization: Bearer <key> or X-API-Key"
            )
        return None

    def _foreign(self, method: str, headers: Headers) -> str | None:
        """Why a request is not meant for this service, if it is not."""
        host = headers.get("host", "").strip()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if "*" not in self.hosts and name.lower() not in self.hosts:
            # A foreign page may have pointed its own name at this machine (DNS rebinding).
            return "this host name is not served here; use the address that the service was started with"
        # Ports are different sites to nobody but an origin: "same-site" is any page of this machine.
        followed = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if (site not in ("same-origin", "none") and not followed) or not _same_origin(headers.getlist("origin"), host):
            return "pages of other sites and ports may not ask; open the service's own page"
        return None


def _brought(headers: Headers) -> Iterable[str]:
    for value in headers.getlist("authorization"):
        if value[: len(BEARER)].lower() == BEARER:
            yield value[len(BEARER) :].strip()
    yield from headers.getlist(HEADER)


def _same_origin(origins: Sequence[str], host: str) -> bool:
    """Whether a page that asks came from the host that it asks; programs name no origin.

    What is compared are names and ports: a proxy may speak TLS with the browser and none with the service.

    >>> _same_origin(["http://localhost:8000"], "localhost:8000"), _same_origin(["https://a.example"], "a.example:443")
    (True, True)
    >>> _same_origin(["http://localhost:9999"], "localhost:8000"), _same_origin(["null"], "localhost")
    (False, False)
    """
    return all(_is_of(origin.strip(), host.lower()) for origin in origins)


def _is_of(origin: str, host: str) -> bool:
    scheme, found, rest = origin.lower().partition("://")
    return bool(found) and scheme in PORTS and _with_port(rest, scheme) == _with_port(host, scheme)


def _with_port(host: str, scheme: str) -> str:
    return host if host.rpartition("]")[2].count(":") else f"{host}:{PORTS[scheme]}"
