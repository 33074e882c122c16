"""Requests and responses of the HTTP interface. OpenAPI shows their docstrings."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model

from s2s.decoding.translation import FinishReason
from s2s.overrides import REQUEST_OVERRIDES, overridden, pydantic_fields

Code = Annotated[str, Field(min_length=1, max_length=35)]
Texts = Annotated[
    str | list[str], Field(description="A text, or several.", examples=["I am cold."])
]


class _Request(BaseModel):
    """A request. Unknown fields, as clients of other services send them, are ignored."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


class TranslateRequest(_Request):
    """Texts to translate, and their languages: LibreTranslate's request."""

    q: Texts

    source: Code = Field(examples=["en"])
    """Language of `q`, in any usual spelling; `auto` detects it."""

    target: Code = Field(examples=["fr"])
    """Language to translate into. A text that is in it already comes back as it is."""

    format: Literal["text", "html"] = "text"
    """`html` translates the text of HTML, and keeps all tags; what is marked `translate="no"` or
    `class="notranslate"` stays as it is."""

    alternatives: int = Field(default=0, ge=0, le=10)
    """Number of other translations to give."""

    api_key: str | None = Field(default=None, max_length=200)
    """API key, if the service requires one; ignored otherwise."""


class PlainTranslateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A `TranslateRequest` as most clients send it: in JSON, each value of the type that it has.

    msgspec reads it in a ninth of the time that pydantic takes. What it does not read,
    `TranslateRequest` does, or refuses with the reason.
    """

    q: str | list[str]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=35)]
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=35)]
    format: Literal["text", "html"] = "text"
    alternatives: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    api_key: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class DetectedLanguage(BaseModel):
    """A detected language, and its probability in percent."""

    confidence: float = Field(examples=[92.0])
    language: str = Field(examples=["en"])


class TranslateResponse(BaseModel):
    """The translation, or one for each text, and what else was asked for."""

    translatedText: str | list[str] = Field(examples=["J'ai froid."])
    detectedLanguage: DetectedLanguage | list[DetectedLanguage] | None = None
    alternatives: list[str] | list[list[str]] | None = None


class DetectRequest(_Request):
    """A text, or several in one language, which is to be detected."""

    q: Texts

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`."""


class SuggestRequest(_Request):
    """A better translation of a text: LibreTranslate's request."""

    q: str = Field(examples=["I am cold."])
    """The text."""

    s: str = Field(examples=["J'ai froid."])
    """The translation that is suggested."""

    source: Code = Field(examples=["en"])
    """Language of `q`; may be `auto`."""

    target: Code = Field(examples=["fr"])
    """Language of `s`."""

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`."""


class SuggestResponse(BaseModel):
    """The suggestion has been stored."""

    success: bool = Field(examples=[True])


class Language(BaseModel):
    """A language that is translated from or into, and its targets, itself among them."""

    code: str = Field(examples=["en"])
    name: str = Field(examples=["English"])
    targets: list[str] = Field(examples=[["en", "fr"]])


class Health(BaseModel):
    """The state of the service."""

    status: str = Field(examples=["ok"])


class ErrorResponse(BaseModel):
    """The reason that a request was refused, or failed."""

    error: str = Field(examples=["q: Field required"])


_Overrides: Any = create_model("_Overrides", **pydantic_fields(REQUEST_OVERRIDES))


class _TextsRequest(_Request):
    """Texts and their languages."""

    q: Texts

    source: Code = Field(default="auto", examples=["en"])
    """Language of `q`; `auto` as in `/translate`."""

    target: Code | None = Field(default=None, examples=["fr"])
    """Language to translate into; may be left out if only one is served."""


class DetailedRequest(_Overrides, _TextsRequest):
    """Texts to translate, and settings of decoding; those left out are the model's own."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`; or in a header, `Authorization: Bearer KEY`."""

    def settings(self) -> dict[str, object]:
        """Return the settings of `DecodeConfig` that the request overrides."""
        return overridden(self, REQUEST_OVERRIDES)


class StreamRequest(_Request):
    """A text to translate word by word."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    q: str = Field(examples=["I am cold."])
    """The text."""

    source: Code = Field(default="auto", examples=["en"])
    """Language of `q`; `auto` as in `/translate`."""

    target: Code | None = Field(default=None, examples=["fr"])
    """Language to translate into; may be left out if only one is served."""

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`."""


class Word(BaseModel):
    """A token of a translation: a word, or a part of one."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["froid"])
    """The token as the model generated it; `<eos>` ends the translation."""

    score: float = Field(examples=[-0.12])
    """Log-probability, in nats."""

    unknown: bool = False
    """Whether it is `<unk>`, for which the model has no word."""


class HypothesisResponse(BaseModel):
    """One translation of a sentence."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["J'ai froid."])
    """The translation."""

    score: float = Field(examples=[-0.5])
    """Sum of the words' scores, divided by the length penalty; higher is likelier."""

    finish_reason: FinishReason = Field(examples=["stop"])
    """Why the translation ended: `stop`, the model ended it; `length`, it was cut at the greatest
    length; `repetition`, it repeats itself."""

    words: list[Word]
    """The words, in order."""

    attention: list[list[float]] | None
    """For each word, a weight for each source token; null if the model has no attention."""


class SentenceResponse(BaseModel):
    """A sentence of a text, and its translations, best first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    source: str = Field(examples=["I am cold."])
    """The sentence, without the space around it."""

    tokens: list[str] = Field(examples=[["I", "am", "cold", "."]])
    """The tokens of the source, which attention weighs."""

    hypotheses: list[HypothesisResponse]
    """The translations, best first."""


class TextResponse(BaseModel):
    """A text and its translation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["J'ai froid."])
    """The translation: the best one of each sentence."""

    sentences: list[SentenceResponse]
    """The sentences, in order."""


class ModelResponse(BaseModel):
    """A model that is served."""

    name: str = Field(examples=["seed"])
    version: str = Field(examples=["0123456789ab"])
    source: str = Field(examples=["en"])
    target: str = Field(examples=["fr"])


class DetailedResponse(BaseModel):
    """Translations in detail."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: ModelResponse
    """The model that made them."""

    translations: list[TextResponse]
    """One for each text."""


class ModelDetails(ModelResponse):
    """A model with its settings."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    attention: str = Field(examples=["general"])
    """Kind of attention."""

    decode: dict[str, Any]
    """Settings of decoding; fewer for who has no API key where there are keys."""


class ModelsResponse(BaseModel):
    """The models that are served."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    models: list[ModelDetails]
    """One for each pair of languages."""

    failure: str | None
    """Why the last exchange of models failed, told to who has an API key where there are keys; null
    if it did not."""
