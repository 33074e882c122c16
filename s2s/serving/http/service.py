"""What is done for a request to each path of the HTTP interface."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from s2s.config import DecodeConfig
from s2s.errors import BadInput, Failed
from s2s.serving.engine.client import Closed, EngineClient, Found, Grown, Overloaded, weight
from s2s.serving.engine.models import Model, Models
from s2s.serving.http.answers import (
    alternatives,
    event,
    filled,
    json_response,
    model_response,
    text_response,
)
from s2s.serving.http.api_keys import Keys
from s2s.serving.http.detection import detect
from s2s.serving.http.forms import read
from s2s.serving.http.markup import Markup
from s2s.serving.http.page import PAGE, PAGE_POLICY
from s2s.serving.http.schema import (
    DetailedRequest,
    DetailedResponse,
    DetectRequest,
    Health,
    Language,
    ModelDetails,
    ModelsResponse,
    StreamRequest,
    TranslateRequest,
)
from s2s.text.languages import language_name

Result = TypeVar("Result")
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered, and the longest time that it may take."""

    sentences: int = 256  # texts of a request
    characters: int = 10_000  # of all texts together
    seconds: float = 30.0  # before a client is told to come again

    @property
    def body(self) -> int:
        """Bytes of a request: a character may be spelt with as many as twelve of them."""
        return 12 * self.characters + 100 * self.sentences + 4096


class Service:
    """What is answered to each path. The docstrings of its paths are the interface's own."""

    def __init__(self, models: Models, limits: Limits, keys: Keys | None) -> None:
        self._models, self._limits, self._keys = models, limits, keys

    def label(self) -> str:
        """What is served, for the header of answers that no single model made."""
        return ", ".join(model.label for model in self._models.all)

    def timed(self, answer: Endpoint) -> Endpoint:
        """The same, given up after a while: whatever is waited for, the body included."""

        @wraps(answer)
        async def endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    return await answer(request)
            except TimeoutError:
                why = f"it took over {self._limits.seconds:g} s"
                raise HTTPException(408, why, {"Connection": "close"}) from None

        return endpoint

    # ---- LibreTranslate's ----

    async def translate(self, request: Request) -> Response:
        """Translate a text or a list of texts."""
        form = await read(request, TranslateRequest)
        self._let_in(request, form.api_key)
        one = isinstance(form.q, str)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._check(texts)
        marked = await asyncio.to_thread(_marked, texts) if form.format == "html" else None
        plain = texts if marked is None else [text for m in marked for text in m.texts]
        source, detected = self._source(form.source, form.target, texts)

        async def work(engine: EngineClient) -> tuple[list[str], list[list[str]]]:
            _check_weight(engine, plain)
            best = await engine.translate(plain)
            others = await _others(engine, plain, form.alternatives) if form.alternatives else []
            return best, others

        model, (translated, others) = await self._with_model(source, form.target, work)
        if marked is not None:
            translated = filled(marked, translated)
        answer: dict[str, Any] = {"translatedText": translated[0] if one else translated}
        if detected:
            answer["detectedLanguage"] = detected[0] if one else detected
        if form.alternatives:
            each = alternatives(marked, others, translated, form.alternatives)
            answer["alternatives"] = each[0] if one else each
        return json_response(answer, model)

    async def detect(self, request: Request) -> Response:
        """Tell which language a text is in, of those that can be translated from."""
        form = await read(request, DetectRequest)
        self._let_in(request, form.api_key)
        self._check([form.q])
        found = detect(form.q, (model.source for model in self._models.all))
        return json_response([{"confidence": share, "language": code} for code, share in found])

    async def languages(self) -> list[Language]:
        """The languages that are translated from, and to which."""
        targets: dict[str, list[str]] = {}
        for model in self._models.all:
            targets.setdefault(model.source, []).append(model.target)
        return [
            Language(code=code, name=language_name(code), targets=sorted(to))
            for code, to in sorted(targets.items())
        ]

    async def settings(self) -> dict[str, Any]:
        """What LibreTranslate's page asks for."""
        if not self._models.all:
            raise HTTPException(503, "no model is loaded yet")
        first = self._models.all[0]
        return {
            "apiKeys": self._keys is not None,
            "charLimit": self._limits.characters,
            "frontendTimeout": 500,
            "keyRequired": self._keys is not None,
            "language": {
                "source": {"code": first.source, "name": language_name(first.source)},
                "target": {"code": first.target, "name": language_name(first.target)},
            },
            "suggestions": False,
            "supportedFilesFormat": [],
        }

    async def health(self) -> Health:
        """Whether the models' processes run."""
        if not self._models.alive:
            raise HTTPException(503, "a model's process has ended")
        return Health(status="ok")

    # ---- our own ----

    async def page(self, request: Request) -> Response:
        """The web page."""
        return Response(
            PAGE,
            media_type="text/html",
            headers={"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"},
        )

    async def details(self, request: Request) -> Response:
        """Translate with scores, attention, several hypotheses and settings of one's own."""
        form = await read(request, DetailedRequest)
        self._let_in(request, form.api_key)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._check(texts)
        source, target = self._pair(form.source, form.target, texts)

        async def work(engine: EngineClient) -> list[list[Found]]:
            how = _settings(engine, form.settings())
            _check_weight(engine, texts)
            return await engine.hypotheses(texts, how)

        model, found = await self._with_model(source, target, work)

        def written() -> str:
            translations = [text_response(pieces) for pieces in found]
            return DetailedResponse(
                model=model_response(model), translations=translations
            ).model_dump_json()

        return Response(
            await asyncio.to_thread(written),  # attention makes it long
            media_type="application/json",
            headers={"x-s2s-model": model.label},
        )

    async def stream(self, request: Request) -> Response:
        """Translate a text and send each of its sentences whenever it has grown by a word."""
        form = await read(request, StreamRequest)
        self._let_in(request, form.api_key)
        self._check([form.q])
        source, target = self._pair(form.source, form.target, [form.q])

        async def begin(engine: EngineClient) -> tuple[AsyncGenerator[Grown, None], Grown]:
            told = engine.stream([form.q])
            return told, await anext(told)

        model, (told, first) = await self._with_model(source, target, begin)

        async def events() -> AsyncIterator[str]:
            what = first
            end = asyncio.get_running_loop().time() + self._limits.seconds
            try:
                while not isinstance(what, list):
                    _, sentence, translation = what
                    # Outside of the timeout, which would end the sending and not come here.
                    yield event("grown", {"sentence": sentence, "translation": translation})
                    async with asyncio.timeout_at(end):
                        what = await anext(told)
                done = {"translatedText": what[0], "model": model_response(model).model_dump()}
                yield event("done", done)
            except TimeoutError:
                yield event("error", {"error": f"it took over {self._limits.seconds:g} s"})
            except (Failed, Overloaded) as error:
                yield event("error", {"error": str(error) or "the model is closed"})
            finally:
                await told.aclose()

        return StreamingResponse(
            events(), media_type="text/event-stream", headers={"x-s2s-model": model.label}
        )

    async def list_models(self) -> ModelsResponse:
        """The models that are served, with their settings."""
        return ModelsResponse(
            models=[
                ModelDetails(
                    **model_response(model).model_dump(),
                    attention=model.engine.config.model.attention,
                    decode=model.engine.config.decode.model_dump(),
                )
                for model in self._models.all
            ],
            failure=self._models.failure,
        )

    # ---- what they share ----

    def _let_in(self, request: Request, given: str | None) -> None:
        """Refuse who has no key, or asks more often than it allows."""
        if self._keys is None:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = given or (bearer if scheme.lower() == "bearer" else "")
        owner = self._keys.owner(key) if key else None
        if owner is None:
            raise HTTPException(403, "Invalid API key" if key else "An API key is needed")
        wait = self._keys.wait(owner)
        if wait:
            raise _come_again(f"the key allows {owner.per_minute:g} requests a minute", wait)

    def _check(self, texts: list[str]) -> None:
        """Refuse, with the fitting status, what cannot be translated."""
        if not any(text.strip() for text in texts):
            raise HTTPException(400, "q: no text to translate")
        if len(texts) > self._limits.sentences:
            raise HTTPException(413, f"q: more than {self._limits.sentences} texts")
        if sum(map(len, texts)) > self._limits.characters:
            raise HTTPException(413, f"q: more than {self._limits.characters:,} characters")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:  # a form can spell half of a surrogate pair
            raise HTTPException(400, "q: not valid Unicode") from None

    def _pair(self, source: str, target: str | None, texts: list[str]) -> tuple[str, str]:
        """The languages that are meant, where the target may be left out."""
        targets = {m.target for m in self._models.all if source in ("auto", m.source)}
        if target is None:
            if len(targets) != 1:
                raise HTTPException(400, f"target: one of {', '.join(sorted(self._pairs()))}")
            [target] = targets
        return self._source(source, target, texts)[0], target

    def _source(
        self, source: str, target: str, texts: list[str]
    ) -> tuple[str, list[dict[str, Any]]]:
        """The source language, and what was detected of each text if it was to be."""
        if source != "auto":
            return source, []
        sources = [model.source for model in self._models.all if model.target == target]
        if not sources:
            raise self._not_served("auto", target)
        ranked = [detect(text, sources) for text in texts]
        totals: dict[str, float] = dict.fromkeys(sources, 0.0)
        for found in ranked:
            for code, share in found:
                totals[code] += share
        best = max(totals, key=totals.__getitem__)
        return best, [{"confidence": dict(found)[best], "language": best} for found in ranked]

    def _find(self, source: str, target: str) -> Model:
        for model in self._models.all:
            if (model.source, model.target) == (source, target):
                return model
        raise self._not_served(source, target)

    def _pairs(self) -> list[str]:
        return [f"{model.source} to {model.target}" for model in self._models.all]

    def _not_served(self, source: str, target: str) -> HTTPException:
        pairs = self._pairs()
        served = f"{', '.join(pairs)} {'is' if len(pairs) == 1 else 'are'}"
        return HTTPException(400, f"{source} to {target} is not served; {served}")

    async def _with_model(
        self, source: str, target: str, work: Callable[[EngineClient], Awaitable[Result]]
    ) -> tuple[Model, Result]:
        """A model, which may be exchanged meanwhile, and what it makes."""
        while True:
            model = self._find(source, target)
            try:
                return model, await work(model.engine)
            except Closed:
                if model in self._models.all:  # it was not exchanged for another
                    raise HTTPException(503, "the model's process has ended") from None
            except Overloaded:
                raise _come_again() from None


# ---- what is asked of a model --------------------------------------------------------------------


def _settings(engine: EngineClient, given: dict[str, Any]) -> DecodeConfig:
    """The settings of decoding that a request asks for."""
    sampled = "temperature" in given or engine.config.decode.temperature is not None
    if given.get("n_best", 1) > 1 and not sampled:
        given.setdefault("beam", max(given["n_best"], engine.config.decode.beam))
    try:
        return engine.config.decode.changed(**given)
    except BadInput as error:
        raise HTTPException(400, str(error)) from None


async def _others(engine: EngineClient, texts: list[str], number: int) -> list[list[str]]:
    """For each text so many translations by beam search, the best first."""
    how = _settings(engine, {"n_best": number + 1})
    return [
        [
            "".join(
                piece.with_whitespace(best[min(n, len(best) - 1)].text) for piece, best in pieces
            )
            for n in range(number + 1)
        ]
        for pieces in await engine.hypotheses(texts, how)
    ]


def _check_weight(engine: EngineClient, texts: list[str]) -> None:
    """Refuse what could not even wait: to come again would not help."""
    if weight(texts) > engine.most:
        raise HTTPException(413, f"q: more than {engine.most:,} texts or stretches of text")


def _marked(texts: list[str]) -> list[Markup]:
    return [Markup(text) for text in texts]


def _come_again(why: str = "too much is waiting", seconds: float = 1.0) -> HTTPException:
    return HTTPException(429, why, {"Retry-After": str(math.ceil(seconds))})
