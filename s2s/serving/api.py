"""The HTTP interface: a subset of LibreTranslate's, so that its clients work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from s2s import __version__
from s2s.languages import language_name
from s2s.serving.engine import Engine, Overloaded


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered."""

    sentences: int = 128
    characters: int = 5_000  # of all sentences together


class TranslateRequest(BaseModel):
    """What to translate, and between which languages."""

    q: Annotated[
        str | list[str], Field(description="A sentence, or several.", examples=["I am cold."])
    ]
    source: Annotated[
        str, Field(description="Language of `q`; `auto` is the model's own.", examples=["en"])
    ]
    target: Annotated[str, Field(description="Language wanted.", examples=["fr"])]


class TranslateResponse(BaseModel):
    """The translation, or one for each sentence."""

    translatedText: Annotated[str | list[str], Field(examples=["J'ai froid."])]


class Language(BaseModel):
    """A language that can be translated from."""

    code: Annotated[str, Field(examples=["en"])]
    name: Annotated[str, Field(examples=["English"])]
    targets: Annotated[list[str], Field(examples=[["fr"]])]


class Health(BaseModel):
    """Whether translations can be had."""

    status: Annotated[str, Field(examples=["ok"])]


class ErrorResponse(BaseModel):
    """What was wrong with a request."""

    error: Annotated[str, Field(examples=["q: Field required"])]


_ERRORS = {
    400: ("The request is not of the form above, or asks for other languages."),
    413: ("The text is too long."),
    503: ("Too much is waiting; try again later."),
}


def create_app(engine: Engine, limits: Limits = Limits()) -> FastAPI:
    """The HTTP app over an engine."""
    app = FastAPI(
        title="s2s",
        version=__version__,
        description="Translates sentences with an LSTM encoder–decoder.",
    )
    languages = (engine.config.source_language, engine.config.target_language)

    @app.post(
        "/translate",
        responses={
            code: {"model": ErrorResponse, "description": why} for code, why in _ERRORS.items()
        },
    )
    async def translate(request: TranslateRequest) -> TranslateResponse:
        """Translate a sentence or a list of sentences."""
        sentences = [request.q] if isinstance(request.q, str) else request.q
        _check(request, sentences, languages, limits)
        try:
            translations = await engine.translate(sentences)
        except Overloaded:
            raise HTTPException(
                503, "too many sentences are waiting", {"Retry-After": "1"}
            ) from None
        one = isinstance(request.q, str)
        return TranslateResponse(translatedText=translations[0] if one else translations)

    @app.get("/languages")
    async def list_languages() -> list[Language]:
        """The language that is translated from, and what it is translated to."""
        source, target = languages
        return [Language(code=source, name=language_name(source), targets=[target])]

    @app.get("/health", responses={503: {"model": ErrorResponse}})
    async def health() -> Health:
        """Whether the model's thread runs."""
        if not engine.alive:
            raise HTTPException(503, "the model's thread has ended")
        return Health(status="ok")

    @app.exception_handler(RequestValidationError)
    async def bad_form(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = {_field(fault["loc"]): fault["msg"] for fault in error.errors()}
        return _error(400, "; ".join(f"{field}: {what}" for field, what in faults.items()))

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail), error.headers)

    return app


def _check(
    request: TranslateRequest, sentences: list[str], languages: tuple[str, str], limits: Limits
) -> None:
    """Refuse, with the fitting status, what cannot be translated."""
    if not any(sentence.strip() for sentence in sentences):
        raise HTTPException(400, "q: no text to translate")
    try:
        "".join(sentences).encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise HTTPException(400, "q: not valid Unicode") from None
    if len(sentences) > limits.sentences:
        raise HTTPException(413, f"q: more than {limits.sentences} sentences")
    if sum(map(len, sentences)) > limits.characters:
        raise HTTPException(413, f"q: more than {limits.characters:,} characters")
    source, target = languages
    if request.source not in (source, "auto") or request.target != target:
        raise HTTPException(
            400, f"{request.source} to {request.target} is not served; {source} to {target} is"
        )


def _field(place: tuple[str | int, ...]) -> str:
    """The field of the request that a fault is in; of broken JSON, the place is a number."""
    field = place[1] if len(place) > 1 else None
    return field if isinstance(field, str) else "body"


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, dict(headers or {}))
