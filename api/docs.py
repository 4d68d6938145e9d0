"""A page about the API for people: plain HTML out of the OpenAPI document, nothing loaded from anywhere."""

import json
from html import escape
from typing import Any
from urllib.parse import urlencode

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;
vertical-align:top}pre{overflow:auto;padding:.6rem;background:#8881}h2{margin-top:2.5rem}code{font-size:.95em}"""
METHODS = ("get", "put", "delete")


class Page(OpenAPIRenderPlugin):
    """`/schema`."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page."""
        info = openapi_schema["info"]
        paths = sorted(openapi_schema["paths"].items())
        parts = [_operation(method, path, item[method]) for path, item in paths for method in METHODS if method in item]
        title = escape(f"{info['title']} {info['version']}")
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{title}</h1>'
            f"<p>{_text(info['description'])}</p>"
            f'<p>For programs: <a href="/schema/openapi.json">openapi.json</a>.</p>{"".join(parts)}</html>'
        ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", [])
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code>{' *' if p.get('required') else ''}<td>{_text(p['description'])}"
        f"<td><code>{escape(str(_example(p)))}</code>"
        for p in parameters
    )
    table = f"<table><tr><th>parameter<th>meaning<th>for instance{rows}</table>" if rows else ""
    url = path + _query(parameters)
    for p in parameters:
        url = url.replace(f"{{{p['name']}}}", str(_example(p)))
    content = operation["responses"]["200"].get("content", {}).get("application/json", {})
    body = escape(json.dumps(_example(content), indent=1, ensure_ascii=False))
    sent = operation.get("requestBody", {}).get("content", {}).get("application/json")
    curl = "curl" if method == "get" else f"curl -X {method.upper()}"
    data = f" -d '{escape(json.dumps(_example(sent)), quote=False)}'" if sent else ""
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{_text(operation.get('description', ''))}</p>{table}"
        f"<pre>{curl} '{escape(url)}'{data}\n\n{body}</pre>"
    )


def _query(parameters: list[dict[str, Any]]) -> str:
    required = {p["name"]: _example(p) for p in parameters if p["in"] == "query" and p.get("required")}
    return "?" + urlencode(required) if required else ""


def _example(item: dict[str, Any]) -> Any:
    return next((example["value"] for example in item.get("examples", {}).values()), "")


def _text(markdown: str) -> str:
    """Prose with `code` in it."""
    parts = escape(markdown).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
