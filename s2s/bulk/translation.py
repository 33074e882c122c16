"""What translates a block: the same in this process, in an actor, and for a stream."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Literal

from s2s.bulk.parts import Translated
from s2s.decoding.translation import SentenceTranslations, joined
from s2s.decoding.translator import Translator

Form = Literal["plain", "ranked", "json"]
"""What is written of a row: its translation, the best translations with scores, or all details."""


class BlockTranslator:
    """Translates the rows of blocks.

    Args:
        form: what is written of each row.
        shown: gives a text as it is written.
    """

    def __init__(
        self, translator: Translator, form: Form = "plain", shown: Callable[[str], str] = str
    ) -> None:
        self._translator = translator
        self._form = form
        self._shown = shown

    def translate(
        self,
        texts: Sequence[str | None],
        first: int,
        size: int = 0,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Translated:
        """Return the translations of a block.

        Args:
            texts: of its rows, None for a row with a fault.
            first: number of the first row in its file.
            size: bytes that the block takes in its file.
            on_rows: called with the number of further rows when they are translated.
        """
        if self._form != "plain":
            return self._in_detail([text or "" for text in texts], first, size, on_rows)
        places = [place for place, text in enumerate(texts) if text is not None]
        on_rows(len(texts) - len(places))
        translations = self._translator.translate([texts[place] or "" for place in places], on_rows)
        outputs: list[str | None] = [None] * len(texts)
        for place, translation in zip(places, translations, strict=True):
            outputs[place] = self._shown(translation)
        return Translated(outputs, [places[each] for each in translations.incomplete], size)

    def _in_detail(
        self, texts: list[str], first: int, size: int, on_rows: Callable[[int], None]
    ) -> Translated:
        outputs: list[str | None] = []
        incomplete = []
        for place, sentences in enumerate(self._translator.translate_in_detail(texts)):
            if self._form == "ranked":
                outputs.append(self._ranked(first + place, sentences))
            else:
                outputs.append(self._json(first + place, texts[place], sentences))
            if any(each.of_rank(0).finish_reason != "stop" for each in sentences):
                incomplete.append(place)
        on_rows(len(texts))
        return Translated(outputs, incomplete, size)

    def _ranked(self, number: int, sentences: list[SentenceTranslations]) -> str:
        """Return the best translations of a row with their scores, a line for each."""
        lines = []
        for rank in range(max((len(each.translations) for each in sentences), default=1)):
            score = sum(each.of_rank(rank).score for each in sentences)
            lines.append(f"{number}\t{score:.4f}\t{self._shown(joined(sentences, rank))}")
        return "\n".join(lines)

    def _json(self, number: int, text: str, sentences: list[SentenceTranslations]) -> str:
        """Return all that is known of the translation of a row as a JSON object."""
        record = {
            "line": number,
            "source": text,
            "translation": joined(sentences),
            "sentences": [
                {
                    "source": each.sentence.stripped,
                    "translations": [asdict(translation) for translation in each.translations],
                }
                for each in sentences
            ],
        }
        return self._shown(json.dumps(record, ensure_ascii=False))
