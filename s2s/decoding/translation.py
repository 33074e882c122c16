"""A translation with all that is known of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Translation:
    """A translation of a sentence, and how sure the model is of it."""

    text: str
    score: float  # the sum of word_scores over the length penalty: the best has the highest
    words: list[str]  # the model's tokens, `<eos>` at the end if the translation ended in it
    word_scores: list[float]  # nats, the log-probability of each token
    source_words: list[str]  # as they were written
    attention: list[list[float]] | None  # of each token, a weight for each source word
