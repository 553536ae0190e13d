"""What the OpenAPI document says of the endpoints beyond what FastAPI finds out by itself."""

from typing import TYPE_CHECKING, Any

from reliabit.serving.api_key import HEADER
from reliabit.serving.bodies import FORM, JSON
from reliabit.serving.guard import OPEN
from reliabit.serving.messages import Request, Requests

if TYPE_CHECKING:
    from fastapi import FastAPI

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The service's key, as a bearer token."},
    "header": {"type": "apiKey", "in": "header", "name": HEADER, "description": "The service's key, in a header."},
}

NO_KEY = "The service's key is needed, and was not sent or is another"

STATUSES = {
    400: "The body is no JSON, or no form",
    401: NO_KEY,
    403: "A page of another site or port asks, or the host name is not served",
    408: "The body did not arrive in time",
    413: "The body or an image is too large, or all images together are",
    415: "The body or the image is of a type that is not taken",
    422: "A field is missing or wrong, the image is damaged, the prompt too long, or the risk not certified",
    503: "No model is loaded, or too many questions, pixels, bytes or connections are waiting; see Retry-After",
    504: "There was no answer in time",
}

FORM_SCHEMA = {
    "type": "object",
    "required": ["image", "question"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "question": {"type": "string"},
        "risk": {"type": "number"},
    },
}


def _schema(model: type[Request] | type[Requests]) -> dict[str, Any]:
    """The schema of a body, without references, which would point nowhere in the OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    if definitions:
        schema["properties"]["questions"]["items"] = definitions["Request"]
    return schema


REFUSALS: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in STATUSES.items()}
"""The `responses` of an endpoint that answers questions."""

ONE_QUESTION: dict[str, Any] = {
    "requestBody": {
        "content": {JSON: {"schema": _schema(Request)}, FORM: {"schema": FORM_SCHEMA}},
        "required": True,
    }
}
SEVERAL_QUESTIONS: dict[str, Any] = {
    "requestBody": {"content": {JSON: {"schema": _schema(Requests)}}, "required": True}
}
"""The bodies, which endpoints read themselves to bound them."""

LOCKED: dict[int | str, dict[str, Any]] = {401: {"description": NO_KEY}}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "No model is loaded"}}


def name_key(application: "FastAPI", *, needed: bool) -> None:
    """Have the document name the two ways to send the key, and the endpoints that want it.

    Args:
        application: Its endpoints added.
        needed: Whether this service has a key; where it has none, none is an answer as well.
    """
    made = application.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        ways: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
        for path, methods in document["paths"].items():
            if path not in OPEN:
                for endpoint in methods.values():
                    endpoint["security"] = ways if needed else [{}, *ways]
        return document

    application.openapi = openapi  # type: ignore[method-assign]
