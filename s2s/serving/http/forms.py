"""The requests that a service takes, however they are sent."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError

Form = TypeVar("Form", bound=BaseModel)

JSON = "application/json"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


async def read(request: Request, form: type[Form]) -> Form:
    """A request as JSON, as a form, or in the query, whichever it is.

    Raises:
        HTTPException: 400, it is not of this form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        fields = {**_fields(request.query_params), **_fields(await request.form())}
    else:
        body = await request.body()
        if body.strip():
            return _valid(lambda: form.model_validate_json(body))
        fields = _fields(request.query_params)
        if not fields:
            raise HTTPException(400, "body: it is empty")
    return _valid(lambda: form.model_validate(fields))


def _fields(given: Any) -> dict[str, Any]:
    """The fields of a query or form; one that comes several times is a list."""
    names = dict.fromkeys(given)
    return {n: v[0] if len(v) == 1 else v for n in names for v in [given.getlist(n)]}


def _valid(made: Callable[[], Form]) -> Form:
    try:
        return made()
    except ValidationError as error:
        faults: dict[str, str] = {}
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            place = fault["loc"][0] if fault["loc"] else "body"
            faults.setdefault(str(place), fault["msg"])
        raise HTTPException(400, "; ".join(f"{k}: {what}" for k, what in faults.items())) from None


def described(
    form: type[BaseModel], method: str, kinds: tuple[str, ...] = (JSON,)
) -> dict[str, Any]:
    """What OpenAPI says of a request that is read by `read`."""
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
                "schema": {k: v for k, v in field.items() if k != "description"},
                "description": field.get("description", ""),
            }
            for name, field in schema["properties"].items()
        ]
    }
