"""Splitting of texts into sentences, the unit that a model was trained on."""

import re
from dataclasses import dataclass

import sentencex

from s2s.text.alignment import Alignment, Link

_LINES = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text."""

    text: str  # with the white space around it
    ids: list[int]  # of its tokens; none if it stays as it is

    @property
    def stripped(self) -> str:
        """The sentence without the white space around it."""
        return self.text.strip()

    def with_whitespace(self, translation: str) -> str:
        """Return a translation with the white space that surrounds the sentence."""
        begin, stripped = self.begin, self.stripped
        return self.text[:begin] + translation + self.text[begin + len(stripped) :]

    @property
    def begin(self) -> int:
        """Characters of white space before the sentence."""
        return len(self.text) - len(self.text.lstrip())


def align(
    sentences: list[Sentence], translations: list[str], links: list[list[Link]]
) -> list[Alignment]:
    """Return the alignment of each sentence of a text.

    Args:
        translations: of each sentence, with the white space around it.
        links: of each sentence; none if it stays as it is.
    """
    alignments, source, target = [], 0, 0
    for sentence, translation, own in zip(sentences, translations, links, strict=True):
        begin = sentence.begin
        length = len(translation) - len(sentence.text) + len(sentence.stripped)
        alignments.append(Alignment(source + begin, target + begin, length, own))
        source, target = source + len(sentence.text), target + len(translation)
    return alignments


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text, each with the white space around it.

    Joined, they are the text. Lines are split by sentencex (Wikimedia), which knows the
    abbreviations of many languages and treats one that it does not know as English.
    """
    sentences: list[str] = []
    for line in _LINES.split(text):
        if line.strip():
            sentences += _split_line(line, language.split("-")[0])
        elif line:
            sentences.append(line)
    return sentences


def _split_line(line: str, language: str) -> list[str]:
    # sentencex fails if a white-space character of several bytes precedes a punctuation mark, so it
    # gets plain spaces.
    plain = re.sub(r"\s", " ", line)
    try:
        lengths = [len(sentence) for sentence in sentencex.segment(language, plain)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in Rust is not an Exception; a whole line does no harm
        return [line]
    sentences, begin, end = [], 0, 0
    for length in lengths:
        end += length
        # A URL such as "a.example/?Q" is one word; marks of other scripts need no space.
        if plain[end - 1].isspace() or not plain[end - 1].isascii():
            sentences.append(line[begin:end])
            begin = end
    return [*sentences, line[begin:]] if begin < len(line) else sentences
