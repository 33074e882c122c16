"""Named rules that leave rows out of a corpus, each for a table of rows at once.

The first rule that a row breaks is the one it is counted under. The rules are those of Moses'
clean-corpus-n and of OPUS filtering (Aulamo et al., 2020), bounded for short sentences.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from babel.core import get_global

from s2s.config import CleanConfig
from s2s.preparation.sentence_keys import keys

Rows = dict[str, pa.Array]  # the columns of some rows by name

RULES: dict[str, str] = {
    "columns": "a row without the two columns",
    "malformed": "a line that is no JSON object",
    "fuzzy": "a translation that its catalogue marks as unsure",
    "empty": "a side without text",
    "encoding": "no valid UTF-8, or the mark of an earlier bad decoding",
    "control": "control characters, byte order marks, overrides of direction",
    "markup": "tags or character entities of HTML and XML",
    "script": "less than half of a side's letters in its language's script",
    "identical": "source and target the same but for case, marks and spaces",
    "too_long": "a side of more characters than the limit",
    "length_ratio": "a side so many times longer than the other",
    "no_words": "a side of which normalising leaves no word",
    "duplicate": "the same as an earlier row",
    "target_leak": "a target whose like is held out",
}
"""Every reason why a row is left out, in the order in which they are looked for."""

# What stands for a script in a character class of RE2, by its ISO 15924 code.
_SCRIPTS = {
    "Arab": r"\p{Arabic}", "Armn": r"\p{Armenian}", "Beng": r"\p{Bengali}",
    "Cyrl": r"\p{Cyrillic}", "Deva": r"\p{Devanagari}", "Ethi": r"\p{Ethiopic}",
    "Geor": r"\p{Georgian}", "Grek": r"\p{Greek}", "Gujr": r"\p{Gujarati}",
    "Guru": r"\p{Gurmukhi}", "Hans": r"\p{Han}", "Hant": r"\p{Han}", "Hebr": r"\p{Hebrew}",
    "Jpan": r"\p{Han}\p{Hiragana}\p{Katakana}", "Khmr": r"\p{Khmer}", "Knda": r"\p{Kannada}",
    "Kore": r"\p{Hangul}\p{Han}", "Laoo": r"\p{Lao}", "Latn": r"\p{Latin}",
    "Mlym": r"\p{Malayalam}", "Mymr": r"\p{Myanmar}", "Sinh": r"\p{Sinhala}",
    "Taml": r"\p{Tamil}", "Telu": r"\p{Telugu}", "Thai": r"\p{Thai}", "Tibt": r"\p{Tibetan}",
}  # fmt: skip
_CONTROL = r"[\x00-\x1f\x7f-\x9f\x{202a}-\x{202e}\x{2066}-\x{2069}\x{feff}]"
_MARKUP = r"</?[a-zA-Z][^<>]*>|<!--|&(?:[a-zA-Z]{2,8}|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"

# Added to both lengths of a ratio: "Go." may well be "Vas-y, maintenant !".
_SLACK = 15


@dataclass(frozen=True)
class Cleaner:
    """The rules as a corpus has them switched."""

    config: CleanConfig
    languages: tuple[str, str]

    def __call__(self, table: pa.Table, given: bool = False) -> pa.Table:
        """The rows with sides trimmed, every reason in `drop`, and their keys beside them.

        Args:
            given: the rows are a held-out part that the user brought: only what cannot be used at
                all is left out.
        """
        rows = {side: _trimmed(_decoded(table[side])) for side in ("source", "target")}
        rows |= {f"{side}_key": keys(rows[side]) for side in ("source", "target")}
        drop = pc.fill_null(table["drop"].combine_chunks(), "")
        for name, breaks in _RULES.items():
            if given and name != "empty":
                continue
            broken = breaks(self, rows)
            if broken is not None:
                drop = pc.if_else(pc.and_(pc.equal(drop, ""), broken), name, drop)
        return pa.table({**rows, "drop": drop})


def script(language: str) -> str | None:
    """The script of a language, as a part of a character class; None if it is not known."""
    likely = get_global("likely_subtags")
    tag = likely.get(language.replace("-", "_")) or likely.get(re.split("[-_]", language)[0], "")
    return next((_SCRIPTS[part] for part in tag.split("_") if part in _SCRIPTS), None)


def _empty(cleaner: Cleaner, rows: Rows) -> Any:
    return pc.or_(pc.equal(rows["source"], ""), pc.equal(rows["target"], ""))


def _encoding(cleaner: Cleaner, rows: Rows) -> Any:
    return _either(rows, "\ufffd") if cleaner.config.encoding else None


def _control(cleaner: Cleaner, rows: Rows) -> Any:
    return _either(rows, _CONTROL) if cleaner.config.control else None


def _markup(cleaner: Cleaner, rows: Rows) -> Any:
    return _either(rows, _MARKUP) if cleaner.config.markup else None


def _script(cleaner: Cleaner, rows: Rows) -> Any:
    if not cleaner.config.script:
        return None
    wrong = pa.array(np.zeros(len(rows["source"]), bool))
    for name, language in zip(("source", "target"), cleaner.languages, strict=True):
        side = rows[name]
        if (own := script(language)) is None:
            continue
        # Counting is slow, so only sides with a letter of another script are counted.
        mixed = pc.match_substring_regex(side, rf"[^\P{{L}}{own}]")
        doubtful = side.filter(mixed)
        letters = pc.count_substring_regex(doubtful, r"\p{L}")
        inside = pc.count_substring_regex(doubtful, rf"[{own}]")
        mostly_other = pc.less(pc.multiply(inside, 2), letters)
        wrong = pc.or_(wrong, pc.replace_with_mask(mixed, mixed, mostly_other))
    return wrong


def _identical(cleaner: Cleaner, rows: Rows) -> Any:
    return pc.equal(rows["source_key"], rows["target_key"]) if cleaner.config.identical else None


def _too_long(cleaner: Cleaner, rows: Rows) -> Any:
    limit = cleaner.config.max_characters
    if limit is None:
        return None
    return pc.greater(pc.max_element_wise(*_lengths(rows)), limit)


def _length_ratio(cleaner: Cleaner, rows: Rows) -> Any:
    limit = cleaner.config.max_ratio
    if limit is None:
        return None
    lengths = [pc.add(length, _SLACK) for length in _lengths(rows)]
    longer, shorter = pc.max_element_wise(*lengths), pc.min_element_wise(*lengths)
    return pc.greater(pc.divide(longer.cast(pa.float64()), shorter), limit)


_RULES: dict[str, Callable[[Cleaner, Rows], Any]] = {
    "empty": _empty,
    "encoding": _encoding,
    "control": _control,
    "markup": _markup,
    "script": _script,
    "identical": _identical,
    "too_long": _too_long,
    "length_ratio": _length_ratio,
}


def _either(rows: Rows, pattern: str) -> Any:
    sides = rows["source"], rows["target"]
    return pc.or_(*(pc.match_substring_regex(side, pattern) for side in sides))


def _lengths(rows: Rows) -> list[pa.Array]:
    return [pc.utf8_length(rows[side]) for side in ("source", "target")]


def _decoded(column: pa.ChunkedArray) -> pa.StringArray:
    """A column of valid UTF-8; binary files may claim to have strings that are none."""
    side = column.combine_chunks()
    try:
        side.validate(full=True)
    except pa.ArrowInvalid:
        raw = side.cast(pa.binary()).to_pylist()
        return pa.array([text.decode("utf-8", "replace") for text in raw], pa.string())
    return side


def _trimmed(side: pa.StringArray) -> pa.StringArray:
    """Sentences without outer white space; a line break within is a space."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(side, r"[\t\n\v\f\r]+", " "))
