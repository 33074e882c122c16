"""Normalisation of sentences, and their split into words, which all vocabularies share.

A normaliser is a chain of Hugging Face tokenizers' own steps, so a tokenizer's JSON file contains
all of it, and the tokenizers library alone can apply it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from s2s.config import TextConfig
from s2s.text.ragged import Ragged

T = TypeVar("T")

Side = Literal["source", "target"]

# Three private-use characters carry spacing through the tokens. A token that starts (ends) with
# JOIN had no space before (after) it; SPACE stands for a space that does not separate two words,
# such as a second one; START begins every word that is split into subwords. They are the only
# characters that do not survive encoding and decoding.
JOIN, SPACE, START = "\ue000", "\ue001", "\ue002"

_WORD = r"\p{L}\p{M}\p{N}"
# What follows the apostrophe of an English clitic: don't, it's, we're. Elsewhere (l'école) the
# apostrophe belongs to the word before it.
_CLITIC = rf"(?i:[stmd]|re|ve|ll)(?![{_WORD}])"

# Lower case, no accents, a space before `? . ! ,`, and spaces for all but `a-z ! . ?`.
_TUTORIAL = [
    normalizers.NFD(),
    normalizers.StripAccents(),
    normalizers.Lowercase(),
    normalizers.Replace(Regex(r"(?=[?.!,])"), " "),
    normalizers.Replace(Regex(r"[^a-zA-Z!.?]+"), " "),
]

# Joiners, soft hyphens, zero-width spaces and variation selectors cut no word: they belong to the
# character before them (rule WB4 of Unicode's UAX 29).
_EXTENDS = r"\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff"
_BEFORE_MARK = (
    rf"(?<=[^ ])(?=[^{_WORD}{_EXTENDS} '’])"
    rf"|(?<=[^ ])(?=['’](?:{_CLITIC}|[^{_WORD}]|\z))"
    r"|(?<=[^ \p{L}])(?=['’])"
)
_AFTER_MARK = (
    rf"(?<=[^{_WORD}{_EXTENDS} '’{JOIN}])(?=[{_WORD}])"
    rf"|(?<=['’])(?!{_CLITIC})(?=[{_WORD}])"
)  # fmt: skip
# Words, clitics and single punctuation marks, with joins from which the decoder rebuilds the
# sentence. The joins are OpenNMT Tokenizer's joiner annotation; where there is a choice, the mark
# carries the join rather than the word, so that a word is one entry of the vocabulary.
_LOSSLESS = [
    normalizers.NFC(),
    normalizers.Replace(Regex(r"\A | \z|(?<= ) "), SPACE),
    normalizers.Replace(Regex(_BEFORE_MARK), f" {JOIN}"),
    normalizers.Replace(Regex(_AFTER_MARK), f"{JOIN} "),
]

# What is written in different ways is made the same, and then split into words, clitics and marks.
# Quotation marks come before NFKC, which would take some of them apart. Of invisible characters
# those that join letters have a meaning; of a run of `?` or `!` one is kept.
_SIMPLIFIED = [
    normalizers.Replace(Regex(r"[\p{Cf}\p{Co}\ufe00-\ufe0f&&[^\u200c\u200d]]"), ""),
    normalizers.Replace(Regex("[‘’‚‛‹›′‵`´ʹʻʼʽ׳＇❛❜]{2}|[“”„‟«»″‶״＂❝❞]|''"), '"'),
    normalizers.Replace(Regex("[‘’‚‛‹›′‵`´ʹʻʼʽ׳＇❛❜]"), "'"),
    normalizers.NFKC(),
    normalizers.Replace(Regex(r"[\p{Pd}−]+"), "-"),
    normalizers.Replace(Regex(r"\.{2,}"), "…"),
    normalizers.Replace(Regex(r"\?{2,}"), "?"),
    normalizers.Replace(Regex(r"!{2,}"), "!"),
    normalizers.Lowercase(),
    normalizers.Replace(Regex(_BEFORE_MARK), " "),
    normalizers.Replace(Regex(_AFTER_MARK), " "),
    normalizers.Replace(Regex(r"[\s\p{Cc}]+"), " "),
    normalizers.Strip(),
]

_TOKENISED = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
_NORMALISERS = {
    "tutorial": _TUTORIAL,
    "lossless": _LOSSLESS,
    "simplified": _SIMPLIFIED,
    "tokenised": _TOKENISED,
}


def untrained_tokenizer(config: TextConfig, side: Side = "target") -> Tokenizer:
    """Return a tokenizer that can normalise, split and decode, but has no vocabulary yet."""
    normaliser = config.normaliser_of(side)
    if config.units == "word":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
        to_spaced_text = [decoders.Replace(Regex(r"\A"), " "), decoders.Fuse()]
    else:
        subwords = {"bpe": models.BPE(unk_token="<unk>"), "unigram": models.Unigram()}
        tokenizer = Tokenizer(subwords[config.units])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(" ", "removed"),
                pre_tokenizers.Metaspace(START, "always", split=True),
            ]
        )
        to_spaced_text = [decoders.Fuse(), decoders.Replace(START, " ")]
    tokenizer.normalizer = normalizers.Sequence(_NORMALISERS[normaliser])
    # A model may put tokens side by side that no text has: they are joined once.
    joins = rf"{JOIN}+ ?{JOIN}*| {JOIN}+|"
    superfluous_spaces = rf"{joins if normaliser == 'lossless' else ''}\A "
    tokenizer.decoder = decoders.Sequence(
        [
            *to_spaced_text,
            decoders.Replace(Regex(superfluous_spaces), ""),
            decoders.Replace(SPACE, " "),
        ]
    )
    return tokenizer


def cached(function: Callable[[str], T]) -> Callable[[str], T]:
    """Return a function of a text with a cache for short texts (a few tens of megabytes)."""
    cached_function = lru_cache(maxsize=100_000)(function)
    return lambda text: cached_function(text) if len(text) <= 64 else function(text)


@dataclass(frozen=True)
class SplitWords:
    """The words of many sentences, dictionary-encoded."""

    indices: Ragged  # for each sentence, the index of each of its words in `distinct`
    distinct: list[str]  # the different words


class WordSplitter:
    """Splits sentences of a side into words, as every vocabulary of the same settings does."""

    def __init__(self, config: TextConfig, side: Side = "target") -> None:
        self._normalizer = untrained_tokenizer(config, side).normalizer
        self._split_cached = cached(self.split)

    def split(self, sentence: str) -> list[str]:
        """Return the words of a sentence."""
        normalised: str = self._normalizer.normalize_str(sentence)
        return [word for word in normalised.split(" ") if word]

    def split_many(self, sentences: pa.StringArray) -> SplitWords:
        """Return the words of many sentences without line breaks, those that `split` returns.

        Text between two spaces is normalised the same way wherever it occurs, so each different one
        is normalised only once. Leading, trailing and repeated spaces have a meaning of their own,
        so a sentence with any of them is taken whole.
        """
        irregular = pc.match_substring_regex(sentences, r"^ | $|  ")
        # A line break protects the spaces of such a sentence from the split.
        protected = pc.if_else(irregular, pc.replace_substring(sentences, " ", "\n"), sentences)
        chunks = pc.split_pattern(protected, " ")
        encoded = chunks.flatten().dictionary_encode()
        index_of: dict[str, int] = {}
        words_of_chunk = Ragged.from_lists(
            [index_of.setdefault(word, len(index_of)) for word in self._split_cached(chunk)]
            for chunk in pc.replace_substring(encoded.dictionary, "\n", " ").to_pylist()
        )
        offsets = chunks.offsets.to_numpy()
        chunks_of_sentence = Ragged(
            encoded.indices.to_numpy(), offsets.astype(np.int64) - offsets[0]
        )
        return SplitWords(chunks_of_sentence.substitute(words_of_chunk), list(index_of))
