"""Requests as JSON, as forms or in the query, and how OpenAPI describes them."""

import re
from collections.abc import Mapping
from contextlib import suppress
from json import detect_encoding
from typing import Any, TypeVar

import msgspec
from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, QueryParams
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from s2s.serving.http.headers import header

Form = TypeVar("Form", bound=BaseModel)
Plain = TypeVar("Plain")

_Fields = Mapping[str, object]
"""Values of the fields of a request by name, not validated yet."""

JSON = "application/json"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

_HINT = "; the body seems to need the header `content-type: {}`"
# What a body begins with that is a form, although its header does not say so.
_FORM_SIGNS = tuple(zip(FORMS, (re.compile(rb"\s*[\w.-]+="), re.compile(rb"\s*--")), strict=True))


async def parse(
    request: Request, form: type[Form], plain: msgspec.json.Decoder[Plain] | None = None
) -> Form | Plain:
    """Return a request that came as JSON, as a form, or in the query.

    Args:
        plain: reads most requests that came as JSON, into the same fields; must not take what
            `form` does not.

    Raises:
        HTTPException: 400, a field is missing or invalid.
        ClientDisconnect: the client has gone.
    """
    kind = header(request.scope, b"content-type").partition(";")[0].strip().lower()
    if kind in FORMS:
        try:
            sent = _fields(await request.form())
        except MultiPartException as error:  # of a request that has not passed FastAPI's router
            raise HTTPException(400, error.message) from None
        return _validated(form, {**_fields(request.query_params), **sent}, _hint_at_json(sent))
    body = await _body(request.receive)
    if plain is not None:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return plain.decode(body)
    with suppress(ValidationError):
        return form.model_validate_json(body)  # most requests are valid as they are
    if body.strip():
        return _validated(form, _json_object(_utf8(body)), "")
    fields = _fields(request.query_params)
    if not fields:
        raise HTTPException(400, "body: the request is empty")
    return _validated(form, fields, "")


async def _body(receive: Receive) -> bytes:
    """Return the body of a request, most often in one piece already.

    Raises:
        ClientDisconnect: the client has gone.
    """
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _fields(values: FormData | QueryParams) -> _Fields:
    """Return the fields of a query or form; one that occurs several times is a list."""
    each = {name: values.getlist(name) for name in values}
    return {name: many[0] if len(many) == 1 else many for name, many in each.items()}


def _utf8(body: bytes) -> bytes:
    """Return JSON in UTF-8 without a byte order mark; it may come as UTF-16 or UTF-32, too.

    Raises:
        HTTPException: 400, it is in none of them.
    """
    encoding = detect_encoding(body)
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError:
        raise HTTPException(400, f"body: not valid {encoding.upper()}") from None


def _json_object(text: bytes) -> _Fields:
    """Return the fields of an object in JSON.

    Raises:
        HTTPException: 400, the text is not JSON, or no object.
    """
    try:
        fields = from_json(text)
    except ValueError as error:
        hints = (_HINT.format(kind) for kind, sign in _FORM_SIGNS if sign.match(text))
        raise HTTPException(400, f"body: not valid JSON: {error}{next(hints, '')}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "body: must be an object in JSON")
    return fields


def _hint_at_json(fields: _Fields) -> str:
    """Return a hint at the right header if what came as a form is JSON."""
    return _HINT.format(JSON) if next(iter(fields), "").lstrip()[:1] in ("{", "[") else ""


def _validated(form: type[Form], fields: _Fields, hint: str) -> Form:
    """Return a request made of fields, without null and empty ones, which count as not sent.

    Only `q` may be an empty string.

    Args:
        hint: end of the error message.

    Raises:
        HTTPException: 400, a field is missing or invalid.
    """
    present = {
        name: value
        for name, value in fields.items()
        if value is not None and (value != "" or name == "q")
    }
    try:
        return form.model_validate(present)
    except ValidationError as error:
        faults: dict[str, str] = {}
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            place = fault["loc"][0] if fault["loc"] else "body"
            faults.setdefault(str(place), fault["msg"])
        message = "; ".join(f"{field}: {fault}" for field, fault in faults.items())
        raise HTTPException(400, message + hint) from None


def openapi_of(
    form: type[BaseModel], method: str, kinds: tuple[str, ...] = (JSON,)
) -> dict[str, Any]:
    """Return OpenAPI's description of a request that `parse` reads.

    Args:
        method: GET, which has the fields in the query, or POST.
        kinds: content types of the body.
    """
    schema = form.model_json_schema()
    if method == "POST":
        return {
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": schema} for kind in kinds},
            }
        }
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": {key: value for key, value in field.items() if key != "description"},
                "description": field.get("description", ""),
            }
            for name, field in schema["properties"].items()
        ]
    }
