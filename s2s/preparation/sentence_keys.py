"""What two spellings of one sentence have in common, and where it places a row."""

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from s2s.text.normalise import cached

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def key(sentence: str) -> str:
    """What two spellings of one sentence have in common: NFKC, case-folded, marks as spaces."""
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()


def keys(sentences: pa.StringArray) -> pa.StringArray:
    """The keys of many sentences; the same as of each alone.

    The key of a sentence is that of the pieces between its spaces, so each piece is done once.
    """
    pieces = pc.split_pattern(sentences, " ")
    encoded = pieces.flatten().dictionary_encode()
    known = pa.array(map(_key, encoded.dictionary.to_pylist()), pa.string())
    numbers = encoded.indices.to_numpy()
    kept = pc.not_equal(known, "").to_numpy(zero_copy_only=False)[numbers]
    starts = pieces.offsets.to_numpy() - pieces.offsets[0].as_py()
    starts = np.concatenate(([0], np.cumsum(kept)))[starts].astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(starts), known.take(pa.array(numbers[kept])))
    return pc.binary_join(lists, " ")


_key = cached(key)


def hashes(texts: pa.StringArray, seed: int) -> Hashes:
    """A number in [0, 2**64) for each text (XXH3), that depends on the text and the seed alone."""
    raw = texts.cast(pa.binary()).to_pylist()
    return np.array([xxh3_64_intdigest(text, seed) for text in raw], np.uint64)


def bounds(test: float, valid: float) -> tuple[int, int]:
    """Below which hash a source key is held out for `test`, and below which for `valid`."""
    return round(test * 2**64), round((test + valid) * 2**64)
