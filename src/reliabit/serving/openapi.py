"""What the OpenAPI document says of the endpoints beyond what FastAPI finds out by itself."""

from typing import Any

from reliabit.serving.bodies import FORM, JSON
from reliabit.serving.messages import Request, Requests

STATUSES = {
    400: "The body is no JSON, or no form",
    408: "The body did not arrive in time",
    413: "The body or an image is too large, or all images together are",
    415: "The body or the image is of a type that is not taken",
    422: "A field is missing or wrong, the image is damaged, the prompt too long, or the risk not certified",
    503: "No model is loaded, or too many questions or pixels are waiting; see Retry-After",
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

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "No model is loaded"}}
