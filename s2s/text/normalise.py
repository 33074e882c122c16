"""From a sentence to words: the normalisers, and the split that every vocabulary shares.

Each normaliser is a chain of steps of Hugging Face tokenizers, so that the JSON file of a tokenizer
says all of it, and the tokenizers library alone repeats it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from s2s.config import TextConfig
from s2s.text.ragged import Ragged

T = TypeVar("T")

# Three private-use characters carry spacing through the tokens. A token that starts (ends)
# with JOIN had no space before (after) it; SPACE stands for a space that no word needs, such as a
# second one; START begins every word that is cut into parts. They are the only characters that do
# not come back.
JOIN, SPACE, START = "\ue000", "\ue001", "\ue002"

_WORD = r"\p{L}\p{M}\p{N}"
# What follows the apostrophe of an English clitic: don't, it's, we're. Elsewhere (l'école) the
# apostrophe belongs to the word before it.
_CLITIC = rf"(?i:[stmd]|re|ve|ll)(?![{_WORD}])"


_TUTORIAL = [
    normalizers.NFD(),
    normalizers.StripAccents(),
    normalizers.Lowercase(),
    normalizers.Replace(Regex(r"(?=[?.!,])"), " "),
    normalizers.Replace(Regex(r"[^a-zA-Z!.?]+"), " "),
]
"""Lower case, no accents, a space before `? . ! ,`, all but `a-z ! . ?` to spaces."""

_BEFORE_MARK = (
    rf"(?<=[^ ])(?=[^{_WORD} '’])"
    rf"|(?<=[^ ])(?=['’](?:{_CLITIC}|[^{_WORD}]|\z))"
    r"|(?<=[^ \p{L}])(?=['’])"
)
_AFTER_MARK = (
    rf"(?<=[^{_WORD} '’{JOIN}])(?=[{_WORD}])"
    rf"|(?<=['’])(?!{_CLITIC})(?=[{_WORD}])"
)  # fmt: skip
_LOSSLESS = [
    normalizers.NFC(),
    normalizers.Replace(Regex(r"\A | \z|(?<= ) "), SPACE),
    normalizers.Replace(Regex(_BEFORE_MARK), f" {JOIN}"),
    normalizers.Replace(Regex(_AFTER_MARK), f"{JOIN} "),
]
"""Words, clitics and single marks, with joins that let the decoder rebuild the sentence.

The join idea is OpenNMT Tokenizer's joiner annotation; here a mark carries it rather than a word
wherever there is a choice, so that a word is one entry of the vocabulary.
"""

_TOKENISED = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
_NORMALISERS = {"tutorial": _TUTORIAL, "lossless": _LOSSLESS, "tokenised": _TOKENISED}


def untrained_tokenizer(config: TextConfig) -> Tokenizer:
    """A tokenizer that normalises and splits, and can go back, but has no vocabulary yet."""
    lossless = config.normaliser == "lossless"
    if config.units == "word":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
        spaced = [decoders.Replace(Regex(r"\A"), " "), decoders.Fuse()]
    else:
        kind = {"bpe": models.BPE(unk_token="<unk>"), "unigram": models.Unigram()}
        tokenizer = Tokenizer(kind[config.units])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(" ", "removed"),
                pre_tokenizers.Metaspace(START, "always", split=True),
            ]
        )
        spaced = [decoders.Fuse(), decoders.Replace(START, " ")]
    tokenizer.normalizer = normalizers.Sequence(_NORMALISERS[config.normaliser])
    joined = rf" {JOIN}|{JOIN} |\A " if lossless else r"\A "
    tokenizer.decoder = decoders.Sequence(
        [*spaced, decoders.Replace(Regex(joined), ""), decoders.Replace(SPACE, " ")]
    )
    return tokenizer


def cached(function: Callable[[str], T]) -> Callable[[str], T]:
    """A function of a text that remembers what it gave for short ones: a few tens of megabytes."""
    kept = lru_cache(maxsize=100_000)(function)
    return lambda text: kept(text) if len(text) <= 64 else function(text)


@dataclass(frozen=True)
class Words:
    """The words of many sentences, each told by its number among the distinct ones."""

    numbers: Ragged
    distinct: list[str]


class Splitter:
    """Splits sentences into words, as every vocabulary of the same settings does."""

    def __init__(self, config: TextConfig) -> None:
        self._normalizer = untrained_tokenizer(config).normalizer
        self._known = cached(self.words)

    def words(self, sentence: str) -> list[str]:
        """The words of a sentence."""
        normalised: str = self._normalizer.normalize_str(sentence)
        return [word for word in normalised.split(" ") if word]

    def split(self, sentences: pa.StringArray) -> Words:
        """The words of many sentences without a line break; the same as of each alone.

        What lies between two spaces is normalised in the same way wherever it stands, so each such
        piece of text is done once. Where spaces meet, or stand at an end, they have a meaning of
        their own: such a sentence is one piece.
        """
        odd = pc.match_substring_regex(sentences, r"^ | $|  ")
        whole = pc.if_else(odd, pc.replace_substring(sentences, " ", "\n"), sentences)
        pieces = pc.split_pattern(whole, " ")
        encoded = pieces.flatten().dictionary_encode()
        numbers: dict[str, int] = {}
        words = Ragged.of(
            [numbers.setdefault(word, len(numbers)) for word in self._known(piece)]
            for piece in pc.replace_substring(encoded.dictionary, "\n", " ").to_pylist()
        )
        starts = pieces.offsets.to_numpy()
        split = Ragged(encoded.indices.to_numpy(), starts.astype(np.int64) - starts[0])
        return Words(split.joined(words), list(numbers))
