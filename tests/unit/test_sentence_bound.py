"""The bound on the sentences of a text, beside the splitter that it bounds."""

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.text.sentences import most_sentences, split_sentences

LANGUAGES = ["en", "fr", "de", "el", "es", "ru", "zh", "ja", "ar", "hi", "hy", "my", "am", "th"]
MARKS = [
    chr(code)
    for code in range(sys.maxunicode)
    if unicodedata.category(chr(code)).startswith("P") and chr(code).isprintable()
]
PIECES = ["a", "B", "Mr", "1", " ", "\n", "\r", "\r\n", ".", "!", "?", "...", "…", '"', "'", "”",
          "»", "«", ")", "(", "。", "؟", "।", ":", ";", "-", ",",
          "\u2028", "\u2029", "\x85", "\v", "\f", "\u00a0"]  # fmt: skip


def found(text: str, language: str) -> int:
    return sum(bool(sentence.strip()) for sentence in split_sentences(text, language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mark_that_ends_a_sentence_counts(language: str) -> None:
    for mark in MARKS:
        text = f"Aa bb{mark} Cc dd"
        assert found(text, language) <= most_sentences(text, language), hex(ord(mark))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join), st.sampled_from(LANGUAGES))
def test_no_text_has_more_sentences(text: str, language: str) -> None:
    assert found(text.strip(), language) <= most_sentences(text, language)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 1),
        (" \n ", 1),
        ("I am cold.", 1),
        ("  I am cold!? \n", 1),
        ("J'ai froid, très froid : c'est l'hiver", 1),
        ("I am cold. I want to go home. Where are you?", 3),
        ("one\ntwo\r\nthree\n\n\nfour.\nfive", 5),
        ("one\u2028two\u2029three\x85four\vfive\fsix", 6),
        ("寒い。帰りたい。", 2),
        ("a\n" * 5000, 5000),
        (". " * 5000, 5000),
    ],
)
def test_usual_texts_have_as_many(text: str, number: int) -> None:
    assert most_sentences(text, "en") == number
