"""Choice among the texts of a unit in several languages, as TMX and some datasets have them."""

from collections.abc import Iterable
from functools import partial

from s2s.text.languages import canonical_code, find_code, matching_languages

Row = tuple[str, str, str]
"""Source, target, and the rule (`s2s.corpus.rules`) by which the row is left out, or empty."""


def rows_of_variants(variants: Iterable[tuple[str, str]], languages: tuple[str, str]) -> list[Row]:
    """Return the rows of a unit: its pair, and a row of the rule `variant` for each other text.

    Args:
        variants: code of the language and text of each variant; `en-US` counts as `en`.
        languages: codes of the source and target language.
    """
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for code, text in variants:
        if (side := side_of_code(code, languages)) is not None:
            sides[side].append((code, text))
    sources, targets = (
        texts if len(texts) < 2 else sorted(texts, key=partial(_distance, language=language))
        for texts, language in zip(sides, languages, strict=True)
    )
    if not sources or not targets:
        (_, source), (_, target) = ((texts or [("", "")])[0] for texts in (sources, targets))
        return [(source, target, "columns")]
    (_, source), (_, target) = sources[0], targets[0]
    return [
        (source, target, ""),
        *((other, target, "variant") for _, other in sources[1:]),
        *((source, other, "variant") for _, other in targets[1:]),
    ]


def _distance(variant: tuple[str, str], language: str) -> tuple[bool, bool]:
    """Return what sorts the variants of a language: those with a text first, then its own code."""
    code, text = variant
    return not text, canonical_code(code) != canonical_code(language)


def side_of_code(code: str, languages: tuple[str, str]) -> int | None:
    """Return 0 if a code means the source language, 1 if it means the target language."""
    if matching := matching_languages(code, languages):
        return languages.index(matching[0])
    # A corpus may name a language less closely than the user: `sr` for `sr-Latn`.
    return next((side for side in (0, 1) if find_code(languages[side], (code,))), None)
