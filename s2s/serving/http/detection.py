"""Detection of a text's language, among those that are translated from."""

from collections.abc import Iterable
from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier


def detect(text: str, languages: Iterable[str]) -> list[tuple[str, float]]:
    """Return the languages, the likeliest first, each with its probability in percent.

    py3langid detects about a hundred languages; one that it does not know gets 0 %.
    """
    languages = sorted(set(languages))
    bases = {code: code.split("-")[0].lower() for code in languages}
    shares = dict(_identifier().rank(text)) if text.strip() else {}
    probabilities = {code: float(shares.get(base, 0.0)) for code, base in bases.items()}
    ranked = sorted(probabilities.items(), key=lambda entry: -entry[1])
    return [(code, round(100 * probability, 1)) for code, probability in ranked]


@lru_cache(1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
