"""Reading the body of a request: never more of it than allowed, in the form that its type says."""

import asyncio
import math
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reliabit.serving.limits import Limits
from reliabit.serving.messages import Request, Requests
from reliabit.serving.refusals import RefusalError, invalid

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request as HttpRequest
    from starlette.types import Message

JSON, FORM = "application/json", "multipart/form-data"
FIELDS = ("image", "question", "risk")


async def read_request(http: "HttpRequest", *, limits: Limits) -> Request:
    """One question: JSON with the image in base64, or a form with the image as a file.

    Raises:
        RefusalError: The body is too large, slow, of another type, or not what it should be.
    """
    kind = _kind(http)
    if kind not in (JSON, FORM):
        raise RefusalError(415, f"the body is neither {JSON} nor {FORM}; set Content-Type and send one of them")
    body = await read_body(http, most=limits.answer_bytes, seconds=limits.read_seconds)
    try:
        if kind == JSON:
            return Request.model_validate_json(body)
        return Request.model_validate(await _form_fields(http, body, limits=limits))
    except ValidationError as error:
        raise invalid(error) from error


async def read_requests(http: "HttpRequest", *, limits: Limits) -> list[Request]:
    """Several questions, as JSON.

    Raises:
        RefusalError: See `read_request`; or there are too many.
    """
    if _kind(http) != JSON:
        raise RefusalError(415, f"the body is not {JSON}; set Content-Type and send JSON")
    body = await read_body(http, most=limits.batch_bytes, seconds=limits.read_seconds)
    try:
        requests = Requests.model_validate_json(body).questions
    except ValidationError as error:
        raise invalid(error) from error
    if len(requests) > limits.batch_questions:
        raise RefusalError(
            422, f"the body has {len(requests)} questions and at most {limits.batch_questions} are taken; split it"
        )
    return requests


async def read_body(http: "HttpRequest", *, most: int, seconds: float) -> bytes:
    """Read a body, and stop as soon as it is too large, whatever its header announces.

    Raises:
        RefusalError: It is larger than `most` bytes (413), or not there after so many seconds (408).
    """
    too_large = RefusalError(413, f"the body is larger than the {most} bytes that are taken; send a smaller image")
    announced = http.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in http.stream():
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
    except TimeoutError as error:
        raise RefusalError(408, f"the body did not arrive within {seconds:g} s; send it again") from error
    return b"".join(parts)


def _kind(http: "HttpRequest") -> str:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _form_fields(http: "HttpRequest", body: bytes, *, limits: Limits) -> dict[str, Any]:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Replayed

    async def receive() -> "Message":
        return {"type": "http.request", "body": body, "more_body": False}

    try:
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
