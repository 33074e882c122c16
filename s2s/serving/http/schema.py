"""What requests and answers of the HTTP interface are made of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from s2s.config import DecodeConfig
from s2s.overrides import overridden, overrides, pydantic_fields

Code = Annotated[str, Field(max_length=35)]
Texts = Annotated[
    str | list[str], Field(description="A text, or several.", examples=["I am cold."])
]


class _Request(BaseModel):
    """Fields that are not known are what other services' clients send: they are ignored."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


class TranslateRequest(_Request):
    """What to translate, and between which languages: LibreTranslate's request."""

    q: Texts

    source: Code = Field(examples=["en"])
    """Language of `q`; `auto` is the model's own, or the likeliest if several models fit."""

    target: Code = Field(examples=["fr"])
    """Language wanted."""

    format: Literal["text", "html"] = "text"
    """Of `html` the text is translated, and the tags stay as they are."""

    alternatives: int = Field(default=0, ge=0, le=10)
    """Other translations wanted."""

    api_key: str | None = Field(default=None, max_length=200)
    """Needed where the service asks for keys, ignored elsewhere."""


class DetectedLanguage(BaseModel):
    """A language, and how sure that is."""

    confidence: float = Field(examples=[92.0])
    language: str = Field(examples=["en"])


class TranslateResponse(BaseModel):
    """The translation, or one for each text; the rest if it was asked for."""

    translatedText: str | list[str] = Field(examples=["J'ai froid."])
    detectedLanguage: DetectedLanguage | list[DetectedLanguage] | None = None
    alternatives: list[str] | list[list[str]] | None = None


class DetectRequest(_Request):
    """A text whose language is wanted."""

    q: str = Field(examples=["I am cold."])
    """The text."""

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`."""


class Language(BaseModel):
    """A language that can be translated from."""

    code: str = Field(examples=["en"])
    name: str = Field(examples=["English"])
    targets: list[str] = Field(examples=[["fr"]])


class Health(BaseModel):
    """Whether translations can be had."""

    status: str = Field(examples=["ok"])


class ErrorResponse(BaseModel):
    """What was wrong with a request."""

    error: str = Field(examples=["q: Field required"])


# The settings of `DecodeConfig` that a request may override: wider beams would
# take a replica's time and memory from all other requests.
OVERRIDES = overrides(
    DecodeConfig,
    ("beam", "n_best", "length_penalty", "unknown", "temperature", "top_k", "top_p", "seed"),
    at_most={"beam": 16, "n_best": 16, "top_k": 100_000},
)
_Overrides: Any = create_model("_Overrides", **pydantic_fields(OVERRIDES))


class _TextsRequest(_Request):
    """Texts and their languages."""

    q: Texts

    source: Code = Field(default="auto", examples=["en"])
    """Language of `q`; `auto` as in `/translate`."""

    target: Code | None = Field(default=None, examples=["fr"])
    """Language wanted; not needed where only one is served."""


class DetailedRequest(_Overrides, _TextsRequest):
    """What to translate, and how: settings left out are the model's own."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`; or in a header, `Authorization: Bearer KEY`."""

    def settings(self) -> dict[str, object]:
        """Return the settings of `DecodeConfig` that the request overrides."""
        return overridden(self, OVERRIDES)


class StreamRequest(_Request):
    """A text to translate word by word."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    q: str = Field(examples=["I am cold."])
    """The text."""

    source: Code = Field(default="auto", examples=["en"])
    """Language of `q`; `auto` as in `/translate`."""

    target: Code | None = Field(default=None, examples=["fr"])
    """Language wanted; not needed where only one is served."""

    api_key: str | None = Field(default=None, max_length=200)
    """As in `/translate`."""


class Word(BaseModel):
    """A word of a translation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["froid"])
    """As the model said it; `<eos>` is its end."""

    score: float = Field(examples=[-0.12])
    """Log-probability, nats."""

    unknown: bool = False
    """Whether the model had no word for it."""


class HypothesisResponse(BaseModel):
    """One translation of a sentence."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["J'ai froid."])
    """The translation."""

    score: float = Field(examples=[-0.5])
    """Sum of the words' scores over the length penalty: the higher the surer."""

    words: list[Word]
    """One by one."""

    attention: list[list[float]] | None
    """Of each word, the weights of the source's tokens; none if the model has no attention."""


class SentenceResponse(BaseModel):
    """A sentence of a text, and its translations, best first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    source: str = Field(examples=["I am cold."])
    """The sentence, without the space around it."""

    tokens: list[str] = Field(examples=[["I", "am", "cold", "."]])
    """What attention weighs."""

    hypotheses: list[HypothesisResponse]
    """Best first."""


class TextResponse(BaseModel):
    """A text and its translation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = Field(examples=["J'ai froid."])
    """The translation, made of its sentences' best ones."""

    sentences: list[SentenceResponse]
    """In order."""


class ModelResponse(BaseModel):
    """A model that is served."""

    name: str = Field(examples=["seed"])
    version: str = Field(examples=["0123456789ab"])
    source: str = Field(examples=["en"])
    target: str = Field(examples=["fr"])


class DetailedResponse(BaseModel):
    """Translations with all that is known of them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: ModelResponse
    """What made them."""

    translations: list[TextResponse]
    """Of each text."""


class ModelDetails(ModelResponse):
    """A model with its settings."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    attention: str = Field(examples=["general"])
    """Kind of attention."""

    decode: dict[str, Any]
    """Settings of its decoding."""


class ModelsResponse(BaseModel):
    """The models that are served."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    models: list[ModelDetails]
    """One for each pair of languages."""

    failure: str | None
    """Why the last exchange of models did not happen, if it did not."""
