"""Long texts as sentences, which is what a model was trained on, and back."""

import re
from dataclasses import dataclass

import sentencex

_LINES = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Piece:
    """A sentence of a text."""

    text: str  # with the space around it
    ids: list[int]  # its tokens

    @property
    def sentence(self) -> str:
        """It alone."""
        return self.text.strip()

    def put_back(self, translation: str) -> str:
        """A translation of it, with the space around."""
        begin = self.text.find(self.sentence)
        return self.text[:begin] + translation + self.text[begin + len(self.sentence) :]


@dataclass(frozen=True)
class Translation:
    """A translation of a sentence, and how sure the model is of it."""

    text: str
    score: float  # the sum of the scores over the length penalty: the best has the highest
    words: list[str]  # as the model said them, `<eos>` at the end if it was said
    word_scores: list[float]  # nats, the log-probability of each
    source_words: list[str]  # as they were written
    attention: list[list[float]] | None  # of each word, a weight for each source word


def pieces(text: str, language: str) -> list[str]:
    """The sentences of a text, each with the space around it: joined, they are the text.

    Lines are cut into sentences by sentencex (Wikimedia), which knows the abbreviations of many
    languages, and takes a language that it does not know for English.
    """
    cut: list[str] = []
    for line in _LINES.split(text):
        cut += _sentences(line, language.split("-")[0]) if line.strip() else [line] * bool(line)
    return cut


def _sentences(line: str, language: str) -> list[str]:
    # The library fails where a space of several bytes stands before a mark: it is shown plain ones.
    plain = re.sub(r"\s", " ", line)
    try:
        lengths = [len(sentence) for sentence in sentencex.segment(language, plain)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in its Rust code is no Exception; a whole line is no loss
        return [line]
    cut, begin = [], 0
    for length in lengths:
        cut.append(line[begin : begin + length])
        begin += length
    return [*cut, line[begin:]] if begin < len(line) else cut
