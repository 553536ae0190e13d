"""Waiting for a tracking server that is restarted, so that hours of measuring do not end with it."""

import functools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.tracking.redaction import redact

RESTART_SECONDS = 480.0
"""So long a server may be away: less than the silence after which runs count as dead, since heartbeats wait as well."""

AGAIN_SECONDS = 2.0

SERVERS = ("http://", "https://")

_log = logging.getLogger(__name__)


def ask_often() -> None:
    """Have MLflow try a request twice, as `Patience` asks again, unless the environment says otherwise.

    By itself it waits twice as long after each of eight tries, so that it passes over a server that is back for a
    minute between two of them, and gives up after four minutes.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def is_away(error: BaseException) -> bool:
    """Whether a request failed since nobody answered, or who did is not ready.

    >>> import requests
    >>> is_away(requests.exceptions.ConnectTimeout()), is_away(ValueError())
    (True, False)
    """
    from requests.exceptions import ConnectionError as NoConnectionError
    from requests.exceptions import RetryError, SSLError, Timeout

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NoConnectionError | RetryError | Timeout) and not isinstance(cause, SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class Patience:
    """Waits for one server, as long as `RESTART_SECONDS` from when it was first found away, whoever asks it what."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._until: float | None = None

    def outlasting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call of the server's client, made again while the server is away.

        Raises:
            ReliabitError: The server stays away; what is asked afterwards is asked once.
        """

        @functools.wraps(call)
        def patient(*arguments: Any, **named: Any) -> Any:
            while True:
                try:
                    found = call(*arguments, **named)
                except Exception as error:
                    if not is_away(error):
                        raise
                    self._wait(error)
                else:
                    self._until = None
                    return found

        return patient

    def _wait(self, error: Exception) -> None:
        """Wait a while; whoever interrupts that does not want to wait for the rest either."""
        told = redact(self._uri)
        if self._until is None:
            self._until = time.monotonic() + RESTART_SECONDS
            _log.warning("%s is away; waiting for it, %.0f minutes at most", told, RESTART_SECONDS / 60)
        if time.monotonic() >= self._until:
            raise ReliabitError(
                f"the tracking server {told} was away for too long; start it, and run again (a sweep goes on with "
                "sweep.resume=last)"
            ) from error
        try:
            time.sleep(AGAIN_SECONDS)
        except BaseException:
            self._until = time.monotonic()
            raise
