"""Long texts as sentences, which is what a model was trained on, and back."""

import re
from dataclasses import dataclass

import sentencex

_LINES = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text."""

    text: str  # with the space around it
    ids: list[int]  # its tokens

    @property
    def stripped(self) -> str:
        """The sentence without the space around it."""
        return self.text.strip()

    def with_whitespace(self, translation: str) -> str:
        """A translation of it, with the space around."""
        begin = self.text.find(self.stripped)
        return self.text[:begin] + translation + self.text[begin + len(self.stripped) :]


def split_sentences(text: str, language: str) -> list[str]:
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
