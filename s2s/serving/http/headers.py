"""Headers of a request, read without an object for all of them."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """Return the value of a header, the first one if it occurs several times; "" without one.

    Args:
        name: in small letters.
    """
    for each, value in scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return ""
