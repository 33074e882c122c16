"""Detection of a text's language among those that are served."""

import re
from collections.abc import Iterable
from functools import lru_cache

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
    bases = [base_language(code) for code in codes]
    names = [_PY3LANGID.get(base, base) for base in bases]
    ranked = dict(_identifier().rank(_prose(text)))
    # Codes of one language, such as pt and pt-BR, share what it got.
    shares = [float(ranked.get(name, 0.0)) / names.count(name) for name in names]
    known = sum(shares)
    other = max((share for name, share in ranked.items() if name not in names), default=0.0)
    trust = known / max(known, other) if known > 0 else 0.0
    alike = (1 - trust) / len(codes) if codes else 0.0
    return {
        code: (trust * share / known if known > 0 else 0.0) + alike
        for code, share in zip(codes, shares, strict=True)
    }


def load_detection() -> None:
    """Load what detects languages, which takes a second that no request should wait for."""
    _identifier()


def _prose(text: str) -> str:
    """Return a text without what is in no language: tags, addresses, numbers, emoji."""
    words = _TAG.sub(" ", text).split()
    return " ".join(word for word in words if _is_prose(word))


def _is_prose(word: str) -> bool:
    return "://" not in word and "@" not in word and any(map(str.isalpha, word))


def percent(probability: float) -> float:
    """Return a probability as a percentage with one decimal."""
    return round(100 * probability, 1)


@lru_cache(1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
