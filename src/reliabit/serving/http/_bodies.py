"""Reading the body of a request: never more of it than allowed, in the form that its type says.

FastAPI would read a body whole, parse it in the event loop, in which everyone else's requests wait, and list each of
its faults. Here nothing is parsed before it was counted, and nothing large in the event loop.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.types import Message

from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError, Request, Requests

JSON, FORM = "application/json", "multipart/form-data"
FIELDS = tuple(Request.model_fields)
UNKNOWN_FIELDS = 3
"""Unknown fields of an object that are named one by one, and faults of one that are told."""

LARGE = 2**16
"""Bytes of a body above which it is parsed in a thread."""

KIB = 1024

Take = Callable[[int], None]
"""Takes so many bytes of what all bodies together may hold; see `Budget.reserve`."""

Parsed = TypeVar("Parsed")
Model = TypeVar("Model", bound=BaseModel)


async def read_request(http: HttpRequest, *, limits: Limits, take: Take) -> Request:
    """One question: JSON with the image in base64, or a form with the image as a file.

    Raises:
        RefusalError: The body is too large, slow, of another type, or not what it should be.
    """
    kind = _kind(http)
    if kind not in (JSON, FORM):
        raise RefusalError(415, f"the body is neither {JSON} nor {FORM}; set Content-Type and send one of them")
    body = await _read_body(http, most=limits.answer_bytes, limits=limits, take=take)
    if kind == JSON:
        return await _apart(body, lambda: parse_request(body, limits=limits))
    form = _form_fields(http, body, limits=limits)
    # A large one in a loop of its own.
    return _validated(Request, await (form if len(body) <= LARGE else asyncio.to_thread(asyncio.run, form)))


async def read_requests(http: HttpRequest, *, limits: Limits, take: Take) -> list[Request]:
    """Several questions, as JSON; refused like one, or where there are too many."""
    if _kind(http) != JSON:
        raise RefusalError(415, f"the body is not {JSON}; set Content-Type and send JSON")
    body = await _read_body(http, most=limits.batch_bytes, limits=limits, take=take)
    return await _apart(body, lambda: parse_requests(body, limits=limits))


def parse_request(body: bytes, *, limits: Limits) -> Request:
    """One question, from JSON.

    >>> parse_request(b'{"image": "aGVsbG8=", "question": "what is it?"}', limits=Limits()).question
    'what is it?'
    """
    found = _parse_json(body, questions=1, limits=limits)
    _check_fields(found, known=FIELDS)
    return _validated(Request, found)


def parse_requests(body: bytes, *, limits: Limits) -> list[Request]:
    """Several questions, from JSON."""
    most = limits.batch_questions
    found = _parse_json(body, questions=most, limits=limits)
    _check_fields(found, known=("questions",))
    questions = found.get("questions")
    if isinstance(questions, list):
        if len(questions) > most:
            raise RefusalError(422, f"the body has {len(questions)} questions and at most {most} are taken; split it")
        for number, one in enumerate(questions):
            _check_fields(one, known=FIELDS, name=f"questions.{number}")
    return _validated(Requests, found).questions


async def _read_body(http: HttpRequest, *, most: int, limits: Limits, take: Take) -> bytes:
    """Read a body, and stop as soon as it is too large, whatever its header announces, or arrives too slowly."""
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


def _check_fields(found: Any, *, known: Sequence[str], name: str = "body") -> None:
    """Refuse what is no object, or one with many unknown fields; of a few, the validation names each."""
    if not isinstance(found, dict):
        raise RefusalError(422, f"{name}: Input should be an object")
    if len(found) > len(known) + UNKNOWN_FIELDS:
        raise RefusalError(
            422,
            f"{name}: the object has {len(found)} fields, and only {', '.join(known)} are known; remove the others",
        )


def _validated(model: type[Model], found: Any) -> Model:
    """The message that an object is, or 422 with the first three of its faults."""
    try:
        return model.model_validate(found)
    except ValidationError as error:
        faults: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
        named = [f"{_place(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in faults[:UNKNOWN_FIELDS]]
        more = f"; and {len(faults) - UNKNOWN_FIELDS} more" if len(faults) > UNKNOWN_FIELDS else ""
        raise RefusalError(422, "; ".join(named) + more) from error


def _place(location: Sequence[Any]) -> str:
    # A name that a client made up may be anything, and long.
    return ".".join(str(part)[:40] for part in location) or "body"


async def _apart(body: bytes, parse: Callable[[], Parsed]) -> Parsed:
    """Parse a body here where that is done at once, and in a thread otherwise."""
    return parse() if len(body) <= LARGE else await asyncio.to_thread(parse)


def _kind(http: HttpRequest) -> str:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _form_fields(http: HttpRequest, body: bytes, *, limits: Limits) -> dict[str, Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        # It gives up at the first field too many.
        async with HttpRequest(http.scope, receive).form(
            max_files=1, max_fields=len(FIELDS), max_part_size=limits.answer_bytes
        ) as form:
            return await _fields(form)
    except HTTPException as error:
        raise RefusalError(
            400, "the form cannot be read; send the fields image, question and risk once each"
        ) from error


async def _fields(form: FormData) -> dict[str, Any]:
    items = form.multi_items()
    if len({name for name, _ in items}) != len(items):
        raise RefusalError(422, "the form has a field twice; send the fields image, question and risk once each")
    fields: dict[str, Any] = dict(items)
    if "image" in fields:
        if not isinstance(fields["image"], UploadFile):
            raise RefusalError(422, "image: the form's image is no file; attach one")
        fields["image"] = await fields["image"].read()
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
