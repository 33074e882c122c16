"""Noise in training rows: typos, and words that are read as unknown.

A typo in a source word takes a model of subwords by surprise: Belinkov and Bisk (2018,
https://arxiv.org/abs/1711.02173) train with them. And such a model hardly sees an unknown word, so
it does not learn to copy one: here some words that both sides of a row share, such as names, become
unknown on both, as rare words are in Luong et al. (2015, https://aclanthology.org/P15-1002/).
"""

import unicodedata

import numpy as np

from s2s.config import CorpusConfig
from s2s.corpus.directory import Noise
from s2s.text.normalise import Side, SplitWords
from s2s.text.ragged import Ints, Ragged

_UNKNOWN = "\uffff"  # a word that no vocabulary has, a noncharacter of Unicode
_LETTERS_OF_A_TYPO = 4  # a typo makes another word of a shorter one
_LETTERS_OF_A_NAME = 3  # shorter words that two languages share are chance


class NoisyWords:
    """The words of sources and targets, to some of which noise is added."""

    def __init__(self, source: SplitWords, target: SplitWords, random: np.random.Generator) -> None:
        self._random = random
        self._source, self._target = _WordsOfSide(source), _WordsOfSide(target)

    def add(self, rows: Ints, settings: CorpusConfig) -> dict[Noise, int]:
        """Add noise to a share of `rows`; return how many rows each kind of noise changed."""
        unknown, typos = self._random.random((2, len(rows)))
        return {
            "unknown_words": sum(map(self._make_unknown, rows[unknown < settings.unknown_words])),
            "typos": sum(map(self._add_typo, rows[typos < settings.typos])),
        }

    @property
    def words(self) -> dict[Side, SplitWords]:
        """The words of each side."""
        return {"source": self._source.words, "target": self._target.words}

    def _add_typo(self, row: int) -> bool:
        """Put a typo into a word of a source; return whether there was a word for it."""
        places = [place for place, word in self._source.of_row(row)
                  if len(word) >= _LETTERS_OF_A_TYPO and _has_letters_alone(word)]  # fmt: skip
        if places:
            place = places[self._random.integers(len(places))]
            self._source.replace(place, self._mistyped(self._source.word(place)))
        return bool(places)

    def _mistyped(self, word: str) -> str:
        """Return a word with two letters swapped, or one left out, doubled or replaced."""
        at = int(self._random.integers(1, len(word) - 1))
        before, letter, after = word[:at], word[at], word[at + 1 :]
        other = word[int(self._random.integers(len(word)))]
        endings = (after[0] + letter + after[1:], after, letter + letter + after, other + after)
        typos = [before + ending for ending in endings if ending != letter + after]
        return typos[int(self._random.integers(len(typos)))]

    def _make_unknown(self, row: int) -> bool:
        """Make the longest word unknown that both sides of a row share, if they share one."""
        source, target = self._source.places_of_words(row), self._target.places_of_words(row)
        shared = max(source.keys() & target.keys(), key=lambda word: (len(word), word), default="")
        if len(shared) < _LETTERS_OF_A_NAME:
            return False
        for side, places in ((self._source, source), (self._target, target)):
            for place in places[shared]:
                side.replace(place, _UNKNOWN)
        return True


class _WordsOfSide:
    """The words of one side, which can be replaced one by one."""

    def __init__(self, words: SplitWords) -> None:
        self._values = words.indices.values.copy()
        self._offsets = words.indices.offsets
        self._distinct = list(words.distinct)
        self._index_of: dict[str, int] = {}  # of words that were added

    @property
    def words(self) -> SplitWords:
        """All words."""
        return SplitWords(Ragged(self._values, self._offsets), self._distinct)

    def of_row(self, row: int) -> list[tuple[int, str]]:
        """Return the words of a row, each with its place."""
        return [(place, self.word(place)) for place in range(*self._offsets[row : row + 2])]

    def places_of_words(self, row: int) -> dict[str, list[int]]:
        """Return the places of each word of a row that has letters alone, whatever its case."""
        places: dict[str, list[int]] = {}
        for place, word in self.of_row(row):
            if _has_letters_alone(word):
                places.setdefault(word.casefold(), []).append(place)
        return places

    def word(self, place: int) -> str:
        """Return the word at a place."""
        return self._distinct[int(self._values[place])]

    def replace(self, place: int, word: str) -> None:
        """Put another word in a place."""
        if word not in self._index_of:
            self._index_of[word] = len(self._distinct)
            self._distinct.append(word)
        self._values[place] = self._index_of[word]


def _has_letters_alone(word: str) -> bool:
    """Return whether a word consists of letters and the marks that combine with them."""
    return all(unicodedata.category(character)[0] in "LM" for character in word)
