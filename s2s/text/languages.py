"""Codes of languages (BCP 47), however people spell them; the scripts and names of languages.

What is known of languages, scripts and regions is Unicode's CLDR, as babel has it.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.localedata import locale_identifiers

from s2s.text.scripts import SPACELESS_SCRIPTS

# LibreTranslate's codes of Brazilian Portuguese and traditional Chinese; CLDR knows no such codes.
_LIBRETRANSLATE = {"pb": "pt-BR", "zt": "zh-Hant"}

# Scripts in the names of POSIX locales: sr_RS@latin.
_POSIX_SCRIPTS = {"cyrillic": "Cyrl", "devanagari": "Deva", "iqtelif": "Latn", "latin": "Latn"}
_POSIX = re.compile(r"(?P<tag>[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]+)?(?:@(?P<modifier>[A-Za-z0-9]+))?")
_BCP_47 = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)"
)

# Scripts that CLDR has for a language in which its corpora are not written: inventions, and the
# Latin letters of those who have no other keyboard.
_UNUSUAL = {"en_Dsrt", "en_Shaw", "hi_Latn", "zh_Latn"}


class Code(NamedTuple):
    """The parts of a code, each as BCP 47 writes it; empty if it is not given."""

    language: str
    script: str
    region: str
    variants: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join(filter(None, [self.language, self.script, self.region, *self.variants]))


# ---- codes --------------------------------------------------------------------------------------


@lru_cache(1024)
def canonical_code(code: str) -> str:
    """Return a code as BCP 47 writes it, with the shortest code of the language.

    So `pt_br`, `PT-BR` and `por-BR` are `pt-BR`, `eng` is `en`, `sr_RS@latin` is `sr-Latn-RS`, and
    `fra_Latn` is `fr`, as French has no other script. What is no such code is returned as it is.
    """
    parsed = parse_code(code)
    return code.strip() if parsed is None else str(parsed)


@lru_cache(1024)
def base_language(code: str) -> str:
    """Return the language of a code in lower case, without script and region: `pt` of `pt-BR`."""
    return _tag(code).split("-")[0]


@lru_cache(1024)
def matching_languages(code: str, served: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the served codes that a client may mean by a code, the closest first.

    First comes the code itself, then another spelling of it (`EN`, `pt_BR`, `pb`), then a code
    that means the same to CLDR (`zh` and `zh-CN` are `zh-Hans`), at last a more general one
    (`en-US` is `en`).
    """
    tag = _tag(code)
    language, script, region = _likely(tag)
    tests: tuple[Callable[[str], bool], ...] = (
        lambda other: other == code,
        lambda other: _tag(other) == tag,
        lambda other: _likely(_tag(other)) == (language, script, region),
        lambda other: _tag(other) == f"{language}-{script}",
        lambda other: _tag(other) == language,
    )
    return tuple(dict.fromkeys(other for test in tests for other in served if test(other)))


@lru_cache(4096)
def find_code(language: str, names: tuple[str, ...]) -> str | None:
    """Return the one of some names that a corpus has for a language, or None.

    It may be spelt in any way (`matching_languages`), or be the code of a region of the language,
    such as `en-GB` for `en`.
    """
    codes = {
        name: code
        for name in names
        if (code := parse_code(name)) and not code.variants and has_known_script_and_region(code)
    }
    same = [name for name in names if _tag(name) == _tag(language)]  # CLDR need not know it
    if matching := (*same, *matching_languages(language, tuple(codes))):
        return matching[0]
    wanted = parse_code(language)
    for name, code in codes.items():
        if (
            wanted is not None
            and code.language == wanted.language
            and wanted.script in ("", code.script)
            and wanted.region in ("", code.region)
        ):
            return name
    return None


def parse_code(code: str) -> Code | None:
    """Return the parts of a code, however it is spelt; None if it has the form of none."""
    tag = code.strip()
    posix = _POSIX.fullmatch(_LIBRETRANSLATE.get(tag.lower(), tag))
    form = posix and _BCP_47.fullmatch(posix["tag"].lower().replace("_", "-"))
    if not posix or not form:
        return None
    alias = get_global("language_aliases").get(form["language"], form["language"])
    language, *implied = alias.split("_")  # sh is sr_Latn
    implied_script = next((part for part in implied if len(part) == 4), "")
    implied_region = next((part for part in implied if len(part) < 4), "")
    modifier = (posix["modifier"] or "").lower()
    script = (form["script"] or _POSIX_SCRIPTS.get(modifier, implied_script)).title()
    region = (form["region"] or implied_region).upper()
    region = next(iter(get_global("territory_aliases").get(region, [region])))
    if script and _scripts_of_language(language) == (script,):
        script = ""
    return Code(language, script, region, tuple(filter(None, form["variants"].split("-"))))


def _tag(code: str) -> str:
    """Return a code in lower case, with hyphens, and today's name of the language."""
    return canonical_code(code).lower().replace("_", "-")


def _likely(tag: str) -> tuple[str, str, str]:
    """Return the language, script and region that a tag means, as far as CLDR can tell."""
    language, *rest = tag.split("-")
    script = next((part.title() for part in rest if len(part) == 4), "")
    region = next((part.upper() for part in rest if len(part) in (2, 3)), "")
    likely = get_global("likely_subtags")
    keys = (f"{language}_{script}_{region}", f"{language}_{region}", f"{language}_{script}")
    for key in (*keys, language):
        if key in likely:
            _, likely_script, likely_region = likely[key].split("_")[:3]
            return language, (script or likely_script).lower(), (region or likely_region).lower()
    return language, script.lower(), region.lower()


def has_known_script_and_region(code: Code) -> bool:
    """Return whether CLDR knows the script and the region of a code, if it has them."""
    return (not code.script or code.script in _known_scripts()) and (
        not code.region or code.region.isdigit() or code.region in known_regions()
    )


@lru_cache(1)
def known_regions() -> frozenset[str]:
    """Return the codes of the regions that CLDR knows, in upper case."""
    return frozenset(get_global("territory_languages"))


@lru_cache(1)
def _known_scripts() -> frozenset[str]:
    """Return the scripts in which some language is written."""
    likely = get_global("likely_subtags").values()
    return frozenset(
        part
        for tag in (*likely, *locale_identifiers())
        for part in tag.split("_")[1:2]
        if len(part) == 4
    )


@lru_cache(64)
def language_names(code: str) -> frozenset[str]:
    """Return what people call a language, case-folded: its codes, and its English and own name."""
    base = base_language(code)
    three = (old for old, new in get_global("language_aliases").items() if new == base)
    names = {code, code.replace("-", "_"), base, *(each for each in three if len(each) == 3)}
    for tag in {_tag(code), base}:
        try:
            locale = Locale.parse(tag, sep="-")
        except (ValueError, UnknownLocaleError):
            continue
        names |= {locale.get_display_name("en") or "", locale.get_display_name() or ""}
    return frozenset(name.casefold() for name in names if name)


# ---- scripts and names --------------------------------------------------------------------------


@lru_cache(1024)
def scripts(code: str) -> tuple[str, ...]:
    """Return the scripts (ISO 15924) in which text of a code may be, the likeliest first.

    It is one if the code names it (`sr-Latn`), else all that are usual for the language: Serbian is
    written in Cyrillic and Latin letters. There is none if CLDR does not know the language.
    """
    parsed = parse_code(code)
    if parsed is None:
        return ()
    if parsed.script:
        return (parsed.script,)
    likely = _likely(str(parsed).lower())[1].title()
    usual = _scripts_of_language(parsed.language)
    return tuple(dict.fromkeys(filter(None, (likely, *usual))))


def is_spaceless(code: str) -> bool:
    """Return whether a language is written without spaces between words, as Chinese and Thai."""
    return bool(SPACELESS_SCRIPTS.intersection(scripts(code)[:1]))


def language_name(code: str) -> str:
    """Return the English name of a language, or its code if CLDR does not know it."""
    try:
        return Locale.parse(code, sep="-").get_display_name("en") or code
    except (ValueError, UnknownLocaleError):
        return code


@lru_cache(1024)
def _scripts_of_language(language: str) -> tuple[str, ...]:
    """Return the scripts that are usual for a language, the likeliest first."""
    likely = get_global("likely_subtags").get(language, "").split("_")[1:2]
    return tuple(dict.fromkeys([*likely, *_further_scripts().get(language, ())]))


@lru_cache(1)
def _further_scripts() -> dict[str, list[str]]:
    """Return the scripts that CLDR names with a language, of those that have several."""
    regions: Iterable[dict[str, object]] = get_global("territory_languages").values()
    tags = sorted({*locale_identifiers(), *(tag for languages in regions for tag in languages)})
    further: dict[str, list[str]] = {}
    for tag in tags:
        language, _, script = tag.partition("_")
        if len(script) == 4 and script.isalpha() and tag not in _UNUSUAL:
            further.setdefault(language, []).append(script)
    return further
