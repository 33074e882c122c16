"""A translation with all that is known of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from s2s.text.alignment import Alignment, Link, word_links
from s2s.text.sentences import Sentence
from s2s.text.vocabulary import EOS, SPECIALS

FinishReason = Literal["stop", "length", "repetition"]
"""Why a translation ended: the model ended it; it was cut at the greatest length; it had come to
repeat itself."""


@dataclass(frozen=True)
class Translation:
    """A translation of a sentence, and how sure the model is of it."""

    text: str
    score: float  # the sum of word_scores over the length penalty: the best has the highest
    words: list[str]  # the model's tokens, `<eos>` at the end if the translation ended in it
    word_scores: list[float]  # nats, the log-probability of each token
    source_words: list[str]  # as they were written
    attention: list[list[float]] | None  # of each token, a weight for each source word
    finish_reason: FinishReason = "stop"

    @classmethod
    def of_untranslatable(cls, text: str) -> Self:
        """Return the translation of a sentence that stays as it is."""
        return cls(text, 0.0, [], [], [], None)

    def links(self, source: str) -> list[Link]:
        """Return the links between translation and sentence, by attention if the model has it.

        Args:
            source: the sentence.
        """
        attended = None
        if self.attention is not None:
            attended = [weights.index(max(weights)) for weights in self.attention]
        words = self.words[:-1] if self.words[-1:] == [SPECIALS[EOS]] else self.words
        return word_links(source, self.source_words, self.text, words, attended)


class SentenceTranslations(NamedTuple):
    """A sentence of a text and its translations, best first."""

    sentence: Sentence
    translations: list[Translation]

    def of_rank(self, rank: int) -> Translation:
        """Return the translation of a rank, from 0, or else the last one."""
        return self.translations[min(rank, len(self.translations) - 1)]


def with_translations(
    texts: list[list[Sentence]], translations: Iterable[list[Translation]]
) -> list[list[SentenceTranslations]]:
    """Return the sentences of texts with their translations.

    Args:
        translations: of each sentence that has tokens; the others stay as they are.
    """
    remaining: Iterator[list[Translation]] = iter(translations)
    return [
        [
            SentenceTranslations(
                sentence,
                next(remaining)
                if sentence.ids
                else [Translation.of_untranslatable(sentence.stripped)],
            )
            for sentence in sentences
        ]
        for sentences in texts
    ]


def joined(sentences: list[SentenceTranslations], rank: int = 0) -> str:
    """Return a text made of its sentences' translations of a rank, or their last ones."""
    return "".join(each.sentence.with_whitespace(each.of_rank(rank).text) for each in sentences)


class Translations(list[str]):
    """Translations of texts, in order, with what clients must know of them.

    Args:
        incomplete: indices of the texts with a sentence that was cut or repeats itself.
        alignments: for each text, the alignments of its sentences, if requested.
    """

    def __init__(
        self,
        texts: Iterable[str],
        incomplete: list[int],
        alignments: list[list[Alignment]] | None = None,
    ) -> None:
        super().__init__(texts)
        self.incomplete, self.alignments = incomplete, alignments
