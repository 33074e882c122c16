"""What a request must pass before it is translated: API keys and their rates, limits, a time."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps

from fastapi import HTTPException, Request, Response
from starlette.types import Scope

from s2s.config import DecodeConfig
from s2s.serving.engine.client import EngineClient
from s2s.serving.http.api_keys import Key, Keys
from s2s.serving.http.headers import header
from s2s.serving.http.time_limit import TimeLimit

# Of a request's scope: the key in its header, and who it comes from.
_KEY, _CALLER = "s2s.key", "s2s.caller"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered, and the longest time that it may take."""

    texts: int = 256  # of a request
    sentences: int = 2_000  # weight of all texts together (`s2s.serving.engine.weight`)
    characters: int = 10_000  # of all texts together
    seconds: float = 30.0  # for a request

    @property
    def body(self) -> int:
        """Bytes of a request; a character may be spelt with as many as twelve of them."""
        return 12 * self.characters + 100 * self.texts + 4096

    @property
    def answer(self) -> int:
        """Characters of a request times its hypotheses, which make the size of an answer."""
        return 5 * self.characters

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
        self._time = TimeLimit(limits.seconds)

    @property
    def has_keys(self) -> bool:
        """Whether there are API keys."""
        return self._keys is not None

    @property
    def key_required(self) -> bool:
        """Whether requests need an API key."""
        return self._keys is not None and self._keys.anonymous is None

    def timed(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with a time limit on all that it waits for, the body included.

        Raises:
            HTTPException: 403, the key in the header is wrong, so that the body is not waited for;
                408, the time is over.
        """

        @wraps(endpoint)
        async def timed_endpoint(request: Request) -> Response:
            self._check_header(request)
            try:
                return await self._time.wait_for(endpoint(request))
            except TimeoutError:
                headers = {"Connection": "close"}
                raise HTTPException(408, self.limits.timeout_error, headers) from None

        return timed_endpoint

    def check_key(self, request: Request, field: str | None) -> "Caller":
        """Check the API key of a request to a `timed` endpoint, and return who it comes from.

        Args:
            field: the key from the field `api_key`; without it, the header
                `Authorization: Bearer` counts.

        Raises:
            HTTPException: 403, the key is missing or wrong; 429, its rate is used up.
        """
        key: Key | None = None
        if self._keys is not None:
            in_header: Key | None = request.scope.get(_KEY)
            key = self._known(field) if field else in_header or self._keys.anonymous
            if key is None:
                raise HTTPException(403, "An API key is needed")
        caller = request.scope[_CALLER] = Caller(self._keys, key)
        caller.require_rate(1)
        return caller

    def knows(self, request: Request) -> bool:
        """Whether a request without a body may be told all: its key is valid, or there are none."""
        if self._keys is None:
            return True
        given = request.query_params.get("api_key") or _bearer(request)
        return bool(given) and self._keys.owner(given) is not None

    def _check_header(self, request: Request) -> None:
        """Check the key in a request's header, if there is one, and keep whose it is."""
        if self._keys is not None and (given := _bearer(request)):
            request.scope[_KEY] = self._known(given)

    def _known(self, given: str) -> Key:
        """Return the stored key that was given.

        Raises:
            HTTPException: 403, there is no such key.
        """
        key = self._keys.owner(given) if self._keys else None
        if key is None:
            raise HTTPException(403, "Invalid API key")
        return key

    def check_texts(self, texts: list[str], caller: "Caller") -> None:
        """Check that there are texts, which may be blank, and not too many of them.

        Raises:
            HTTPException: 400 or 413.
        """
        if not texts:
            raise HTTPException(400, "q: the list has no text")
        if len(texts) > self.limits.texts:
            raise HTTPException(413, f"q: more than {self.limits.texts} texts")
        characters = sum(map(len, texts))
        if characters > self.limits.characters:
            raise HTTPException(413, f"q: more than {self.limits.characters:,} characters")
        if characters > caller.characters:
            raise HTTPException(
                413, f"q: more than the {caller.characters:,} characters that {caller} may have"
            )
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:  # a form can spell half of a surrogate pair
            raise HTTPException(400, "q: not valid Unicode") from None

    def check_work(
        self,
        engine: EngineClient,
        caller: "Caller",
        texts: list[str],
        *searches: DecodeConfig | None,
    ) -> int:
        """Check the work that texts are for a model, and count it against the caller's rate.

        Args:
            searches: settings of each time that the texts are translated; None for the model's own.

        Returns:
            What the texts weigh with the model's own settings.

        Raises:
            HTTPException: 413, it is more than is ever done; 429, the caller's rate is used up.
            Overloaded: too much waits.
        """
        sentences = engine.weight(texts)
        if sentences > self.limits.sentences:
            raise HTTPException(
                413, f"q: more than {self.limits.sentences:,} sentences of up to 200 characters"
            )
        widths, n_best = [], 1
        for settings in searches:
            widths.append(engine.width(settings))
            if settings is not None:
                n_best = max(n_best, settings.n_best)
        if n_best * sum(map(len, texts)) > self.limits.answer:
            raise HTTPException(
                413,
                f"n_best: too large an answer; {n_best} times the characters of `q` must be "
                f"at most {self.limits.answer:,}",
            )
        heaviest = sentences * max(widths)
        if heaviest > engine.max_waiting:
            raise HTTPException(
                413,
                f"q: too much work; by beam and n_best it counts as {heaviest:,} sentences, "
                f"and at most {engine.max_waiting:,} may wait",
            )
        for width in widths:
            engine.require_room(sentences * width, wide=width > 1)
        caller.charge(max(1, sentences * sum(widths)))
        return sentences


class Caller:
    """The sender of a request: the owner of a key, or anybody.

    Args:
        keys: those that are accepted; None if no key is asked for.
        key: the sender's, or the anonymous allowance.
    """

    def __init__(self, keys: Keys | None, key: Key | None) -> None:
        self._keys, self._key, self._charged = keys, key, 0

    def __str__(self) -> str:
        """Return what errors call it."""
        anonymous = self._key is None or self._key.anonymous
        return "requests without a key" if anonymous else "this key"

    @property
    def name(self) -> str | None:
        """The name of the sender's key, if there is one."""
        return self._key.name if self._key and not self._key.anonymous else None

    @property
    def charged(self) -> int:
        """The weight of the request so far."""
        return self._charged

    @property
    def characters(self) -> float:
        """The characters that a request may have."""
        if self._key is None or self._key.characters is None:
            return math.inf
        return self._key.characters

    def charge(self, weight: int) -> None:
        """Count the weight of the request against the key's rate.

        Of a request that is charged again, as where its model was exchanged meanwhile, only what is
        more counts.

        Raises:
            HTTPException: 413, it is more than a minute's; 429, the rate is used up for now.
        """
        if weight > self._charged:
            self.require_rate(weight - self._charged, take=True)
            self._charged = weight

    def require_rate(self, weight: int, *, take: bool = False) -> None:
        """Return if the key's rate has so much left.

        Args:
            take: count it, too.

        Raises:
            HTTPException: as `charge`.
        """
        key = self._key
        if self._keys is None or key is None or key.per_minute is None:
            return
        rate = f"{key.per_minute:g} sentences a minute"
        if weight > key.burst:
            raise HTTPException(
                413, f"q: counts as {weight:,} sentences, and {self} may have {rate}"
            )
        seconds = self._keys.wait(key, weight, take=take)
        if seconds:
            raise too_many_requests(f"too much at once; {self} may have {rate}", seconds)


def caller_of(scope: Scope) -> Caller | None:
    """Return who a request comes from; None if its key was not checked or is not valid."""
    caller: Caller | None = scope.get(_CALLER)
    return caller


def _bearer(request: Request) -> str:
    """Return the key in the header `Authorization: Bearer`, or nothing."""
    scheme, _, bearer = header(request.scope, b"authorization").partition(" ")
    return bearer if scheme.lower() == "bearer" else ""


def too_many_requests(reason: str, seconds: float = 1.0) -> HTTPException:
    """Return the error that asks a client to come again after some seconds."""
    return HTTPException(429, reason, {"Retry-After": str(math.ceil(seconds))})
