"""What a text holds that can be translated: words, and not only numbers, marks and names of things.

A URL, an e-mail address, a mention, an emoji's name and a placeholder of a program mean the same in
every language, and a model that has never seen them makes something else of them.
"""

import re
import unicodedata

from s2s.text.languages import scripts

# How `unicodedata` begins the names of a script's letters, by its ISO 15924 code.
_SCRIPTS: dict[str, str] = {
    "Arab": "ARABIC", "Armn": "ARMENIAN", "Beng": "BENGALI", "Cyrl": "CYRILLIC",
    "Deva": "DEVANAGARI", "Ethi": "ETHIOPIC", "Geor": "GEORGIAN", "Grek": "GREEK",
    "Gujr": "GUJARATI", "Guru": "GURMUKHI", "Hans": "CJK", "Hant": "CJK", "Hebr": "HEBREW",
    "Jpan": "CJK HIRAGANA KATAKANA", "Khmr": "KHMER", "Knda": "KANNADA",
    "Kore": "HANGUL CJK", "Laoo": "LAO", "Latn": "LATIN", "Mlym": "MALAYALAM",
    "Mymr": "MYANMAR", "Sinh": "SINHALA", "Taml": "TAMIL", "Telu": "TELUGU", "Thai": "THAI",
    "Tibt": "TIBETAN",
}  # fmt: skip

_BRACES = re.compile(r"\{[^{}]*+\}")  # {name}, ${name}, {{ name }}
_OPAQUE = re.compile(
    r"""[("'«“‘¿¡]*+
    (?:[A-Za-z][A-Za-z0-9+.-]*+://\S+
    |(?:www\.|mailto:)\S+
    |[@#][^\s@]+(?:@[^\s@]+)?  # a mention, a hashtag
    |[^\s@]+@[^\s@]+\.[^\s@]+
    |:[\w+-]+:[).,;:!?…"'»”’]*  # a custom emoji
    |%(?:\([^\s()]*\)|\d+\$)?[-+\#0 ]*\d*(?:\.\d+)?[a-zA-Z@][).,;:!?…"'»”’]*
    )""",
    re.VERBOSE,
)


class Translatable:
    """Tells whether texts in a language hold anything to translate.

    Args:
        tokens: the vocabulary of a model that translates from the language.
    """

    def __init__(self, language: str, tokens: list[str], specials: int) -> None:
        names = [_SCRIPTS.get(script, "") for script in scripts(language)]
        # The beginnings of the names of its letters; None if they are not known.
        known = bool(names) and all(names)
        self._script = tuple(" ".join(names).split()) if known else None
        self._words = frozenset(
            place
            for place, token in enumerate(tokens)
            if place >= specials and any(map(str.isalpha, token))
        )

    def __call__(self, text: str, ids: list[int]) -> bool:
        """Return whether a text has a word that the model knows, and that is one of the language.

        Args:
            ids: the tokens of the text.
        """
        if self._words.isdisjoint(ids):
            return False
        if "{" in text:
            text = _BRACES.sub(" ", _BRACES.sub(" ", text))
        return any(self._has_letter(word) and not _OPAQUE.fullmatch(word) for word in text.split())

    def _has_letter(self, word: str) -> bool:
        """Return whether a word has a letter of the language's script."""
        if self._script is None:
            return any(map(str.isalpha, word))
        if not word.isascii():  # a letter of full width is one of its script
            word = unicodedata.normalize("NFKC", word)
        return any(
            letter.isalpha() and unicodedata.name(letter, "").startswith(self._script)
            for letter in word
        )
