"""HTTP/1.1 for strangers: uvicorn's protocol, which would wait for them as long as they like, with an end to it.

A connection either waits for the header of a request, which must be whole in time, or has a request under way, for
which the application sets the times. What a client sends beyond its answer is thrown away, and so is what it never
reads.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reliabit.serving.http._connection_limiter import ConnectionLimiter, client_of
from reliabit.serving.http.access import SURPLUS
from reliabit.serving.http.limits import Limits

FEW_PARTS, PART_BYTES = 256, 256
"""A body may come in so many parts of any size; in more than that they hold so many bytes each on average."""


class MeteredConnection(h11.Connection):
    """Refuses bodies in very many very small parts, each of which takes as long to handle as a large one."""

    def __init__(self, our_role: Any, max_incomplete_event_size: int) -> None:
        super().__init__(our_role, max_incomplete_event_size)
        self._parts = self._bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._parts = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._parts += 1
            self._bytes += len(event.data)
            if self._parts > FEW_PARTS and self._bytes < PART_BYTES * self._parts:
                raise h11.RemoteProtocolError("the body comes in parts that are too small")
        return event


class LastingTransport:
    """A transport whose `close` is the protocol's `finish`."""

    def __init__(self, transport: asyncio.Transport, protocol: "ServiceProtocol") -> None:
        self._transport = transport
        self._protocol = protocol

    def close(self) -> None:
        """See `ServiceProtocol.finish`."""
        self._protocol.finish()

    def is_closing(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._protocol.finished or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ServiceProtocol(H11Protocol):
    """One connection; `protocol_class` says what it is limited by."""

    limiter: ConnectionLimiter
    limits: Limits
    count: Callable[[str], None]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # The state of the application becomes that of every request, and this connection adds to it.
        super().__init__(config, server_state, dict(app_state), _loop)
        self.conn = MeteredConnection(h11.SERVER, config.h11_max_incomplete_event_size or 16 * 1024)
        self.owner = ""
        self.waiting_since: float | None = None
        self.finished = False
        self._header: asyncio.TimerHandle | None = None
        self._written: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.raw = transport
        self.transport = LastingTransport(transport, self)  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.owner = client_of(str(peer[0])) if isinstance(peer, tuple) else ""
        refused = self.limiter.admit(self)
        if refused is not None:
            self.app_state[SURPLUS] = refused
        self._settle()

    def data_received(self, data: bytes) -> None:
        if not self.finished:
            super().data_received(data)
            self._settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if SURPLUS in self.app_state:
            self.finish()
        self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_after(self.limits.write_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.finished:
            _cancel(self._written)

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.release(self)
        self.finished = True
        _cancel(self._header)
        _cancel(self._written)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if not self.finished:
            super().shutdown()

    def finish(self) -> None:
        """Send what is left to be sent, and close.

        Of a body, or of what is no HTTP, that is still on its way the rest is thrown away for a moment: closing at once
        would have the system reset the connection, and the client would lose the answer that says why.
        """
        if self.finished:
            return
        self.finished, self.waiting_since = True, None
        _cancel(self._header)
        if self.conn.their_state in (h11.SEND_BODY, h11.ERROR) and not self.raw.is_closing():
            # The client may have gone a moment ago.
            with suppress(OSError):
                self.raw.write_eof()
            self.flow.resume_reading()
            self._end_after(self.limits.linger_seconds)
        else:
            self.raw.close()
            self._end_after(self.limits.write_seconds)

    def turn_away(self, reason: str) -> None:
        """Close it; with 503 and the reason, where it is due an answer or never had one."""
        self._refuse(503, f"{reason}; try again in 1 s", more="Retry-After: 1\r\n")

    def send_400_response(self, msg: str) -> None:
        self.count("malformed")
        self._refuse(400, "this is no HTTP that is taken, or its header is too large, or its body comes in tiny parts")

    def _settle(self) -> None:
        """Start or stop the clock of the header, as the state of the connection wants it."""
        waiting = self.conn.our_state is h11.IDLE and not self.finished
        if waiting and self.waiting_since is None:
            self.waiting_since = self.loop.time()
            seconds = self.limits.surplus_seconds if SURPLUS in self.app_state else self.limits.header_seconds
            self._header = self.loop.call_later(seconds, self._give_up_header, seconds)
        elif not waiting and self.waiting_since is not None:
            self.waiting_since = None
            _cancel(self._header)

    def _give_up_header(self, seconds: float) -> None:
        self.count("header")
        self._refuse(408, f"no request arrived within {seconds:g} s; send its header at once")

    def _refuse(self, status: int, reason: str, *, more: str = "") -> None:
        """Answer without the application, unless an answer is under way or nothing was asked after the last one."""
        between = self.cycle is None or self.cycle.response_complete
        asked = self.cycle is None or bool(self.conn.trailing_data[0])
        if not self.raw.is_closing() and not self.finished and (asked if between else not self.cycle.response_started):
            body = json.dumps({"detail": reason}).encode()
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n{more}\r\n"
            )
            self.raw.write(head.encode() + body)
        if self.cycle is not None and not between:
            # Whoever works on it learns that nobody waits for it any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.finish()

    def _end_after(self, seconds: float) -> None:
        _cancel(self._written)
        self._written = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if not self.finished:
            self.count("unread")
        self.raw.abort()


def protocol_class(
    *, limiter: ConnectionLimiter, limits: Limits, count: Callable[[str], None]
) -> type[ServiceProtocol]:
    """The class that uvicorn makes a connection's protocol of.

    Args:
        limiter: Gives it a place.
        limits: How long is waited for what.
        count: Is told why a connection is closed: `header`, `malformed` or `unread`.
    """
    return type(
        "BoundProtocol", (ServiceProtocol,), {"limiter": limiter, "limits": limits, "count": staticmethod(count)}
    )


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
