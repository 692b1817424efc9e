"""/docs as one page that needs nothing from elsewhere: the routes of the OpenAPI document, with their schemas.

The usual pages load their scripts from a CDN: behind a firewall they stay empty, and elsewhere they run foreign code on
the service's own origin.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code,pre{font-family:ui-monospace,monospace;font-size:.875rem}pre{overflow:auto}"
    "details{border-top:1px solid #8886;padding:.5rem 0}summary{cursor:pointer}b{display:inline-block;min-width:4.5rem}"
)


def docs_page(document: dict[str, Any]) -> HTMLResponse:
    """The document as HTML."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    routes = [
        _route(method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    components = document["components"]["schemas"]
    schemas = [_details(f"<code>{escape(name)}</code>", schema) for name, schema in components.items()]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>Machine-readable: <a href="openapi.json">openapi.json</a></p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Schemas</h2>{''.join(schemas)}</html>"
    )
    return HTMLResponse(page, headers={"content-security-policy": _POLICY})


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    head = f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    told = {key: operation[key] for key in ("parameters", "requestBody", "responses") if key in operation}
    return _details(head, told, operation.get("description", ""))


def _details(head: str, value: object, about: str = "") -> str:
    body = escape(json.dumps(value, indent=2))
    return f"<details><summary>{head}</summary><p>{escape(about)}</p><pre>{body}</pre></details>"
