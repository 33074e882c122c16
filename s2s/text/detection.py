"""Detection of a text's language: which of some it is in, and which of all that py3langid knows."""

import re
from collections.abc import Iterable
from functools import lru_cache

from babel.core import get_global
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from s2s.text.languages import base_language

_TAG = re.compile(r"<[^<>]*>")
_PY3LANGID = {"nb": "no", "fil": "tl"}  # what it calls languages that CLDR names otherwise


def language_probabilities(text: str, languages: Iterable[str]) -> dict[str, float]:
    """Return the probability of each language; together they are 1.

    py3langid ranks about 140 languages. What it gives the served ones is scaled up to 1, as the
    text is probably in one of them. The likelier any other language is than all of these, though,
    the less does their order mean, and the more alike the probabilities become: so it is with
    texts of another language, and with very short ones.
    """
    codes = sorted(set(languages))
    names = [_name(code) for code in codes]
    ranked = all_probabilities(prose(text))
    # Codes of one language, such as pt and pt-BR, share what it got.
    shares = [ranked.get(name, 0.0) / names.count(name) for name in names]
    known = sum(shares)
    other = max((share for name, share in ranked.items() if name not in names), default=0.0)
    trust = known / max(known, other) if known > 0 else 0.0
    alike = (1 - trust) / len(codes) if codes else 0.0
    return {
        code: (trust * share / known if known > 0 else 0.0) + alike
        for code, share in zip(codes, shares, strict=True)
    }


def all_probabilities(text: str) -> dict[str, float]:
    """Return the probability of each language that py3langid knows, by its code, likeliest first.

    Args:
        text: of words alone, as `prose` returns it.
    """
    return {name: float(share) for name, share in _identifier().rank(text)}


def detectable_language(code: str) -> str | None:
    """Return what py3langid calls a language, or None if it cannot tell texts of it.

    It was trained on the usual script of each language: of Serbian in Latin letters, it knows
    nothing.
    """
    base, name = base_language(code), _name(code)
    script = next((part.title() for part in re.split("[-_]", code)[1:] if len(part) == 4), None)
    usual = get_global("likely_subtags").get(base, "").split("_")
    if name not in _identifier().labels or (base != "zh" and script and script not in usual):
        return None
    return name


def load_detection() -> None:
    """Load what detects languages, which takes a second that no request should wait for."""
    _identifier()


def prose(text: str) -> str:
    """Return a text without what is in no language: tags, addresses, numbers, emoji."""
    words = _TAG.sub(" ", text).split()
    return " ".join(word for word in words if _is_prose(word))


def _is_prose(word: str) -> bool:
    return "://" not in word and "@" not in word and any(map(str.isalpha, word))


def _name(code: str) -> str:
    base = base_language(code)
    return _PY3LANGID.get(base, base)


def percent(probability: float) -> float:
    """Return a probability as a percentage with one decimal."""
    return round(100 * probability, 1)


@lru_cache(1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
