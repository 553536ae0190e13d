"""The OpenAPI document as a page: made here, because FastAPI's own loads its scripts from elsewhere."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8889; margin-top: 1.5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8889; border-radius: .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dd { margin: 0; }
"""


def reference_page(document: Mapping[str, Any]) -> str:
    """Lay out an OpenAPI document as HTML without scripts.

    Args:
        document: The document, as FastAPI makes it.

    >>> page = reference_page({"info": {"title": "A & B", "summary": ""}, "paths": {"/x": {"get": {"responses": {}}}}})
    >>> "<h1>A &amp; B</h1>" in page, "GET /x" in page
    (True, True)
    """
    info = document["info"]
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>',
        f"<style>{STYLE}</style></head><body><main><h1>{escape(info['title'])}</h1>",
        f'<p>{escape(info.get("summary", ""))}</p><p>For programs: <a href="openapi.json">openapi.json</a></p>',
        *(
            part
            for path, methods in document["paths"].items()
            for method, endpoint in methods.items()
            for part in _endpoint(f"{method.upper()} {path}", endpoint)
        ),
        *_keys(document.get("components", {}).get("securitySchemes", {})),
        *_schemas(document.get("components", {}).get("schemas", {})),
        "</main></body></html>",
    ]
    return "\n".join(parts)


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


def _keys(schemes: Mapping[str, Any]) -> Iterator[str]:
    if schemes:
        ways = " or ".join(
            f"<code>{escape(one['name'] if one['type'] == 'apiKey' else 'Authorization: Bearer')}</code>"
            for one in schemes.values()
        )
        yield f"<section><h2>Key</h2><p>It is sent in the header {ways}.</p></section>"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f"<section><h2>{escape(name)}</h2>{_json(schema)}</section>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
