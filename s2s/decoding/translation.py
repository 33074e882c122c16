"""What a translator gives for a sentence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Translation:
    """A translation of a sentence, and how sure the model is of it."""

    text: str
    score: float  # the sum of the scores over the length penalty: the best has the highest
    words: list[str]  # as the model said them, `<eos>` at the end if it was said
    word_scores: list[float]  # nats, the log-probability of each
    source_words: list[str]  # as they were written
    attention: list[list[float]] | None  # of each word, a weight for each source word
