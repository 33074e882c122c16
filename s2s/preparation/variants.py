"""Choice among the texts of a unit in several languages, as TMX and some datasets have them."""

from collections.abc import Iterable

from s2s.text.languages import matching_languages

Row = tuple[str, str, str]
"""Source, target, and the rule (`s2s.corpus.rules`) by which the row is left out, or empty."""


def rows_of_variants(variants: Iterable[tuple[str, str]], languages: tuple[str, str]) -> list[Row]:
    """Return the rows of a unit: its pair, and a row of the rule `variant` for each other text.

    Args:
        variants: code of the language and text of each variant; `en-US` counts as `en`.
        languages: codes of the source and target language.
    """
    exact = {_folded(language) for language in languages}
    sides: tuple[list[str], list[str]] = ([], [])
    for code, text in sorted(variants, key=lambda variant: _folded(variant[0]) not in exact):
        if (side := side_of_code(code, languages)) is not None:
            sides[side].append(text)
    if not all(sides):
        source, target = ((texts or [""])[0] for texts in sides)
        return [(source, target, "columns")]
    # A text that is there comes before an empty one.
    sources, targets = (sorted(texts, key=lambda text: not text) for texts in sides)
    return [
        (sources[0], targets[0], ""),
        *((source, targets[0], "variant") for source in sources[1:]),
        *((sources[0], target, "variant") for target in targets[1:]),
    ]


def side_of_code(code: str, languages: tuple[str, str]) -> int | None:
    """Return 0 if a code means the source language, 1 if it means the target language."""
    matching = matching_languages(code, languages)
    return languages.index(matching[0]) if matching else None


def _folded(code: str) -> str:
    return code.lower().replace("_", "-")
