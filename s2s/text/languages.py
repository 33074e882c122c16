"""English names of languages."""

from babel import Locale, UnknownLocaleError


def language_name(code: str) -> str:
    """Return the English name of a language, or its code if CLDR does not know it."""
    try:
        return Locale.parse(code, sep="-").get_display_name("en") or code
    except (ValueError, UnknownLocaleError):
        return code
