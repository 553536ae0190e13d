"""Around every request: who may ask, what a browser is told, and what is counted."""

import logging
import time
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reliabit.serving.instruments import Instruments

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What is counted where the client left before its answer; nothing is sent."""

PATHS = ("/", "/answer", "/batch", "/healthz", "/drift", "/metrics", "/docs", "/openapi.json")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""For every answer; nothing allows another origin (CORS)."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: "ASGIApp", *, instruments: "Instruments", hosts: Sequence[str]) -> None:
        """Wrap an application.

        Args:
            app: The application.
            instruments: Where requests are counted.
            hosts: The names in `Host` headers that are answered; `*` for all.
        """
        self.app = app
        self.instruments = instruments
        self.hosts = tuple(hosts)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on, or refuse it, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_guarded(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        try:
            reason = self._foreign(Headers(scope=scope))
            app = self.app if reason is None else JSONResponse({"detail": reason}, status_code=403)
            await app(scope, receive, send_guarded)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            if status:
                raise
            # Neither the answer nor the log holds anything of the request.
            logger.exception("a request to %s failed", _path(scope))
            await JSONResponse({"detail": "the service failed; its log says why"}, status_code=500)(
                scope, receive, send_guarded
            )
        finally:
            self.instruments.requests.labels(path=_path(scope), status=str(status or 500)).inc()
            self.instruments.seconds.labels(path=_path(scope)).observe(time.perf_counter() - start)

    def _foreign(self, headers: Headers) -> str | None:
        """Why a request is not meant for this service, if it is not."""
        host = headers.get("host", "").strip()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if "*" not in self.hosts and name.lower() not in self.hosts:
            # A foreign page may have pointed its own name at this machine (DNS rebinding).
            return "this host name is not served here; use the address that the service was started with"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "pages of other sites may not ask; open the service's own page"
        return None


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


def _path(scope: "Scope") -> str:
    # Whatever else a client asks for must not make a counter of its own.
    return scope["path"] if scope["path"] in PATHS else "other"
