"""What a request must pass before it is translated: API keys and their rates, limits, a time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps

from fastapi import HTTPException, Request, Response

from s2s.serving.http.api_keys import Key, Keys

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered, and the longest time that it may take."""

    sentences: int = 256  # texts of a request
    characters: int = 10_000  # of all texts together
    seconds: float = 30.0  # for a request

    @property
    def body(self) -> int:
        """Bytes of a request; a character may be spelt with as many as twelve of them."""
        return 12 * self.characters + 100 * self.sentences + 4096

    @property
    def timeout_error(self) -> str:
        """The error of a request that takes longer."""
        return f"the request took longer than {self.seconds:g} s"


class Gate:
    """Refuses requests with the status that fits.

    Args:
        keys: who may translate; None lets everybody.
    """

    def __init__(self, limits: Limits, keys: Keys | None) -> None:
        self.limits, self._keys = limits, keys

    @property
    def key_required(self) -> bool:
        """Whether requests need an API key."""
        return self._keys is not None

    def timed(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with a time limit on all that it waits for, the body included.

        Raises:
            HTTPException: 408, the time is over.
        """

        @wraps(endpoint)
        async def timed_endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await endpoint(request)
            except TimeoutError:
                headers = {"Connection": "close"}
                raise HTTPException(408, self.limits.timeout_error, headers) from None

        return timed_endpoint

    def check_key(self, request: Request, field: str | None) -> Key | None:
        """Return the owner of a request's API key; None if no key is needed.

        The request counts against the key's rate.

        Args:
            field: the key from the field `api_key`; without it, the header
                `Authorization: Bearer` counts.

        Raises:
            HTTPException: 403, the key is missing or wrong; 429, its rate is exceeded.
        """
        if self._keys is None:
            return None
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = field or (bearer if scheme.lower() == "bearer" else "")
        owner = self._keys.owner(key) if key else None
        if owner is None:
            raise HTTPException(403, "Invalid API key" if key else "An API key is needed")
        seconds = self._keys.wait(owner)
        if seconds:
            rate = f"this key is limited to {owner.per_minute:g} requests a minute"
            raise too_many_requests(rate, seconds)
        return owner

    def check_texts(self, texts: list[str]) -> None:
        """Check that there are texts, which may be blank, and not too many of them.

        Raises:
            HTTPException: 400 or 413.
        """
        if not texts:
            raise HTTPException(400, "q: the list has no text")
        if len(texts) > self.limits.sentences:
            raise HTTPException(413, f"q: more than {self.limits.sentences} texts")
        if sum(map(len, texts)) > self.limits.characters:
            raise HTTPException(413, f"q: more than {self.limits.characters:,} characters")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:  # a form can spell half of a surrogate pair
            raise HTTPException(400, "q: not valid Unicode") from None


def too_many_requests(reason: str, seconds: float = 1.0) -> HTTPException:
    """Return the error that asks a client to come again after some seconds."""
    return HTTPException(429, reason, {"Retry-After": str(math.ceil(seconds))})
