"""Sentence keys, which are equal for spellings of the same sentence, and hashes of them.

The hash of its source's key decides which split a row belongs to.
"""

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from s2s.text.normalise import cached

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


# Variation selectors, which choose the look of the character before them.
_SELECTORS = frozenset(
    map(chr, [*range(0xFE00, 0xFE10), *range(0x180B, 0x1810), *range(0xE0100, 0xE01F0)])
)
_JOINERS = "\u200c\u200d"
_DOT_ABOVE = "\u0307"


def sentence_key(sentence: str) -> str:
    """Return a sentence in NFKC, case-folded, with spaces for punctuation and symbols.

    Combining marks of a word stay, as another mark makes another word: vowel signs of Hindi or
    Thai, tones of Yoruba. The dot that İ leaves above an i does not.
    """
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    space = " " if folded.isascii() else _marks_and_space
    return re.sub(r"[\W_]+", space, folded).strip()


def _marks_and_space(between: re.Match[str]) -> str:
    """Return the combining marks of the word that ends here, and a space if it does end here."""
    if not between.start():
        return " "
    letter, marks = between.string[between.start() - 1], ""
    for character in between[0]:
        if unicodedata.category(character) in ("Mn", "Mc"):
            if character not in _SELECTORS and letter + character != "i" + _DOT_ABOVE:
                marks += character
        elif not (marks and character in _JOINERS):  # a joiner chooses a look, too
            return f"{marks} "
    return marks


def sentence_keys(sentences: pa.StringArray) -> pa.StringArray:
    """Return the key of each sentence, as `sentence_key` does.

    The key of a sentence joins the keys of the chunks between its spaces, so the key of each
    different chunk is computed only once.
    """
    chunks = pc.split_pattern(sentences, " ")
    encoded = chunks.flatten().dictionary_encode()
    key_of_chunk = pa.array(map(_cached_key, encoded.dictionary.to_pylist()), pa.string())
    indices = encoded.indices.to_numpy()
    has_key = pc.not_equal(key_of_chunk, "").to_numpy(zero_copy_only=False)[indices]
    offsets = chunks.offsets.to_numpy() - chunks.offsets[0].as_py()
    offsets = np.concatenate(([0], np.cumsum(has_key)))[offsets].astype(np.int32)
    keys = key_of_chunk.take(pa.array(indices[has_key]))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), keys), " ")


_cached_key = cached(sentence_key)


def hash_texts(texts: pa.StringArray, seed: int) -> Hashes:
    """Return a hash of each text in [0, 2**64), by XXH3; it depends on text and seed only."""
    raw = texts.cast(pa.binary()).to_pylist()
    return np.array([xxh3_64_intdigest(text, seed) for text in raw], np.uint64)


def held_out_bounds(test: float, valid: float) -> tuple[int, int]:
    """Return the hashes of source keys below which a row is in `test`, and below which in `valid`.

    Args:
        test: share of the rows to hold out for `test`.
        valid: share of the rows to hold out for `valid`.
    """
    return round(test * 2**64), round((test + valid) * 2**64)
