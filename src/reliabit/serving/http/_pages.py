"""The service's pages and its OpenAPI document.

FastAPI's own reference page loads its scripts from elsewhere, and Swagger's needs scripts and inline styles that the
pages' policy forbids; this one is made of the document without any.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from reliabit.serving.http._bodies import FORM, JSON
from reliabit.serving.http.access import HEADER, OPEN
from reliabit.serving.http.messages import Request, Requests

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The service's key, as a bearer token."},
    "header": {"type": "apiKey", "in": "header", "name": HEADER, "description": "The service's key, in a header."},
}

STATUSES = {
    400: "The body is no JSON, or no form",
    401: "The service's key is needed, and was not sent or is another",
    403: "A page of another site or port asks, or the host name is not served",
    408: "The body did not arrive in time",
    413: "The body or an image is too large, or all images together are",
    415: "The body or the image is of a type that is not taken",
    422: "A field is missing or wrong, the image is damaged, the prompt too long, or the risk not certified",
    503: "No model is loaded, or too many questions, pixels, bytes or connections are waiting; see Retry-After",
    504: "There was no answer in time",
}

REFUSALS: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in STATUSES.items()}
"""The `responses` of an endpoint that answers questions."""

LOCKED: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "No model is loaded"}}

FORM_SCHEMA = {
    "type": "object",
    "required": ["image", "question"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "question": {"type": "string"},
        "risk": {"type": "number"},
    },
}


def _body(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """What a route's `openapi_extra` says of a body by its types; the endpoint reads it itself, to bound it."""
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"content": content, "required": True}}


def _requests_schema() -> dict[str, Any]:
    """Of several questions, without references, which would point nowhere in the OpenAPI document."""
    schema = Requests.model_json_schema()
    schema["properties"]["questions"]["items"] = schema.pop("$defs")["Request"]
    return schema


ONE_QUESTION = _body({JSON: Request.model_json_schema(), FORM: FORM_SCHEMA})
SEVERAL_QUESTIONS = _body({JSON: _requests_schema()})


def name_key(application: FastAPI, *, needed: bool) -> None:
    """Have the document name the two ways to send the key, and the endpoints that want it.

    Args:
        application: Its endpoints added.
        needed: Whether this service has a key; where it has none, none is an answer as well, which FastAPI's own
            security schemes cannot say.
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


class Page:
    """A page of one HTML file, which may load nothing from anywhere, and the policy that says so."""

    def __init__(self, html: str) -> None:
        self.html = html

    @cached_property
    def policy(self) -> str:
        """The Content-Security-Policy that allows its own script and style by their hashes, and nothing else.

        >>> Page("<style>p {}</style>").policy.split("; ")[:2]
        ["default-src 'none'", "style-src 'sha256-...'"]
        """
        own = [f"{tag}-src {hashes}" for tag in ("script", "style") if (hashes := " ".join(self._hashes(tag)))]
        closed = ("connect-src 'self'", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'")
        return "; ".join(("default-src 'none'", *own, "img-src blob: data:", *closed))

    def response(self) -> HTMLResponse:
        """The page with its policy."""
        return HTMLResponse(self.html, headers={"Content-Security-Policy": self.policy})

    def _hashes(self, tag: str) -> Iterator[str]:
        for part in re.findall(rf"<{tag}>(.*?)</{tag}>", self.html, flags=re.DOTALL):
            yield f"'sha256-{base64.b64encode(sha256(part.encode()).digest()).decode()}'"


PAGE = Page(files("reliabit.serving.http").joinpath("page.html").read_text(encoding="utf-8"))

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8889; margin-top: 1.5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8889; border-radius: .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dd { margin: 0; }
"""


def reference_page(document: Mapping[str, Any]) -> Page:
    """Lay out an OpenAPI document as HTML without scripts.

    >>> info = {"title": "A & B", "summary": ""}
    >>> page = reference_page({"info": info, "paths": {"/x": {"get": {"responses": {}}}}}).html
    >>> "<h1>A &amp; B</h1>" in page, "GET /x" in page
    (True, True)
    """
    info, components = document["info"], document.get("components", {})
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>',
        f"<style>{STYLE}</style></head><body><main><h1>{escape(info['title'])}</h1>",
        f'<p>{escape(info.get("summary", ""))}</p><p>For programs: <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, endpoint in methods.items():
            parts += _endpoint(f"{method.upper()} {path}", endpoint)
    if schemes := components.get("securitySchemes"):
        headers = (one["name"] if one["type"] == "apiKey" else "Authorization: Bearer" for one in schemes.values())
        ways = " or ".join(f"<code>{escape(header)}</code>" for header in headers)
        parts.append(f"<section><h2>Key</h2><p>It is sent in the header {ways}.</p></section>")
    for name, schema in components.get("schemas", {}).items():
        parts.append(f"<section><h2>{escape(name)}</h2>{_json(schema)}</section>")
    return Page("\n".join([*parts, "</main></body></html>"]))


def _endpoint(name: str, endpoint: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{escape(name)}</code></h2><p>{escape(endpoint.get('description', ''))}</p>"
    if endpoint.get("security"):
        yield "<p>With the service's key, where it has one.</p>"
    for kind, content in endpoint.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Body: <code>{escape(kind)}</code></h3>{_json(content.get('schema', {}))}"
    yield "<h3>Answers</h3><dl>"
    for status, response in endpoint["responses"].items():
        yield f"<dt><code>{escape(str(status))}</code></dt><dd>{escape(response.get('description', ''))}</dd>"
    yield "</dl></section>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
