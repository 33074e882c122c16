"""Splitting of texts into sentences, the unit that a model was trained on."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import sentencex

from s2s.text.alignment import Alignment, Link
from s2s.text.languages import base_language

# Characters that end a line, or a paragraph, in any text: those of `str.splitlines`.
_LINE_ENDS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_LINES = re.compile(rf"(?<=[{_LINE_ENDS}])(?<!\r(?=\n))")
_ANY_LINE_END = re.compile(rf"[{_LINE_ENDS}]")

# The marks after which sentencex ends a sentence in any language, as a part of a character class,
# and those after which it does so in some languages alone.
_MARKS = (
    r".!?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b"
    r"\u1362\u1367\u1368\u166e\u1735\u1736\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5e"
    r"\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u2024\u203c\u203d\u2047-\u2049\u2e2e\u2e3c\u2e53"
    r"\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9"
    r"\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57"
    r"\U00010f55-\U00010f59\U00010f86-\U00010f89\U00011047\U00011048\U000110be-\U000110c1"
    r"\U00011141-\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239"
    r"\U0001123b\U0001123c\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9-\U000115d7"
    r"\U00011641\U00011642\U0001173c-\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b"
    r"\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f"
    r"\U00016af5\U00016b37\U00016b38\U00016b44\U00016e98\U0001bc9f\U0001da88"
)
_OWN_MARKS = {"el": ";", "hy": ":;\u055c", "my": "\u104f"}

# Where a long sentence is cut: after marks within it, those of other scripts also without a space
# ("1,000" and "10:30" stay whole); else after spaces.
_CLAUSE_ENDS = re.compile(
    r"[,;:]\s+|[\u055d\u060c\u061b\u1363-\u1366\u1802\u3001\ufe10\ufe11\ufe13\ufe14\ufe50\ufe51"
    r"\ufe54\ufe55\uff0c\uff1a\uff1b\uff64]+\s*"
)
_SPACES = re.compile(r"\s+")


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
    base = base_language(language)
    for line in _LINES.split(text):
        if line.strip():
            sentences += _split_line(line, base)
        elif line:
            sentences.append(line)
    return sentences


def is_in_capitals(sentence: str) -> bool:
    """Return whether a sentence is written in capitals, at least two of them."""
    return sentence.isupper() and sum(map(str.isupper, sentence)) > 1


def cut_to_length(
    sentence: str, limit: int, count_tokens: Callable[[list[str]], list[int]]
) -> list[str]:
    """Return a long sentence in parts, each with the white space around it.

    Joined, they are the sentence. Each ends after the last comma, semicolon or colon within the
    limit; where there is none, the words up to the next one are cut into parts of about the same
    length. Words of scripts without spaces are cut between characters; a longer word of ASCII, such
    as a URL, stays whole.

    Args:
        limit: greatest number of tokens of a part.
        count_tokens: gives the number of tokens of each of some texts.
    """
    clauses = _cut_after(_CLAUSE_ENDS, sentence)
    parts: list[list[str]] = []
    room = 0  # tokens that the last part has room for
    for clause, tokens in zip(clauses, count_tokens(clauses), strict=True):
        if tokens > limit:
            parts += _cut_words(clause, limit, count_tokens)
            room = 0
        elif parts and tokens <= room:
            parts[-1].append(clause)
            room -= tokens
        else:
            parts.append([clause])
            room = limit - tokens
    return ["".join(part) for part in parts]


def _cut_after(mark: re.Pattern[str], text: str) -> list[str]:
    """Return a text in pieces, each of which ends in a mark."""
    ends = [match.end() for match in mark.finditer(text) if match.end() < len(text)]
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _cut_words(
    clause: str, limit: int, count_tokens: Callable[[list[str]], list[int]]
) -> list[list[str]]:
    """Return the words of a clause in parts of about the same number of tokens."""
    words = _cut_after(_SPACES, clause)
    distinct = list(dict.fromkeys(words))
    tokens_of = dict(zip(distinct, count_tokens(distinct), strict=True))
    units: list[tuple[str, int]] = []
    for word in words:
        tokens = tokens_of[word]
        if tokens > limit and not word.isascii():
            pieces = _cut_characters(word, tokens, limit, count_tokens)
            units += zip(pieces, count_tokens(pieces), strict=True)
        else:
            units.append((word, tokens))
    total = sum(tokens for _, tokens in units)
    share = total / max(1, ceil(total / limit))  # tokens of each part, if words could be cut
    parts: list[list[str]] = []
    size = done = 0  # tokens of the last part, and of all
    for unit, tokens in units:
        if parts and size + tokens <= limit and done < share * len(parts):
            parts[-1].append(unit)
            size += tokens
        else:
            parts.append([unit])
            size = tokens
        done += tokens
    return parts


def _cut_characters(
    word: str, tokens: int, limit: int, count_tokens: Callable[[list[str]], list[int]]
) -> list[str]:
    """Return a word in parts of about the same number of characters, with their marks."""
    ends = [
        place
        for place in range(1, len(word))
        if not (
            unicodedata.category(word[place])[0] in "MZ" or "\u200d" in word[place - 1 : place + 1]
        )
    ]
    number = ceil(tokens / limit)
    while ends:
        chosen = sorted({ends[len(ends) * part // number] for part in range(1, number)})
        pieces = [word[a:b] for a, b in zip([0, *chosen], [*chosen, len(word)], strict=True)]
        if number > len(ends) or max(count_tokens(pieces)) <= limit:
            return pieces
        number += 1 + number // 4
    return [word]


def has_lines(text: str) -> bool:
    """Return whether a text has several lines."""
    return _ANY_LINE_END.search(text) is not None


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


def most_sentences(text: str, language: str) -> int:
    """Return a number that the sentences of a text do not exceed, at least 1.

    It is found without splitting the text: each run of marks that end sentences counts, and each
    line, so that abbreviations and quotations may count more than once.
    """
    pieces = _ends(language).split(text.strip())
    return max(1, len(pieces) - (not pieces[-1]))


@lru_cache
def _ends(language: str) -> re.Pattern[str]:
    """Return what finds all places where sentences of a language may end."""
    own = _OWN_MARKS.get(base_language(language))
    return re.compile(rf"[{_MARKS}]+\s*|[{_LINE_ENDS}]\s*" + (rf"|[{own}]\s*" if own else ""))
