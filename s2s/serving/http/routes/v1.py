"""Our own paths, `/v1`: translations in detail, word by word, and the models behind them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from s2s.decoding.translation import SentenceTranslations, Translations
from s2s.errors import Failed
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.messages import Partial
from s2s.serving.http.error_responses import ERROR_RESPONSES
from s2s.serving.http.gate import Gate
from s2s.serving.http.request_parsing import openapi_of, parse
from s2s.serving.http.responses import model_response, server_sent_event, text_response
from s2s.serving.http.schema import (
    DetailedRequest,
    DetailedResponse,
    ModelDetails,
    ModelResponse,
    ModelsResponse,
    StreamRequest,
)
from s2s.serving.http.service import Service, decode_settings

_EVENTS = (
    'Server-sent events. `grown`: a sentence of the text has become `{"sentence": 0, '
    '"translation": "J\'ai"}`. `done`: `{"translatedText": "J\'ai froid.", "model": {…}, '
    '"incomplete": false}`, true if a translation was cut or repeats itself. '
    '`error`: `{"error": "…"}`.'
)

# Decoding settings shown to clients without a key.
_SHOWN = {"beam", "n_best", "length_penalty", "max_length", "unknown"}

# What a stream gives: parts of translations, and at the end the translation of each text.
_Item = Partial | Translations


class V1Routes:
    """The endpoints beyond LibreTranslate's. Their docstrings are OpenAPI's descriptions."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._service, self._gate = service, gate

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        app.add_api_route(
            "/v1/translate",
            self._gate.timed(self.details),
            methods=["POST"],
            response_model=DetailedResponse,
            responses=ERROR_RESPONSES,
            openapi_extra=openapi_of(DetailedRequest, "POST"),
        )
        events = {"text/event-stream": {"schema": {"type": "string"}}}
        app.add_api_route(
            "/v1/translate/stream",
            self._gate.timed(self.stream),
            methods=["POST"],
            response_class=StreamingResponse,
            responses={**ERROR_RESPONSES, 200: {"content": events, "description": _EVENTS}},
            openapi_extra=openapi_of(StreamRequest, "POST"),
        )
        app.add_api_route("/v1/models", self.list_models, methods=["GET"])

    async def details(self, request: Request) -> Response:
        """Translate with scores, attention, several hypotheses and settings of decoding."""
        form = await parse(request, DetailedRequest)
        caller = self._gate.check_key(request, form.api_key)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._gate.check_texts(texts, caller)
        languages = self._service.resolve_pair(form.source, form.target, texts)

        async def work(engine: EngineClient) -> list[list[SentenceTranslations]]:
            settings = decode_settings(engine, form.settings())
            self._gate.check_work(engine, caller, texts, settings)
            return await engine.translate_detailed(texts, settings)

        model, detailed = await self._service.run(languages, work)

        def to_json() -> str:
            return DetailedResponse(
                model=model_response(model), translations=list(map(text_response, texts, detailed))
            ).model_dump_json()

        return Response(
            await asyncio.to_thread(to_json),  # attention makes it long
            media_type="application/json",
            headers={"x-s2s-model": model.label},
        )

    async def stream(self, request: Request) -> Response:
        """Translate a text and send each of its sentences whenever it has grown by a word."""
        form = await parse(request, StreamRequest)
        caller = self._gate.check_key(request, form.api_key)
        self._gate.check_texts([form.q], caller)
        languages = self._service.resolve_pair(form.source, form.target, [form.q])

        async def start(engine: EngineClient) -> tuple[AsyncGenerator[_Item, None], _Item]:
            self._gate.check_work(engine, caller, [form.q], None)
            items = engine.stream([form.q])
            return items, await anext(items)

        # An error before the first item still has its status.
        model, (items, first) = await self._service.run(languages, start)
        return StreamingResponse(
            self._events(form.q, items, first, model_response(model)),
            media_type="text/event-stream",
            headers={"x-s2s-model": model.label},
        )

    async def _events(
        self, text: str, items: AsyncGenerator[_Item, None], item: _Item, model: ModelResponse
    ) -> AsyncIterator[str]:
        """Yield the events of a text's stream whose first item has come."""
        end = asyncio.get_running_loop().time() + self._gate.limits.seconds
        try:
            while isinstance(item, Partial):
                data = {"sentence": item.sentence, "translation": item.translation}
                # Outside of the timeout, which would end the sending and not come here.
                yield server_sent_event("grown", data)
                async with asyncio.timeout_at(end):
                    item = await anext(items)
            translation = item[0] if text.strip() else text
            done = {
                "translatedText": translation,
                "model": model.model_dump(),
                "incomplete": bool(item.incomplete),
            }
            yield server_sent_event("done", done)
        except TimeoutError:
            yield server_sent_event("error", {"error": self._gate.limits.timeout_error})
        except Failed as error:
            yield server_sent_event("error", {"error": str(error)})
        finally:
            await items.aclose()

    async def list_models(self, request: Request) -> ModelsResponse:
        """List the models that are served, with their settings.

        Where API keys are required, a client without one gets only the settings that answers show
        anyway, and not why an exchange failed.
        """
        known = self._gate.knows(request)
        shown = None if known else _SHOWN
        failure = self._service.failure
        return ModelsResponse(
            models=[
                ModelDetails(
                    **model_response(model).model_dump(),
                    attention=model.engine.config.model.attention,
                    decode=model.engine.config.decode.model_dump(include=shown),
                )
                for model in self._service.models
            ],
            failure=failure if known or failure is None else "the last exchange of models failed",
        )
