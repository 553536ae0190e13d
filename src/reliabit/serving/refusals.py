"""Why a request is turned away: a status and one sentence."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse


class RefusalError(Exception):
    """A request that is not answered.

    Attributes:
        status: Of HTTP, 4xx or 503 or 504.
        reason: One sentence for the client; nothing of what it sent is in it but names of fields.
        retry_after: Seconds after which trying again may help.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        """Say why.

        Args:
            status: See the class.
            reason: See the class.
            retry_after: See the class.
        """
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def refusal_response(error: RefusalError) -> JSONResponse:
    """What a client is told."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"detail": error.reason}, status_code=error.status, headers=headers)


def invalid(error: ValidationError) -> RefusalError:
    """What is wrong with an object: 422, with the first three of its faults."""
    problems: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
    named = [f"{_place(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in problems[:3]]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return RefusalError(422, "; ".join(named) + more)


def _place(location: Sequence[Any]) -> str:
    # A name that a client made up may be anything, and long.
    return ".".join(str(part)[:40] for part in location) or "body"
