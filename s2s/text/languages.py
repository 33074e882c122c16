"""Codes of languages, however they are spelt, and English names."""

from collections.abc import Callable
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.core import get_global

# LibreTranslate's codes of Brazilian Portuguese and traditional Chinese; CLDR knows no such codes.
_LIBRETRANSLATE = {"pb": "pt-br", "zt": "zh-hant"}


def language_name(code: str) -> str:
    """Return the English name of a language, or its code if CLDR does not know it."""
    try:
        return Locale.parse(code, sep="-").get_display_name("en") or code
    except (ValueError, UnknownLocaleError):
        return code


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


def base_language(code: str) -> str:
    """Return the language of a code in lower case, without script and region: `pt` of `pt-BR`."""
    return _tag(code).split("-")[0]


def _tag(code: str) -> str:
    """Return a code in lower case, with hyphens, and today's name of the language."""
    tag = code.strip().lower().replace("_", "-")
    tag = _LIBRETRANSLATE.get(tag, tag)
    language, *rest = tag.split("-")
    alias = get_global("language_aliases").get(language, language)
    return "-".join([alias.lower().replace("_", "-"), *rest])


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
