"""Long sentences in parts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.text.sentences import Sentence, cut_to_length


def words(texts: list[str]) -> list[int]:
    """Count words, as a normaliser does that takes each mark for one, and each CJK character."""
    return [
        len("".join(f" {c} " if c in ",;:." or ord(c) > 0x3000 else c for c in text).split())
        for text in texts
    ]


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("one two, three four, five six", 6, ["one two, three four, ", "five six"]),
        ("one two, three four, five six", 5, ["one two, ", "three four, five six"]),
        ("one; two:  three", 4, ["one; two:  ", "three"]),
        ("a b c d e f g h i j", 4, ["a b c d ", "e f g ", "h i j"]),
        ("Yes, a b c d e f", 4, ["Yes, ", "a b c ", "d e f"]),
        ("at 10:30 or 1,000 more or less", 6, ["at 10:30 or ", "1,000 more or less"]),
        ("我们，他们。", 4, ["我们，", "他们。"]),
        ("我们看见他们", 4, ["我们看", "见他们"]),
        ("see 我们看见他们 now", 4, ["see 我们看", "见他们 now"]),
        ("see https://a.example/?x,y,z now", 3, ["see ", "https://a.example/?x,y,z ", "now"]),
        ("one two", 1, ["one ", "two"]),
    ],
)
def test_a_long_sentence_is_cut_at_its_marks_or_by_length(
    text: str, limit: int, parts: list[str]
) -> None:
    assert words([text])[0] > limit
    assert cut_to_length(text, limit, words) == parts


@given(
    text=st.text(st.sampled_from("ab ,;:.\u00a0\u3000\u200d\u0301é我们，、\t"), min_size=1),
    limit=st.integers(1, 5),
)
@settings(max_examples=150)
def test_the_parts_of_any_sentence_are_the_sentence(text: str, limit: int) -> None:
    parts = cut_to_length(text, limit, words)
    assert "".join(parts) == text
    assert all(parts)
    for part in parts:
        assert Sentence(part, []).with_whitespace(part.strip()) == part
        whole = [word for word in part.split() if word.isascii() or {*"\u0301\u200d"} & {*word}]
        assert words([part])[0] <= limit or max(words(whole)) > limit


def test_no_character_is_cut_from_its_marks() -> None:
    family = "👩\u200d👧"
    parts = cut_to_length(f"e\u0301{family}" * 6, 4, lambda texts: [len(text) for text in texts])
    assert "".join(parts) == f"e\u0301{family}" * 6
    assert {part[0] for part in parts} <= {"e", "👩"}
    assert {part[-1] for part in parts} <= {"\u0301", "👧"}
    assert max(map(len, parts)) <= 5


def test_words_are_cut_evenly() -> None:
    parts = cut_to_length("word " * 151, 50, words)
    assert [len(part.split()) for part in parts] == [38, 38, 38, 37]
    parts = cut_to_length("我" * 151, 50, words)
    assert {len(part) for part in parts} <= {37, 38}
