"""Pairs of languages in one text: `en-fr` and `en:pt-BR`, however people join the two codes."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from babel import Locale
from babel.core import get_global

from s2s.errors import BadInput
from s2s.text.languages import (
    has_known_script_and_region,
    known_regions,
    language_name,
    parse_code,
    scripts,
)

_BETWEEN = re.compile(r"\s*(?:[:,;/]|->|→)\s*|\s+-\s+|\s+")
_EXPECTED = "expected two codes, such as en-fr or en:pt-BR"


class _Division(NamedTuple):
    """A place where a text may be divided into two codes."""

    left: str
    mark: str
    right: str


def language_pair(text: str) -> tuple[str, str]:
    """Return the canonical source and target language that a text such as `en-fr` names.

    A colon, comma or space divides the codes in any case. A hyphen or underscore may also be a part
    of a code, and divides where the codes on both sides are known; the case of letters
    (`en-fr-CA`) and the languages of a region (`en-pt-br`) decide between several such places.

    Raises:
        BadInput: the text does not name two languages, or may name different ones.
    """
    where = f"--languages {text}"
    if len(named := _codes_of_names(text)) == 2:
        raise BadInput(f"{where}: {_EXPECTED}; write {':'.join(named)}")
    sides = [side for side in _BETWEEN.split(text.strip()) if side]
    if len(sides) == 1:
        sides = _divide(sides[0], where)
    if len(sides) != 2:
        raise BadInput(f"{where}: {_EXPECTED}")
    source, target = (_language(side, where) for side in sides)
    if source == target:
        raise BadInput(f"{where}: source and target are the same language; {_EXPECTED}")
    return source, target


def describe_direction(source: str, target: str) -> str:
    """Return a direction in words and codes, such as `English to French (en-fr)`."""
    mark = ":" if "-" in source + target else "-"
    return f"{language_name(source)} to {language_name(target)} ({source}{mark}{target})"


def _codes_of_names(text: str) -> list[str]:
    """Return the codes of the languages whose English names a text joins."""
    codes = {name.casefold(): code for code, name in Locale("en").languages.items()}
    names = re.findall(r"\w{4,}", text.replace("_", " ").casefold())
    return [codes[name] for name in names if name in codes]


def _language(text: str, where: str) -> str:
    """Return the canonical form of a code.

    Raises:
        BadInput: it is not the code of a language.
    """
    code = parse_code(text)
    if code is None:
        raise BadInput(f"{where}: {text} is no code of a language; {_EXPECTED}")
    region = code.language.upper()
    if region in known_regions() and not _is_language(code.language):  # jp is Japan, ja is Japanese
        meant = get_global("likely_subtags").get(f"und_{region}", "").split("_")[0]
        advice = f"; {language_name(meant)} is {meant}" if meant else ""
        raise BadInput(f"{where}: {text} is the code of a region, not of a language{advice}")
    return str(code)


def _divide(text: str, where: str) -> list[str]:
    """Return the two codes that a hyphen or underscore joins, or the whole text if none does.

    Raises:
        BadInput: there are several places, and nothing decides between them.
    """
    divisions = list(_divisions(text))
    if len(divisions) == 1 and text[:2].islower() and divisions[0].right in known_regions():
        raise BadInput(f"{where}: {text} is the code of one language; {_EXPECTED}")
    tests: tuple[Callable[[_Division], bool], ...] = (
        _has_usual_case,
        _has_languages_of_regions,
        lambda division: division.mark == "-",  # an underscore is more often part of a code
    )
    for test in tests:
        if len(divisions) > 1:
            divisions = list(filter(test, divisions)) or divisions
    if len(divisions) > 1:
        pairs = " or ".join(f"{division.left}:{division.right}" for division in divisions)
        raise BadInput(f"{where} can be read in several ways; write {pairs}")
    return [divisions[0].left, divisions[0].right] if divisions else [text]


def _divisions(text: str) -> Iterator[_Division]:
    """Yield the places where a text may be divided into two codes."""
    places = [place.start() for place in re.finditer("[-_]", text)]
    for place in places:
        division = _Division(text[:place], text[place], text[place + 1 :])
        codes = [code for side in (division.left, division.right) if (code := parse_code(side))]
        # Codes of one part each may be of languages that CLDR does not know.
        if len(codes) == 2 and (
            len(places) == 1
            or all(_is_language(c.language) and has_known_script_and_region(c) for c in codes)
        ):
            yield division


def _has_usual_case(division: _Division) -> bool:
    """Return whether languages are in lower and regions in upper case, or all in the same."""
    parts = [re.split("[-_]", side) for side in (division.left, division.right)]
    languages = [first for first, *_ in parts]
    regions = [part for _, *rest in parts for part in rest if len(part) == 2]
    if all(map(str.islower, languages + regions)) or all(map(str.isupper, languages + regions)):
        return True
    return not any(map(str.isupper, languages)) and all(map(str.isupper, regions))


def _has_languages_of_regions(division: _Division) -> bool:
    """Return whether each language is official in its region."""
    for code in map(parse_code, (division.left, division.right)):
        if code is not None and code.region and not code.region.isdigit():
            languages = get_global("territory_languages").get(code.region, {})
            names = (code.language, f"{code.language}_{scripts(str(code))[0]}")
            if not any(languages.get(name, {}).get("official_status") for name in names):
                return False
    return True


def _is_language(subtag: str) -> bool:
    return subtag in get_global("likely_subtags") or subtag in get_global("language_aliases")
