"""The weight of a request: how much of a model's work it is, in sentences.

A sentence that is translated with the model's own settings weighs 1, and a text weighs 1 more for
every 200 characters. Where a request searches more widely, all of it weighs as many times as much
as the product of its beam and its hypotheses is to the model's own beam. The queue of a model, the
largest request that is ever taken, and the rates of API keys are all measured by it.
"""

from s2s.config import DecodeConfig
from s2s.text.sentences import most_sentences

_CHARACTERS = 200  # that weigh as much as a sentence


def weight(texts: list[str], language: str) -> int:
    """Return the weight of texts in a language, translated with the model's own settings."""
    total = 0  # in a loop: most requests have one text, for which a generator costs more than this
    for text in texts:
        total += most_sentences(text, language) + len(text) // _CHARACTERS
    return total


def search_width(settings: DecodeConfig, own: DecodeConfig) -> int:
    """Return how many times as much texts weigh with some settings as with the model's own."""
    # Rounded up. Of the model's own hypotheses only the best one is served.
    return max(1, -(-settings.beam * settings.n_best // own.beam))
