"""Reading the body of a request: never more of it than allowed, in the form that its type says.

Nothing is parsed before it was counted, and nothing large in the event loop, in which everyone else's requests wait.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from reliabit.serving.limits import Limits
from reliabit.serving.messages import Request, Requests
from reliabit.serving.refusals import RefusalError, invalid

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request as HttpRequest
    from starlette.types import Message

JSON, FORM = "application/json", "multipart/form-data"
FIELDS = ("image", "question", "risk")
UNKNOWN_FIELDS = 3
"""Unknown fields of an object that are named one by one."""

LARGE = 2**16
"""Bytes of a body above which it is parsed in a thread."""

KIB = 1024

Parsed = TypeVar("Parsed")


class Room:
    """What the bodies of all requests together may hold."""

    def __init__(self, most: int) -> None:
        """Nothing is held yet.

        Args:
            most: Bytes.
        """
        self._most = most
        self._held = 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes so many bytes more; all are given back when the block ends.

        >>> room = Room(10)
        >>> with room.held() as one, room.held() as other:
        ...     one(6)
        ...     other(5)
        Traceback (most recent call last):
        ...
        reliabit.serving.refusals.RefusalError: all requests together have too large bodies; try again in 1 s
        >>> with room.held() as again:
        ...     again(10)
        """
        taken = 0

        def take(more: int) -> None:
            nonlocal taken
            if self._held + more > self._most:
                reason = "all requests together have too large bodies; try again in 1 s"
                raise RefusalError(503, reason, retry_after=1)
            self._held += more
            taken += more

        try:
            yield take
        finally:
            self._held -= taken


async def read_request(http: "HttpRequest", *, limits: Limits, take: Callable[[int], None]) -> Request:
    """One question: JSON with the image in base64, or a form with the image as a file.

    Args:
        http: The request.
        limits: What is taken.
        take: Takes bytes; see `Room.held`.

    Raises:
        RefusalError: The body is too large, slow, of another type, or not what it should be.
    """
    kind = _kind(http)
    if kind not in (JSON, FORM):
        raise RefusalError(415, f"the body is neither {JSON} nor {FORM}; set Content-Type and send one of them")
    body = await read_body(http, most=limits.answer_bytes, limits=limits, take=take)
    if kind == JSON:
        return await _apart(body, lambda: parse_request(body, limits=limits))
    fields = await _form_fields(http, body, limits=limits)
    return _validated(lambda: Request.model_validate(fields))


async def read_requests(http: "HttpRequest", *, limits: Limits, take: Callable[[int], None]) -> list[Request]:
    """Several questions, as JSON.

    Args:
        http: The request.
        limits: What is taken.
        take: Takes bytes; see `Room.held`.

    Raises:
        RefusalError: See `read_request`; or there are too many.
    """
    if _kind(http) != JSON:
        raise RefusalError(415, f"the body is not {JSON}; set Content-Type and send JSON")
    body = await read_body(http, most=limits.batch_bytes, limits=limits, take=take)
    return await _apart(body, lambda: parse_requests(body, limits=limits))


async def read_body(http: "HttpRequest", *, most: int, limits: Limits, take: Callable[[int], None]) -> bytes:
    """Read a body, and stop as soon as it is too large, whatever its header announces, or arrives too slowly.

    Args:
        http: The request.
        most: Bytes that it may have.
        limits: `read_seconds` for all of it, `progress_seconds` for the next KiB.
        take: Takes bytes; see `Room.held`.

    Raises:
        RefusalError: It is larger than `most` bytes (413), does not come in time (408), or there is no room (503).
    """
    too_large = RefusalError(413, f"the body is larger than the {most} bytes that are taken; send a smaller image")
    announced = http.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_large
    parts, size, checked = [], 0, 0
    clock = asyncio.get_running_loop().time
    end = clock() + limits.read_seconds
    try:
        async with asyncio.timeout_at(min(end, clock() + limits.progress_seconds)) as deadline:
            async for part in http.stream():
                size += len(part)
                if size > most:
                    raise too_large
                take(len(part))
                parts.append(part)
                if size - checked >= KIB:
                    checked = size
                    deadline.reschedule(min(end, clock() + limits.progress_seconds))
    except TimeoutError as error:
        reason = f"the body did not arrive within {limits.read_seconds:g} s"
        if clock() < end:
            reason = f"less than a KiB of the body arrived within {limits.progress_seconds:g} s"
        raise RefusalError(408, f"{reason}; send it again") from error
    return b"".join(parts)


def parse_request(body: bytes, *, limits: Limits) -> Request:
    """One question, from JSON.

    Raises:
        RefusalError: It is none.

    >>> parse_request(b'{"image": "aGVsbG8=", "question": "what is it?"}', limits=Limits()).question
    'what is it?'
    """
    found = _parse_json(body, questions=1, limits=limits)
    _check_fields(found, known=FIELDS, name="")
    return _validated(lambda: Request.model_validate(found))


def parse_requests(body: bytes, *, limits: Limits) -> list[Request]:
    """Several questions, from JSON.

    Raises:
        RefusalError: They are none, or too many.
    """
    most = limits.batch_questions
    found = _parse_json(body, questions=most, limits=limits)
    _check_fields(found, known=("questions",), name="")
    questions = found.get("questions")
    if isinstance(questions, list):
        if len(questions) > most:
            raise RefusalError(422, f"the body has {len(questions)} questions and at most {most} are taken; split it")
        for number, one in enumerate(questions):
            _check_fields(one, known=FIELDS, name=f"questions.{number}")
    return _validated(lambda: Requests.model_validate(found)).questions


def _parse_json(body: bytes, *, questions: int, limits: Limits) -> Any:
    """Parse JSON that does not have more parts than so many questions can have, whatever their texts hold."""
    most = 8 + questions * (8 + limits.question_characters)
    parts = sum(body.count(mark) for mark in (b"{", b"[", b","))
    if parts > most:
        raise RefusalError(
            422,
            f"the body has {parts} brackets and commas, and {questions} question{'s' * (questions > 1)} can have "
            f"{most} at most; split it",
        )
    try:
        return from_json(body)
    except ValueError as error:
        raise RefusalError(400, "the body is no JSON; send an object with image and question") from error


def _check_fields(found: Any, *, known: Sequence[str], name: str) -> None:
    """Refuse what is no object, or one with many unknown fields; of a few, the validation names each."""
    if not isinstance(found, dict):
        raise RefusalError(422, f"{name or 'body'}: Input should be an object")
    if len(found) > len(known) + UNKNOWN_FIELDS:
        raise RefusalError(
            422,
            f"{name or 'body'}: the object has {len(found)} fields, and only {', '.join(known)} are known; "
            "remove the others",
        )


def _validated(validate: Callable[[], Parsed]) -> Parsed:
    try:
        return validate()
    except ValidationError as error:
        raise invalid(error) from error


async def _apart(body: bytes, parse: Callable[[], Parsed]) -> Parsed:
    """Parse a body here where that is done at once, and in a thread otherwise."""
    return parse() if len(body) <= LARGE else await asyncio.to_thread(parse)


def _kind(http: "HttpRequest") -> str:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _form_fields(http: "HttpRequest", body: bytes, *, limits: Limits) -> dict[str, Any]:
    """The fields of a form; it is parsed in a loop of its own, in a thread, where it is large."""
    return (
        await _form(http, body, limits=limits)
        if len(body) <= LARGE
        else await asyncio.to_thread(lambda: asyncio.run(_form(http, body, limits=limits)))
    )


async def _form(http: "HttpRequest", body: bytes, *, limits: Limits) -> dict[str, Any]:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Replayed

    async def receive() -> "Message":
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        # It gives up at the first field too many.
        async with Replayed(http.scope, receive).form(
            max_files=1, max_fields=len(FIELDS), max_part_size=limits.answer_bytes
        ) as form:
            return await _fields(form)
    except HTTPException as error:
        raise RefusalError(
            400, "the form cannot be read; send the fields image, question and risk once each"
        ) from error


async def _fields(form: "FormData") -> dict[str, Any]:
    from starlette.datastructures import UploadFile

    items = form.multi_items()
    if len({name for name, _ in items}) != len(items):
        raise RefusalError(422, "the form has a field twice; send the fields image, question and risk once each")
    fields: dict[str, Any] = dict(items)
    image = fields.get("image")
    if "image" in fields and not isinstance(image, UploadFile):
        raise RefusalError(422, "image: the form's image is no file; attach one")
    if isinstance(image, UploadFile):
        fields["image"] = await image.read()
    if "risk" in fields:
        fields["risk"] = _number(fields["risk"])
    return fields


def _number(text: Any) -> float | None:
    """What a form says of the risk; nothing is the default."""
    if text == "":
        return None
    try:
        number = float(text)
    except (TypeError, ValueError) as error:
        raise RefusalError(422, "risk: this is no number") from error
    return number if math.isfinite(number) else -1.0
