"""What is answered to a request, in the form of `schema`."""

import json
from typing import Any

from fastapi import Response

from s2s.decoding.translation import Translation
from s2s.serving.engine.client import Found
from s2s.serving.engine.models import Model
from s2s.serving.http.markup import Markup
from s2s.serving.http.schema import (
    HypothesisResponse,
    ModelResponse,
    SentenceResponse,
    TextResponse,
    Word,
)
from s2s.text.vocabulary import SPECIALS, UNK


def filled(marked: list[Markup], translated: list[str]) -> list[str]:
    """HTML texts with translations in the place of their texts."""
    left = iter(translated)
    return [each.filled([next(left) for _ in each.texts]) for each in marked]


def alternatives(
    marked: list[Markup] | None, others: list[list[str]], translated: list[str], number: int
) -> list[list[str]]:
    """Of each text its other translations, none twice."""
    ranked = [list(rank) for rank in zip(*others, strict=True)]  # by rank, of each text
    if marked is not None:
        ranked = [filled(marked, rank) for rank in ranked]
    return [
        [other for other in dict.fromkeys(rank[n] for rank in ranked) if other != best][:number]
        for n, best in enumerate(translated)
    ]


def model_response(model: Model) -> ModelResponse:
    """What an answer tells of the model that made it."""
    return ModelResponse(
        name=model.name, version=model.version, source=model.source, target=model.target
    )


def text_response(pieces: list[Found]) -> TextResponse:
    """A translated text with all that is known of each of its sentences."""
    return TextResponse(
        text="".join(piece.with_whitespace(best[0].text) for piece, best in pieces),
        sentences=[
            SentenceResponse(
                source=piece.stripped,
                tokens=best[0].source_words,
                hypotheses=[_hypothesis(one) for one in best],
            )
            for piece, best in pieces
            if piece.ids
        ],
    )


def _hypothesis(one: Translation) -> HypothesisResponse:
    words = [
        Word(text=word, score=round(score, 4), unknown=word == SPECIALS[UNK])
        for word, score in zip(one.words, one.word_scores, strict=True)
    ]
    attention = one.attention and [[round(w, 4) for w in weights] for weights in one.attention]
    return HypothesisResponse(
        text=one.text, score=round(one.score, 4), words=words, attention=attention
    )


def json_response(answer: Any, model: Model | None = None) -> Response:
    """An answer that a model made, if one did."""
    headers = {"x-s2s-model": model.label} if model else None
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, media_type="application/json", headers=headers)


def event(name: str, data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
