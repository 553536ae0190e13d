"""Why a request is turned away: a status and one sentence."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError


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


def invalid(error: ValidationError) -> RefusalError:
    """What is wrong with a body: 400 where it is no JSON, 422 where it is not the JSON that is wanted."""
    problems: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
    if any(problem["type"] == "json_invalid" for problem in problems):
        return RefusalError(400, "the body is no JSON; send an object with image and question")
    named = [f"{_place(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in problems[:3]]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return RefusalError(422, "; ".join(named) + more)


def _place(location: Sequence[Any]) -> str:
    # A name that a client made up may be anything, and long.
    return ".".join(str(part)[:40] for part in location) or "body"
