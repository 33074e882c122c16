"""Words of training rows that are read otherwise than they stand there, for a model to learn from.

A typo in a source word takes a model of subwords by surprise: Belinkov and Bisk (2018,
https://arxiv.org/abs/1711.02173) train with them. And such a model hardly sees an unknown word, so
it does not learn to copy one: here some words that a row has on both sides, such as names, are read
as unknown on both (as rare words are in Luong et al., 2015, https://aclanthology.org/P15-1002/).
"""

import numpy as np

from s2s.config import CorpusConfig
from s2s.corpus.directory import Noise
from s2s.text.normalise import Side, SplitWords
from s2s.text.ragged import Ints, Ragged

# A word that no vocabulary has: the character means nothing in Unicode, and no text has it.
_UNKNOWN = "\uffff"

_LETTERS_OF_A_TYPO = 4  # a typo makes another word of a shorter one
_LETTERS_OF_A_NAME = 3  # shorter words that two languages share are chance


class NoisyWords:
    """The words of sources and targets, some of which are made otherwise row by row."""

    def __init__(self, source: SplitWords, target: SplitWords, random: np.random.Generator) -> None:
        self._random = random
        self._source, self._target = _WordsOfSide(source), _WordsOfSide(target)

    def add(self, rows: Ints, settings: CorpusConfig) -> dict[Noise, int]:
        """Make some words of `rows` otherwise; return how many rows each kind of noise changed."""
        drawn = self._random.random(len(rows))
        typos = drawn < settings.typos
        unknown = ~typos & (drawn < settings.typos + settings.unknown_words)
        return {
            "typos": sum(map(self._add_typo, rows[typos])),
            "unknown_words": sum(map(self._make_unknown, rows[unknown])),
        }

    @property
    def words(self) -> dict[Side, SplitWords]:
        """The words of each side."""
        return {"source": self._source.words, "target": self._target.words}

    def _add_typo(self, row: int) -> bool:
        """Put a typo into a word of a source; return whether there was a word for it."""
        places = [place for place, word in self._source.of_row(row)
                  if len(word) >= _LETTERS_OF_A_TYPO and word.isalpha()]  # fmt: skip
        if places:
            place = places[self._random.integers(len(places))]
            self._source.rewrite(place, self._mistyped(self._source.word(place)))
        return bool(places)

    def _mistyped(self, word: str) -> str:
        """Return a word with two letters swapped, or one left out, doubled or replaced."""
        at = int(self._random.integers(1, len(word) - 1))
        before, letter, after = word[:at], word[at], word[at + 1 :]
        other = word[int(self._random.integers(len(word)))]
        typos = [after[0] + letter + after[1:], after, letter + letter + after, other + after]
        return before + typos[int(self._random.integers(len(typos)))]

    def _make_unknown(self, row: int) -> bool:
        """Make the longest word unknown that a row has on both sides, if there is one."""
        source, target = ({word.casefold(): place for place, word in side.of_row(row)
                           if word.isalpha()} for side in (self._source, self._target))  # fmt: skip
        shared = max(source.keys() & target.keys(), key=lambda word: (len(word), word), default="")
        if len(shared) < _LETTERS_OF_A_NAME:
            return False
        self._source.rewrite(source[shared], _UNKNOWN)
        self._target.rewrite(target[shared], _UNKNOWN)
        return True


class _WordsOfSide:
    """The words of one side, which can be rewritten one by one."""

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

    def word(self, place: int) -> str:
        """Return the word at a place."""
        return self._distinct[int(self._values[place])]

    def rewrite(self, place: int, word: str) -> None:
        """Put another word in a place."""
        if word not in self._index_of:
            self._index_of[word] = len(self._distinct)
            self._distinct.append(word)
        self._values[place] = self._index_of[word]
