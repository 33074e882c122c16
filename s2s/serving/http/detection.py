"""Which language a text is in, of those that can be translated from."""

from collections.abc import Iterable
from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier


def detect(text: str, languages: Iterable[str]) -> list[tuple[str, float]]:
    """The languages, the likeliest first, each with its probability in percent.

    By py3langid, which knows about a hundred; a language that it does not know is at the end, at 0.
    """
    languages = sorted(set(languages))
    bases = {code: code.split("-")[0].lower() for code in languages}
    shares = dict(_identifier().rank(text)) if text.strip() else {}
    known = {code: float(shares.get(base, 0.0)) for code, base in bases.items()}
    ranked = sorted(known.items(), key=lambda entry: -entry[1])
    return [(code, round(100 * share, 1)) for code, share in ranked]


@lru_cache(1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
