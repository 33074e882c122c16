"""The reference of the HTTP interface at `/docs`: a plain page, made of the app's own OpenAPI."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import Request, Response

from s2s.serving.http.page import inline_hashes

Schema = dict[str, Any]  # a JSON schema, whose shape OpenAPI defines

_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #fff; --panel: #f5f6f8; --ink: #1a1e26; --muted: #5c6573; --line: #dfe3e8;
  --accent: #1f56c3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11141a; --panel: #191e27; --ink: #e6e9ef; --muted: #9aa4b4; --line: #2c333f;
    --accent: #86b0ff;
  }
}
* { box-sizing: border-box; }
body {
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem;
  background: var(--page); color: var(--ink); overflow-wrap: anywhere;
}
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 .75rem; }
h2 {
  font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: .95rem; margin: 1.5rem 0 .4rem; }
p { margin: 0 0 .75rem; }
a { color: var(--accent); text-underline-offset: .15em; }
code, pre { font: .9em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre {
  margin: 0; padding: .75rem 1rem; overflow-x: auto; overflow-wrap: normal;
  background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
}
h2 code { font-size: 1em; }
.method { color: var(--muted); font-size: .8em; letter-spacing: .04em; margin-right: .4em; }
.quiet { color: var(--muted); font-size: .85rem; }
nav ul { list-style: none; margin: 0; padding: 0; columns: 18rem; }
nav li { padding: .1rem 0; break-inside: avoid; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem .45rem 0; }
tr + tr > * { border-top: 1px solid var(--line); }
th { font-weight: 400; width: 11rem; }
td p { margin: 0; }
@media (max-width: 40rem) {
  th, td { display: block; width: auto; padding: .35rem 0 0; }
  td { padding-bottom: .5rem; }
  tr + tr > td { border-top: 0; }
}
"""


async def reference(request: Request) -> Response:
    """Answer with the reference of the app's interface."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = reference_page(request.app.openapi())
    policy = (
        f"default-src 'none'; style-src {inline_hashes(state.reference, 'style')}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-cache"}
    return Response(state.reference, media_type="text/html", headers=headers)


def reference_page(openapi: Schema) -> str:
    """Return an HTML page that describes an interface."""
    paths: dict[str, dict[str, Schema]] = openapi["paths"]
    schemas: dict[str, Schema] = openapi["components"]["schemas"]
    title = f"{openapi['info']['title']}: the HTTP interface"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
        f"<p>{_prose(openapi['info'].get('description', ''))}</p>",
        f'<p class="quiet">Version {escape(openapi["info"]["version"])} · '
        '<a href="openapi.json">OpenAPI</a> · <a href="./">Translate</a> · '
        "<code>ADDRESS</code> in the examples is this service's.</p>",
        "<nav><ul>",
        *(
            f'<li><a href="#{_anchor(path)}">{_heading(path, paths[path])}</a></li>'
            for path in paths
        ),
        "</ul></nav>",
    ]
    for path, operations in paths.items():
        parts += _path(path, operations)
    parts += _errors(paths)
    parts.append('<h2 id="objects">Objects</h2>')
    for name, schema in schemas.items():
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3>')
        parts.append(f"<p>{_prose(schema.get('description', ''))}</p>")
        parts.append(_table(schema, request=False))
    return "\n".join([*parts, "</body>\n</html>\n"])


def _path(path: str, operations: dict[str, Schema]) -> Iterator[str]:
    """Yield the section of a path; its methods do the same with what comes in different ways."""
    yield f'<h2 id="{_anchor(path)}">{_heading(path, operations)}</h2>'
    operation = operations.get("post") or next(iter(operations.values()))
    yield f"<p>{_prose(operation.get('description', ''))}</p>"
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        ways = [f"<code>{escape(kind)}</code>" for kind in content]
        query = (
            " With <code>GET</code> the fields come in the query." if "get" in operations else ""
        )
        schema: Schema = next(iter(content.values()))["schema"]
        yield f"<h3>Request</h3><p>As {', '.join(ways)}.{query}</p>"
        yield _table(schema, request=True)
        example = json.dumps(_example(schema), ensure_ascii=False)
        command = f"curl ADDRESS{path} -H 'content-type: application/json' \\\n    -d '{{}}'"
        # Within single quotes of a shell, ' is spelt '\''.
        yield f"<h3>Example</h3><pre>{escape(command.format(_quoted(example)), quote=False)}</pre>"
    yield "<h3>Response</h3>"
    answer = operation["responses"]["200"]
    for kind, body in answer.get("content", {}).items():
        yield f"<p><code>{escape(kind)}</code>: {_type(body.get('schema', {}))}</p>"
    if answer["description"] != "Successful Response":
        yield f"<p>{_prose(answer['description'])}</p>"


def _errors(paths: dict[str, dict[str, Schema]]) -> Iterator[str]:
    """Yield the section of the errors that any of the operations may answer with."""
    described = {
        status: response["description"]
        for operations in paths.values()
        for operation in operations.values()
        for status, response in operation["responses"].items()
        if status != "200"
    }
    yield '<h2 id="errors">Errors</h2><p>Every error is <code>{"error": "…"}</code>.</p><table>'
    for status, description in sorted(described.items()):
        yield f"<tr><th>{escape(status)}</th><td>{_prose(description)}</td></tr>"
    yield "</table>"


def _table(schema: Schema, request: bool) -> str:
    """Return the table of the fields of a request or a response."""
    required = schema.get("required", ()) if request else ()  # a response has all its fields
    rows = []
    for name, field in schema.get("properties", {}).items():
        about = [_type(field)]
        about += [f"{words} {field[key]:,}" for key, words in _BOUNDS.items() if key in field]
        if name in required:
            about.append("required")
        elif field.get("default") is not None:
            about.append(f"by default <code>{escape(json.dumps(field['default']))}</code>")
        prose = _prose(field.get("description", ""))
        rows.append(
            f"<tr><th><code>{escape(name)}</code></th>"
            f'<td><p>{prose}</p><p class="quiet">{", ".join(about)}</p></td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _type(schema: Schema) -> str:
    """Return in HTML what kind of value a schema allows."""
    match schema:
        case {"$ref": str(reference)}:
            name = escape(reference.rpartition("/")[2])
            return f'<a href="#{name}">{name}</a>'
        case {"anyOf": list(kinds)}:
            return " or ".join(_type(kind) for kind in kinds if kind.get("type") != "null")
        case {"enum": list(values)}:
            return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
        case {"type": "array", "items": dict(items)}:
            return f"list of {_type(items)}"
        case {"type": str(kind)}:
            return escape(kind)
    return "any value"


def _example(schema: Schema) -> Schema:
    """Return the examples of an object's fields."""
    fields: dict[str, Schema] = schema.get("properties", {})
    return {name: field["examples"][0] for name, field in fields.items() if "examples" in field}


def _heading(path: str, operations: dict[str, Schema]) -> str:
    methods = ", ".join(sorted((method.upper() for method in operations), reverse=True))
    return f'<span class="method">{methods}</span><code>{escape(path)}</code>'


def _anchor(path: str) -> str:
    return escape(path.strip("/").replace("/", "-"))


def _quoted(text: str) -> str:
    return text.replace("'", r"'\''")


def _prose(text: str) -> str:
    """Return a description in HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
