"""LibreTranslate's `/translate`, `/detect` and `/suggest`, so that its clients work as they are."""

import asyncio
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response

from s2s.decoding.translation import SentenceTranslations, Translations, joined
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.models import Model
from s2s.serving.http.error_responses import ERROR_RESPONSES
from s2s.serving.http.gate import Caller, Gate
from s2s.serving.http.markup import Markup
from s2s.serving.http.request_parsing import FORMS, JSON, openapi_of, parse
from s2s.serving.http.responses import alignments, alternatives, fill, json_response
from s2s.serving.http.schema import (
    DetectedLanguage,
    DetectRequest,
    ErrorResponse,
    PlainTranslateRequest,
    SuggestRequest,
    SuggestResponse,
    TranslateRequest,
    TranslateResponse,
)
from s2s.serving.http.service import Languages, Service, decode_settings
from s2s.serving.http.suggestions import Suggestion, Suggestions
from s2s.text.detection import language_probabilities, percent

TRANSLATE = "/translate"

_PLAIN = msgspec.json.Decoder(PlainTranslateRequest)
_Detailed = list[SentenceTranslations]  # of a text


class _Translated(NamedTuple):
    """Translations of a request's texts, in order."""

    model: Model
    texts: list[str]
    alternatives: list[list[str]]  # to each
    incomplete: list[int]  # places of those that were cut or repeat themselves


class LibreTranslateRoutes:
    """The endpoints about texts. Their docstrings are OpenAPI's descriptions."""

    def __init__(self, service: Service, gate: Gate, suggestions: Suggestions | None) -> None:
        self._service, self._gate, self._suggestions = service, gate, suggestions
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
        app.add_api_route(
            "/suggest",
            self._gate.timed(self.suggest),
            methods=["POST"],
            response_model=SuggestResponse,
            responses={
                **ERROR_RESPONSES,
                507: {"model": ErrorResponse, "description": "The file of suggestions is full."},
            },
            openapi_extra=openapi_of(SuggestRequest, "POST", (JSON, *FORMS)),
        )

    async def translate(self, request: Request) -> Response:
        """Translate a text or a list of texts."""
        form = await parse(request, TranslateRequest, _PLAIN)
        caller = self._gate.check_key(request, form.api_key)
        single = isinstance(form.q, str)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._gate.check_texts(texts, caller)
        documents = await asyncio.to_thread(_parse_html, texts) if form.format == "html" else None
        prose = [" ".join(document.texts) for document in documents] if documents else texts
        languages = self._service.resolve(form.source, form.target, prose)
        places = languages.to_translate(prose)
        translations = list(texts)  # those that need no translation come back as they are
        others: list[list[str]] = [[] for _ in texts]
        model, incomplete = None, []
        if not places:
            caller.charge(1)
        else:
            translated = await self._translated(
                caller,
                languages,
                [texts[place] for place in places],
                [documents[place] for place in places] if documents else None,
                form.alternatives,
            )
            for index, place in enumerate(places):
                translations[place] = translated.texts[index]
                others[place] = translated.alternatives[index]
            model = translated.model
            incomplete = [places[index] for index in translated.incomplete]
        content: dict[str, Any] = {"translatedText": translations[0] if single else translations}
        if languages.detected:
            detected = [each.model_dump() for each in languages.detected]
            content["detectedLanguage"] = detected[0] if single else detected
        if form.alternatives:
            content["alternatives"] = others[0] if single else others
        return json_response(content, model, incomplete)

    async def _translated(
        self,
        caller: Caller,
        languages: Languages,
        texts: list[str],
        documents: list[Markup] | None,
        number: int,
    ) -> _Translated:
        """Return the translation of each text, and so many alternatives to each.

        Args:
            documents: the texts as HTML, if they are.
        """
        plain = [text for document in documents for text in document.texts] if documents else texts

        aligned = documents is not None and any(each.has_inline for each in documents)

        async def work(engine: EngineClient) -> tuple[Translations, list[_Detailed]]:
            if not number:
                weight = self._gate.check_work(engine, caller, plain, None)
                return await engine.translate(plain, aligned=aligned, weight=weight), []
            settings = decode_settings(engine, {"n_best": number + 1}).without_marks()
            self._gate.check_work(engine, caller, plain, None, settings)
            best = await engine.translate(plain, aligned=aligned)
            return best, await engine.translate_detailed(plain, settings)

        model, (best, detailed) = await self._service.run(languages, work)
        translations: list[str] = best
        incomplete = best.incomplete
        if documents is not None:
            translations = fill(documents, best, best.alignments)
            incomplete = _documents_of(incomplete, documents)
        others: list[list[str]] = [[] for _ in texts]
        if number:
            ranked = [_of_rank(detailed, rank, documents) for rank in range(number + 1)]
            others = alternatives(ranked, translations, number)
        return _Translated(model, translations, others, incomplete)

    async def detect(self, request: Request) -> Response:
        """Detect the language of a text, or of several together, among those that are served."""
        form = await parse(request, DetectRequest)
        caller = self._gate.check_key(request, form.api_key)
        texts = [form.q] if isinstance(form.q, str) else form.q
        self._gate.check_texts(texts, caller)
        caller.charge(1)
        shares = language_probabilities("\n".join(texts), self._service.languages)
        ranked = sorted(shares.items(), key=lambda entry: -entry[1])
        return json_response(
            [{"confidence": percent(share), "language": code} for code, share in ranked]
        )

    async def suggest(self, request: Request) -> Response:
        """Store a better translation of a text, if the service takes suggestions."""
        form = await parse(request, SuggestRequest)
        caller = self._gate.check_key(request, form.api_key)
        if self._suggestions is None:
            raise HTTPException(403, "suggestions are disabled on this server")
        self._gate.check_texts([form.q, form.s], caller)
        caller.charge(1)
        if not (form.q.strip() and form.s.strip()):
            raise HTTPException(400, "q and s: neither may be blank")
        source, target = (self._service.served_language(c) for c in (form.source, form.target))
        suggestion = Suggestion(form.q, form.s, source, target, caller.name)
        await asyncio.to_thread(self._suggestions.add, suggestion)
        return json_response({"success": True})


def _parse_html(texts: list[str]) -> list[Markup]:
    return [Markup(text) for text in texts]


def _documents_of(texts: list[int], documents: list[Markup]) -> list[int]:
    """Return the places of the documents that have these texts."""
    owners = [place for place, document in enumerate(documents) for _ in document.texts]
    return list(dict.fromkeys(owners[text] for text in texts))


def _of_rank(detailed: list[_Detailed], rank: int, documents: list[Markup] | None) -> list[str]:
    """Return a translation of each text, or document, of the translations of a rank."""
    translations = [joined(sentences, rank) for sentences in detailed]
    if documents is None:
        return translations
    return fill(documents, translations, [alignments(each, rank) for each in detailed])
