"""Letters that a normaliser loses, which tell whether it can spell a language."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from s2s.config import DataConfig
from s2s.corpus.directory import SIDES, LostLetters
from s2s.errors import BadInput
from s2s.text.languages import language_name

_REMEDY = "--text.normaliser lossless keeps every letter"
_SHOWN = 10  # letters in a message


def find_lost_letters(sentences: pa.StringArray, split: Callable[[str], list[str]]) -> LostLetters:
    """Return which letters of some sentences are in no word, and how many.

    Args:
        split: normalises a sentence and splits it into words.
    """
    text = " ".join(sentences.to_pylist()) + " "
    times = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    counts = {chr(code): int(times[code]) for code in np.flatnonzero(times) if chr(code).isalpha()}
    lost = {}
    if len(split(" ".join(counts))) != len(counts):  # a letter alone is a word
        lost = {
            letter: count
            for letter, count in counts.items()
            if not any(map(str.isalpha, "".join(split(letter))))
        }
    return LostLetters(letters=sum(counts.values()), lost=lost)


def check_spelling(lost: Mapping[str, LostLetters], config: DataConfig) -> None:
    """Check that the normaliser keeps at least half of the letters of both sides.

    Args:
        lost: the letters that it loses, by side.

    Raises:
        BadInput: it does not.
    """
    for side, letters in lost.items():
        if letters.share > 0.5:
            raise BadInput(f"{_describe(side, letters, config)}: it cannot spell it; {_REMEDY}")


def spelling_warnings(lost: Mapping[str, LostLetters], config: DataConfig) -> list[str]:
    """Return a warning for each side of which the normaliser loses letters.

    Args:
        lost: the letters that it loses, by side.
    """
    return [
        f"{_describe(side, letters, config)}; {_REMEDY}"
        for side, letters in lost.items()
        if letters.lost
    ]


def _describe(side: str, letters: LostLetters, config: DataConfig) -> str:
    shown = " ".join(list(letters.lost)[:_SHOWN]) + (" …" if len(letters.lost) > _SHOWN else "")
    codes = dict(zip(SIDES, (config.source_language, config.target_language), strict=True))
    return (
        f"normaliser {config.text.normaliser!r} loses {100 * letters.share:.3g} % of the letters "
        f"of the {side}, {language_name(codes[side])} ({shown})"
    )
