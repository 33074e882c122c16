"""Responses in the form of `s2s.serving.http.schema`, from the answers of engines."""

import json
from collections.abc import Mapping, Sequence

import msgspec
from fastapi import Response

from s2s.decoding.translation import SentenceTranslations, Translation, joined
from s2s.serving.engine.models import Model
from s2s.serving.http.markup import Markup
from s2s.serving.http.schema import (
    HypothesisResponse,
    ModelResponse,
    SentenceResponse,
    TextResponse,
    Word,
)
from s2s.text.alignment import Alignment
from s2s.text.sentences import align
from s2s.text.vocabulary import SPECIALS, UNK

# A header: places, from 0, of the texts whose translations were cut or repeat themselves.
INCOMPLETE = "x-s2s-incomplete"

_to_json = msgspec.json.Encoder().encode


def fill(
    documents: list[Markup],
    translations: list[str],
    alignments: list[list[Alignment]] | None = None,
) -> list[str]:
    """Return HTML documents with translations in the places of their texts.

    Args:
        alignments: of the sentences of each text, by which inline tags are put back.
    """
    filled, begin = [], 0
    for document in documents:
        own = slice(begin, begin + len(document.texts))
        filled.append(document.filled(translations[own], alignments and alignments[own]))
        begin = own.stop
    return filled


def alignments(sentences: list[SentenceTranslations], rank: int = 0) -> list[Alignment]:
    """Return the alignments of a text's sentences with their translations of a rank."""
    chosen = [(each.sentence, each.of_rank(rank)) for each in sentences]
    return align(
        [sentence for sentence, _ in chosen],
        [sentence.with_whitespace(translation.text) for sentence, translation in chosen],
        [translation.links(sentence.stripped) for sentence, translation in chosen],
    )


def alternatives(ranked: list[list[str]], best: list[str], number: int) -> list[list[str]]:
    """Return other translations of each text, at most so many, and none twice.

    Args:
        ranked: for each rank, a translation of each text.
        best: the translation of each text, which is not an alternative to itself.
    """
    return [
        [other for other in dict.fromkeys(others) if other != translation][:number]
        for translation, others in zip(best, zip(*ranked, strict=True), strict=True)
    ]


def model_response(model: Model) -> ModelResponse:
    """Return the description of a model that a response has."""
    return ModelResponse(
        name=model.name, version=model.version, source=model.source, target=model.target
    )


def text_response(text: str, sentences: list[SentenceTranslations]) -> TextResponse:
    """Return a translated text with all that is known of each of its sentences.

    Args:
        text: the source, which comes back as it is if it has no sentences.
    """
    return TextResponse(
        text=joined(sentences) if sentences else text,
        sentences=[
            SentenceResponse(
                source=sentence.stripped,
                tokens=translations[0].source_words,
                hypotheses=[_hypothesis(translation) for translation in translations],
            )
            for sentence, translations in sentences
            if sentence.ids
        ],
    )


def _hypothesis(translation: Translation) -> HypothesisResponse:
    words = [
        Word(text=word, score=round(score, 4), unknown=word == SPECIALS[UNK])
        for word, score in zip(translation.words, translation.word_scores, strict=True)
    ]
    attention = translation.attention and [
        [round(weight, 4) for weight in weights] for weights in translation.attention
    ]
    return HypothesisResponse(
        text=translation.text,
        score=round(translation.score, 4),
        finish_reason=translation.finish_reason,
        words=words,
        attention=attention,
    )


def json_response(
    content: object, model: Model | None = None, incomplete: Sequence[int] = ()
) -> Response:
    """Return a response in JSON.

    Args:
        model: the model behind it, whose label becomes a header.
        incomplete: places of texts whose translations were cut or repeat themselves; a header
            tells them.
    """
    headers = [(b"x-s2s-model", model.label.encode())] if model else []
    if incomplete:
        headers.append((INCOMPLETE.encode(), ",".join(map(str, incomplete)).encode()))
    return _JsonResponse(_to_json(content), headers)


class _JsonResponse(Response):
    """Response whose headers are bytes already, which Starlette's would make of them one by one."""

    def __init__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]


# Only CR and LF end a line of server-sent events, but clients that split with Python's `splitlines`
# or a regular expression's `.` see an end of line in these characters, too. JSON can escape them.
_ESCAPED_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


def server_sent_event(name: str, data: Mapping[str, object]) -> str:
    """Return an event of a stream of server-sent events."""
    text = json.dumps(data, ensure_ascii=False).translate(_ESCAPED_LINE_ENDS)
    return f"event: {name}\ndata: {text}\n\n"
