"""LibreTranslate's `/translate` and `/detect`, so that its clients work as they are."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.messages import SentenceTranslations
from s2s.serving.http.detection import detect
from s2s.serving.http.error_responses import ERROR_RESPONSES
from s2s.serving.http.gate import Gate
from s2s.serving.http.markup import Markup
from s2s.serving.http.request_parsing import FORMS, JSON, openapi_of, parse
from s2s.serving.http.responses import alternatives, fill, joined, json_response
from s2s.serving.http.schema import (
    DetectedLanguage,
    DetectRequest,
    TranslateRequest,
    TranslateResponse,
)
from s2s.serving.http.service import Service, decode_settings

TRANSLATE = "/translate"


class LibreTranslateRoutes:
    """The endpoints that translate and detect. Their docstrings are OpenAPI's descriptions."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._service, self._gate = service, gate
        self.timed_translate = gate.timed(self.translate)

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        for method in ("POST", "GET"):
            app.add_api_route(
                TRANSLATE,
                self.timed_translate,
                methods=[method],
                response_model=TranslateResponse,
                responses=ERROR_RESPONSES,
                openapi_extra=openapi_of(TranslateRequest, method, (JSON, *FORMS)),
                operation_id=f"translate_{method.lower()}",
            )
            app.add_api_route(
                "/detect",
                self._gate.timed(self.detect),
                methods=[method],
                response_model=list[DetectedLanguage],
                responses=ERROR_RESPONSES,
                openapi_extra=openapi_of(DetectRequest, method, (JSON, *FORMS)),
                operation_id=f"detect_{method.lower()}",
            )

    async def translate(self, request: Request) -> Response:
        """Translate a text or a list of texts."""
        form = await parse(request, TranslateRequest)
        caller = self._gate.check_key(request, form.api_key)
        single = isinstance(form.q, str)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._gate.check_texts(texts, caller)
        documents = await asyncio.to_thread(_parse_html, texts) if form.format == "html" else None
        if documents is None:
            plain = texts
        else:
            plain = [text for document in documents for text in document.texts]
        source, detected = self._service.source(form.source, form.target, texts)

        async def work(engine: EngineClient) -> tuple[list[str], list[list[str]]]:
            if not form.alternatives:
                self._gate.check_work(engine, caller, plain, None)
                return await engine.translate(plain), []
            settings = decode_settings(engine, {"n_best": form.alternatives + 1})
            self._gate.check_work(engine, caller, plain, None, settings)
            translations = await engine.translate(plain)
            detailed = await engine.translate_detailed(plain, settings)
            return translations, _ranked(detailed, form.alternatives + 1)

        model, (translations, ranked) = await self._service.run(source, form.target, work)
        if documents is not None:
            translations = fill(documents, translations)
        content: dict[str, Any] = {"translatedText": translations[0] if single else translations}
        if detected:
            languages = [each.model_dump() for each in detected]
            content["detectedLanguage"] = languages[0] if single else languages
        if form.alternatives:
            others = alternatives(ranked, translations, documents, form.alternatives)
            content["alternatives"] = others[0] if single else others
        return json_response(content, model)

    async def detect(self, request: Request) -> Response:
        """Detect the language of a text, among those that are translated from."""
        form = await parse(request, DetectRequest)
        caller = self._gate.check_key(request, form.api_key)
        self._gate.check_texts([form.q], caller)
        caller.charge(1)
        ranked = detect(form.q, (model.source for model in self._service.models))
        return json_response([{"confidence": share, "language": code} for code, share in ranked])


def _parse_html(texts: list[str]) -> list[Markup]:
    return [Markup(text) for text in texts]


def _ranked(detailed: list[list[SentenceTranslations]], number: int) -> list[list[str]]:
    """Return for each rank of a beam search, the best first, a translation of each text."""
    return [[joined(sentences, rank) for sentences in detailed] for rank in range(number)]
