"""The checks that leave rows out of a corpus, each on a table of rows at once.

To add a rule: describe it in `s2s.corpus.rules.RULES`, add its switch to `s2s.config.CleanConfig`,
write its check here, and give it a row in `_CHECKS`; `tests/unit/test_clean.py` has a row that
breaks each rule.

The rules are those of Moses' clean-corpus-n and of OpusFilter (Aulamo et al., 2020), with limits
that spare short sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2s.config import CleanConfig
from s2s.corpus.directory import SIDES
from s2s.preparation.sentence_keys import sentence_keys
from s2s.text.encodings import DOUBLE_ENCODED, is_double_encoded
from s2s.text.languages import scripts

# RE2 character classes of scripts, by their ISO 15924 code.
_SCRIPTS = {
    "Adlm": r"\p{Adlam}", "Arab": r"\p{Arabic}", "Aran": r"\p{Arabic}", "Armn": r"\p{Armenian}",
    "Beng": r"\p{Bengali}", "Bopo": r"\p{Bopomofo}", "Cans": r"\p{Canadian_Aboriginal}",
    "Cher": r"\p{Cherokee}", "Cyrl": r"\p{Cyrillic}", "Deva": r"\p{Devanagari}",
    "Ethi": r"\p{Ethiopic}", "Geor": r"\p{Georgian}", "Grek": r"\p{Greek}",
    "Gujr": r"\p{Gujarati}", "Guru": r"\p{Gurmukhi}", "Hang": r"\p{Hangul}", "Hani": r"\p{Han}",
    "Hans": r"\p{Han}", "Hant": r"\p{Han}", "Hebr": r"\p{Hebrew}", "Hira": r"\p{Hiragana}",
    "Jpan": r"\p{Han}\p{Hiragana}\p{Katakana}", "Kana": r"\p{Katakana}", "Khmr": r"\p{Khmer}",
    "Knda": r"\p{Kannada}", "Kore": r"\p{Hangul}\p{Han}", "Laoo": r"\p{Lao}",
    "Latn": r"\p{Latin}", "Mlym": r"\p{Malayalam}", "Mong": r"\p{Mongolian}",
    "Mtei": r"\p{Meetei_Mayek}", "Mymr": r"\p{Myanmar}", "Nkoo": r"\p{Nko}",
    "Olck": r"\p{Ol_Chiki}", "Orya": r"\p{Oriya}", "Sinh": r"\p{Sinhala}",
    "Syrc": r"\p{Syriac}", "Taml": r"\p{Tamil}", "Telu": r"\p{Telugu}",
    "Tfng": r"\p{Tifinagh}", "Thaa": r"\p{Thaana}", "Thai": r"\p{Thai}", "Tibt": r"\p{Tibetan}",
    "Vaii": r"\p{Vai}",
}  # fmt: skip
# Scripts in which a character says about as much as three letters.
_DENSE = {"Bopo", "Hang", "Hani", "Hans", "Hant", "Hira", "Jpan", "Kana", "Kore"}
_CONTROL = r"[\x00-\x1f\x7f-\x9f\x{202a}-\x{202e}\x{2066}-\x{2069}\x{feff}]"
_MARKUP = r"</?[a-zA-Z][^<>]*>|<!--|&(?:[a-zA-Z]{2,8}|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"

# Added to both lengths of a ratio: "Go." may well be "Vas-y, maintenant !".
_LENGTH_SLACK = 15


@dataclass(frozen=True)
class _Pairs:
    """Sentence pairs, (rows,) each."""

    source: pa.StringArray
    target: pa.StringArray
    source_key: pa.StringArray
    target_key: pa.StringArray

    @property
    def sides(self) -> tuple[pa.StringArray, pa.StringArray]:
        return self.source, self.target


@dataclass(frozen=True)
class Cleaner:
    """The checks that a corpus has switched on.

    Args:
        languages: codes of the source and target language.
    """

    config: CleanConfig
    languages: tuple[str, str]

    def check(self, table: pa.Table, unusable_only: bool = False) -> pa.Table:
        """Return trimmed rows, with the first rule that each one breaks.

        Args:
            table: columns `source`, `target` and `drop`, the rule that a reader reports as broken.
            unusable_only: leave out only what is no sentence pair at all, as for a split that the
                user provides.

        Returns:
            Columns `source`, `target`, `source_key`, `target_key`, and `drop`, which is empty for a
            row that breaks no rule.
        """
        source, target = (_trim(_valid_text(table[side])) for side in SIDES)
        pairs = _Pairs(source, target, sentence_keys(source), sentence_keys(target))
        drop = pc.fill_null(table["drop"].combine_chunks(), "")
        for rule, check in _CHECKS.items():
            if unusable_only and rule != "empty":
                continue
            broken = check(self, pairs)
            if broken is not None:
                drop = pc.if_else(pc.and_(pc.equal(drop, ""), broken), rule, drop)
        return pa.table({**vars(pairs), "drop": drop})


def script_class(language: str) -> str | None:
    """Return the RE2 character class of a language's scripts; None if one is not known."""
    classes = [_SCRIPTS.get(script, "") for script in scripts(language)]
    return "".join(dict.fromkeys(classes)) if classes and all(classes) else None


# ---- checks: which rows break a rule, (rows,) bool; None if the rule is switched off -------------


def _is_empty(cleaner: Cleaner, pairs: _Pairs) -> Any:
    return pc.or_(pc.equal(pairs.source, ""), pc.equal(pairs.target, ""))


def _is_badly_encoded(cleaner: Cleaner, pairs: _Pairs) -> Any:
    if not cleaner.config.encoding:
        return None
    broken = _either_matches(pairs, "\ufffd")
    for side in pairs.sides:
        # Few sides need a look of their own.
        suspect = pc.match_substring_regex(side, DOUBLE_ENCODED)
        doubled = pa.array(map(is_double_encoded, side.filter(suspect).to_pylist()), pa.bool_())
        broken = pc.or_(broken, pc.replace_with_mask(suspect, suspect, doubled))
    return broken


def _has_control(cleaner: Cleaner, pairs: _Pairs) -> Any:
    return _either_matches(pairs, _CONTROL) if cleaner.config.control else None


def _has_markup(cleaner: Cleaner, pairs: _Pairs) -> Any:
    return _either_matches(pairs, _MARKUP) if cleaner.config.markup else None


def _has_other_script(cleaner: Cleaner, pairs: _Pairs) -> Any:
    if not cleaner.config.script:
        return None
    broken = pa.array(np.zeros(len(pairs.source), bool))
    for side, language in zip(pairs.sides, cleaner.languages, strict=True):
        if (own := script_class(language)) is None:
            continue
        # Counting is slow, so only sides with a letter of another script are counted.
        mixed = pc.match_substring_regex(side, rf"[^\P{{L}}{own}]")
        mixed_sides = side.filter(mixed)
        letters = pc.count_substring_regex(mixed_sides, r"\p{L}")
        own_letters = pc.count_substring_regex(mixed_sides, rf"[{own}]")
        mostly_other = pc.less(pc.multiply(own_letters, 2), letters)
        broken = pc.or_(broken, pc.replace_with_mask(mixed, mixed, mostly_other))
    return broken


def _is_identical(cleaner: Cleaner, pairs: _Pairs) -> Any:
    return pc.equal(pairs.source_key, pairs.target_key) if cleaner.config.identical else None


def _is_too_long(cleaner: Cleaner, pairs: _Pairs) -> Any:
    limit = cleaner.config.max_characters
    return None if limit is None else pc.greater(pc.max_element_wise(*_lengths(pairs)), limit)


def _has_length_ratio(cleaner: Cleaner, pairs: _Pairs) -> Any:
    limit = cleaner.config.max_ratio
    if limit is None:
        return None
    lengths = [
        pc.add(_weighted_length(side, language), _LENGTH_SLACK)
        for side, language in zip(pairs.sides, cleaner.languages, strict=True)
    ]
    longer, shorter = pc.max_element_wise(*lengths), pc.min_element_wise(*lengths)
    return pc.greater(pc.divide(longer.cast(pa.float64()), shorter), limit)


_CHECKS: dict[str, Callable[[Cleaner, _Pairs], Any]] = {
    "empty": _is_empty,
    "encoding": _is_badly_encoded,
    "control": _has_control,
    "markup": _has_markup,
    "script": _has_other_script,
    "identical": _is_identical,
    "too_long": _is_too_long,
    "length_ratio": _has_length_ratio,
}
"""The check of each rule, in the order in which they are made."""


def _either_matches(pairs: _Pairs, pattern: str) -> Any:
    return pc.or_(*(pc.match_substring_regex(side, pattern) for side in pairs.sides))


def _lengths(pairs: _Pairs) -> list[pa.Array]:
    return [pc.utf8_length(side) for side in pairs.sides]


def _weighted_length(side: pa.StringArray, language: str) -> pa.Array:
    """Return the length of each sentence in letters, of which a dense script counts several."""
    if _DENSE.isdisjoint(scripts(language)[:1]):
        return pc.utf8_length(side)
    return pc.binary_length(side)  # three bytes a character of these scripts, one a Latin letter


def _valid_text(column: pa.ChunkedArray) -> pa.StringArray:
    """Return a column as valid UTF-8; strings of a binary file may claim to be, and are not."""
    side = column.combine_chunks()
    try:
        side.validate(full=True)
    except pa.ArrowInvalid:
        raw = side.cast(pa.binary()).to_pylist()
        return pa.array([text.decode("utf-8", "replace") for text in raw], pa.string())
    return side


def _trim(side: pa.StringArray) -> pa.StringArray:
    """Return sentences without outer white space, and with spaces for line breaks and tabs."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(side, r"[\t\n\v\f\r]+", " "))
