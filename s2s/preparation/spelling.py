"""Letters that a normaliser loses, which tell whether it can spell a language."""

import unicodedata
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from s2s.config import DataConfig
from s2s.corpus.directory import CorpusWarning, LostLetters
from s2s.errors import BadInput
from s2s.text.languages import language_name
from s2s.text.normalise import Side

LOSSY = ("tutorial",)  # normalisers that lose letters; all others keep every one

_REMEDY = "--text.normaliser lossless keeps every letter"
_SHOWN = 10  # letters in a message


def find_lost_letters(sentences: pa.StringArray, split: Callable[[str], list[str]]) -> LostLetters:
    """Return which letters of some sentences are in no word, and how many.

    Args:
        split: normalises a sentence and splits it into words.
    """
    text = " ".join(sentences.to_pylist()) + " "
    times = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    counts = {
        chr(code): int(times[code]) for code in np.flatnonzero(times) if _is_letter(chr(code))
    }
    lost = {}
    if len(split(" ".join(counts))) != len(counts):  # a letter alone is a word
        lost = {
            letter: count
            for letter, count in counts.items()
            if not any(map(_is_letter, "".join(split(letter))))
        }
    return LostLetters(letters=sum(counts.values()), lost=lost)


def _is_letter(character: str) -> bool:
    """Return whether a character is a letter, but no modifier letter, such as ʼ."""
    return unicodedata.category(character) in ("Ll", "Lo", "Lt", "Lu")


def check_spelling(lost: Mapping[Side, LostLetters], config: DataConfig) -> None:
    """Check that the normaliser keeps at least half of the letters of both sides.

    Args:
        lost: the letters that it loses, by side.

    Raises:
        BadInput: it does not.
    """
    for side, letters in lost.items():
        if letters.share > 0.5:
            raise BadInput(f"{_describe(side, letters, config)}: it cannot spell it; {_REMEDY}")


def spelling_warnings(lost: Mapping[Side, LostLetters], config: DataConfig) -> list[CorpusWarning]:
    """Return a warning for each side of which the normaliser loses letters.

    Args:
        lost: the letters that it loses, by side.
    """
    return [
        CorpusWarning(kind="lost_letters", text=f"{_describe(side, letters, config)}; {_REMEDY}")
        for side, letters in lost.items()
        if letters.lost
    ]


def _describe(side: Side, letters: LostLetters, config: DataConfig) -> str:
    shown = " ".join(list(letters.lost)[:_SHOWN]) + (" …" if len(letters.lost) > _SHOWN else "")
    code = config.source_language if side == "source" else config.target_language
    normaliser, percent = config.text.normaliser_of(side), 100 * letters.share
    return (
        f"normaliser {normaliser!r} loses {percent:.3g} % of the letters of the {side}, "
        f"{language_name(code)} ({shown})"
    )
