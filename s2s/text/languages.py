"""What languages are called."""

from babel import Locale, UnknownLocaleError


def language_name(code: str) -> str:
    """The English name of a language, or its code where CLDR knows none."""
    try:
        return Locale.parse(code, sep="-").get_display_name("en") or code
    except (ValueError, UnknownLocaleError):
        return code
