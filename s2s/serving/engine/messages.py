"""What a service and the process of a model say to each other: typed messages, packed by msgpack.

A message goes over the wire as a msgpack list, the number of its type and then its fields. The
engine's first message begins with the version of this protocol, so that a service refuses an engine
of another installation instead of misreading it. Whoever changes a message raises `PROTOCOL`.

Messages are named tuples, which msgpack packs as they are: frozen dataclasses take half as long
again (`benchmarks/messages.py`).
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

import msgpack

from s2s.config import DecodeConfig
from s2s.decoding.translation import SentenceTranslations, Translation
from s2s.text.alignment import Alignment
from s2s.text.sentences import Sentence

PROTOCOL = 2

# As Python's own strings: half of a surrogate pair is for the model's tokeniser to refuse.
_UNICODE = "surrogatepass"

# ---- from the service to the engine --------------------------------------------------------------


class Translate(NamedTuple):
    """A request to translate texts with the model's own settings."""

    request: int  # its number, which answers name
    texts: list[str]
    streamed: bool  # whether `Partial` messages are wanted
    arrival: float  # seconds of the system's monotonic clock
    aligned: bool  # whether alignments are wanted


class TranslateDetailed(NamedTuple):
    """A request to translate texts with other settings, and to give all that is known of each."""

    request: int
    texts: list[str]
    settings: DecodeConfig


class Cancel(NamedTuple):
    """Notice that nobody waits for a request any more."""

    request: int


class Close(NamedTuple):
    """Order to finish the requests that came before, and end."""


# ---- from the engine to the service --------------------------------------------------------------


class Ready(NamedTuple):
    """Notice that the model is loaded; the first message."""

    protocol: int
    config: str  # JSON of the `Config`, with the settings of decoding that are used


class Unusable(NamedTuple):
    """Notice that the model cannot be loaded; the first and only message."""

    protocol: int
    reason: str


class Translated(NamedTuple):
    """Answers to `Translate` requests, by their numbers."""

    translations: dict[int, list[str]]  # of each text
    incomplete: dict[int, list[int]]  # places of texts that were cut or repeat themselves, if any
    alignments: dict[int, list[list[Alignment]]]  # of each text's sentences, where wanted


class TranslatedDetailed(NamedTuple):
    """Answer to a `TranslateDetailed` request: the sentences of each text."""

    request: int
    texts: list[list[SentenceTranslations]]


class Failure(NamedTuple):
    """Answer to a request that the model failed on."""

    request: int
    reason: str


class Cancelled(NamedTuple):
    """Answer to `Cancel`, unless another answer was on its way."""

    request: int


class Partial(NamedTuple):
    """What the translation of a sentence is so far, for a request that is streamed."""

    request: int
    text: int  # place of the text in the request
    sentence: int  # place of the sentence in the text
    translation: str


class Statistics(NamedTuple):
    """What was counted and observed since the last such message (`s2s.serving.engine.meters`)."""

    counts: dict[str, int]
    observations: list[tuple[str, float]]


Message = (
    Translate | TranslateDetailed | Cancel | Close
    | Ready | Unusable | Translated | TranslatedDetailed | Failure | Cancelled
    | Partial | Statistics
)  # fmt: skip


class ProtocolError(Exception):
    """The peer speaks another version of the protocol."""


# ---- as bytes ------------------------------------------------------------------------------------

# A message's place in this list is its number on the wire.
_TYPES: tuple[type[Message], ...] = (
    Ready, Unusable, Translate, TranslateDetailed, Cancel, Close,
    Translated, TranslatedDetailed, Failure, Cancelled, Partial, Statistics,
)  # fmt: skip
_NUMBERS = {kind: number for number, kind in enumerate(_TYPES)}


class Packer:
    """Packs messages. It is not to be used by two threads at a time."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(unicode_errors=_UNICODE)

    def pack(self, message: Message) -> bytes:
        """Return the bytes of a message."""
        kind = type(message)
        plain = _PLAIN[kind](message) if kind in _PLAIN else message
        packed: bytes = self._packer.pack((_NUMBERS[kind], *plain))
        return packed


class Unpacker:
    """Makes messages of bytes, however these are cut."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            unicode_errors=_UNICODE, max_buffer_size=0, strict_map_key=False
        )

    def feed(self, data: bytes) -> Iterator[Message]:
        """Return the messages that these bytes complete.

        Raises:
            ProtocolError: the peer's first message is of another version.
        """
        self._unpacker.feed(data)
        for number, *values in self._unpacker:
            yield _FROM_LIST[number](values)


_TRANSLATION = attrgetter(*(field.name for field in fields(Translation)))


def _plain_settings(message: Any) -> tuple[Any, ...]:
    return message.request, message.texts, message.settings.model_dump()


def _typed_settings(values: list[Any]) -> Message:
    request, texts, settings = values
    return TranslateDetailed(request, texts, DecodeConfig.model_validate(settings))


def _plain_details(message: Any) -> tuple[Any, ...]:
    texts = [
        [
            (sentence.text, sentence.ids, [_TRANSLATION(each) for each in translations])
            for sentence, translations in sentences
        ]
        for sentences in message.texts
    ]
    return message.request, texts


def _typed_details(values: list[Any]) -> Message:
    def typed(text: str, ids: list[int], translations: list[list[Any]]) -> SentenceTranslations:
        return SentenceTranslations(
            Sentence(text, ids), [Translation(*each) for each in translations]
        )

    request, texts = values
    return TranslatedDetailed(request, [[typed(*each) for each in text] for text in texts])


def _typed_translated(values: list[Any]) -> Message:
    def typed(source: int, target: int, length: int, links: list[Any]) -> Alignment:
        return Alignment(source, target, length, [tuple(link) for link in links])

    translations, incomplete, alignments = values
    if alignments:
        alignments = {
            request: [[typed(*each) for each in sentences] for sentences in texts]
            for request, texts in alignments.items()
        }
    return Translated(translations, incomplete, alignments)


def _typed_statistics(values: list[Any]) -> Message:
    counts, observations = values
    return Statistics(counts, [(name, seconds) for name, seconds in observations])


def _checked(kind: type[Ready] | type[Unusable]) -> Callable[[list[Any]], Message]:
    """Return what makes a first message, once its version is checked."""

    def typed(values: list[Any]) -> Message:
        if values[0] != PROTOCOL:
            raise ProtocolError(f"protocol {values[0]} instead of {PROTOCOL}")
        return kind(*values)

    return typed


# How fields that msgpack does not know are made plain, and typed again.
_PLAIN: dict[type[Message], Callable[[Any], tuple[Any, ...]]] = {
    TranslateDetailed: _plain_settings,
    TranslatedDetailed: _plain_details,
}
_TYPED: dict[type[Message], Callable[[list[Any]], Message]] = {
    Ready: _checked(Ready),
    Unusable: _checked(Unusable),
    TranslateDetailed: _typed_settings,
    TranslatedDetailed: _typed_details,
    Translated: _typed_translated,
    Statistics: _typed_statistics,
}
_FROM_LIST = [_TYPED.get(kind, kind._make) for kind in _TYPES]
