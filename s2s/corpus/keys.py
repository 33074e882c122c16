"""What two spellings of one sentence have in common, and where it places a row."""

import hashlib
import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Characters beyond the European letters and marks, and those that fold to two.
_HARD = r"[^\x00-\x{17e}\x{2010}-\x{2027}\x{2030}-\x{2043}\x{20ac}]|[ßİŉ]"

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def key(sentence: str) -> str:
    """What two spellings of one sentence have in common: NFKC, case-folded, marks as spaces."""
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()


def keys(sentences: pa.StringArray) -> pa.StringArray:
    """The keys of many sentences: in one go those of European characters that fold one to one."""
    folded = pc.ascii_lower(sentences)
    beyond = pc.invert(pc.string_is_ascii(sentences))
    lower = pc.utf8_lower(pc.utf8_normalize(sentences.filter(beyond), "NFKC"))
    folded = pc.replace_with_mask(folded, beyond, lower)
    easy = pc.utf8_trim(pc.replace_substring_regex(folded, r"[^\p{L}\p{N}]+", " "), " ")
    hard = pc.match_substring_regex(sentences, _HARD)
    others = pa.array(map(key, sentences.filter(hard).to_pylist()), pa.string())
    return pc.replace_with_mask(easy, hard, others)


def hashes(texts: pa.StringArray, seed: int) -> Hashes:
    """A number in [0, 2**64) for each text, that depends on the text and the seed alone."""
    begun = hashlib.blake2b(f"{seed}\t".encode(), digest_size=8)

    def digest(text: bytes) -> bytes:
        hasher = begun.copy()
        hasher.update(text)
        return hasher.digest()

    raw = b"".join(map(digest, texts.cast(pa.binary()).to_pylist()))
    return np.frombuffer(raw, ">u8").astype(np.uint64)


def bounds(test: float, valid: float) -> tuple[int, int]:
    """Below which hash a source key is held out for `test`, and below which for `valid`."""
    return round(test * 2**64), round((test + valid) * 2**64)
