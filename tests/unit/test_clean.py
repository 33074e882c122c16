"""The rules of cleaning, each by rows that break it and rows that come near."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.config import CleanConfig
from s2s.corpus.rules import RULES
from s2s.preparation.clean import _CHECKS, Cleaner, script_class
from s2s.preparation.sentence_keys import hash_texts, sentence_key, sentence_keys
from s2s.preparation.stages import _LATE_RULES


def drops(
    *rows: tuple[str, str], languages: tuple[str, str] = ("en", "fr"), **switches: object
) -> list[str]:
    """The rule that each row breaks."""
    table = pa.table(
        {"source": [s for s, _ in rows], "target": [t for _, t in rows], "drop": [""] * len(rows)}
    )
    cleaner = Cleaner(CleanConfig(**switches), languages)  # type: ignore[arg-type]
    broken: list[str] = cleaner.check(table)["drop"].to_pylist()
    return broken


READERS_RULES = ["columns", "malformed", "variant", "fuzzy"]  # which the readers check
FINE = [
    ("Go.", "Va !"),
    ("Hi", "Salut, comment allez-vous ce matin ?"),
    ("I <3 you", "Je t'aime"),
    ("AT&T; R&D", "AT&T ; R et D"),
    ("a < b > c", "a < b > c d"),
    ("π is 3.14", "π vaut 3,14"),
    ("\u200fmarked", "marqué"),
    ("42 + 1", "42 + un"),
    ("OK", "D'accord"),
    ("Of course!", "Bien sûr, l'été\u00a0! Ça y est…"),
    ("MANHÃ", "«\u00a0Â\u00a0» é… à… ï’"),
]
BROKEN = [
    ("", "vide", "empty"),
    ("   ", "vide", "empty"),
    ("caf\ufffd", "café", "encoding"),
    ("Is it summer?", "C'est l'Ã©tÃ© ?", "encoding"),
    ("Itâ€™s summer.", "C'est l'été.", "encoding"),
    ("Summer", "Ð»ÐµÑ‚Ð¾", "encoding"),
    ("bell\x07", "cloche", "control"),
    ("nul", "\x00", "control"),
    ("over\u202eride", "x", "control"),
    ("late \ufeffBOM", "x", "control"),
    ("<b>bold</b>", "gras", "markup"),
    ("x &amp; y", "x et y", "markup"),
    ("x", "&#233;t&#xe9;", "markup"),
    ("Привет, мир", "Bonjour, monde", "script"),
    ("Hello", "Привет", "script"),
    ("OK!", "ok", "identical"),
    ("x" * 1001, "y" * 900, "too_long"),
    ("one", "un " * 40, "length_ratio"),
]


def test_usual_rows_break_no_rule() -> None:
    assert drops(*FINE) == [""] * len(FINE)


@pytest.mark.parametrize(("source", "target", "rule"), BROKEN)
def test_a_broken_rule_is_named(source: str, target: str, rule: str) -> None:
    assert drops((source, target)) == [rule]
    assert rule in RULES


def test_every_rule_is_described_in_the_order_of_the_checks() -> None:
    rules = [*READERS_RULES, *_CHECKS, "no_words", *_LATE_RULES]
    assert list(RULES) == rules
    assert all(RULES.values())


OFF = {
    "encoding": False, "control": False, "markup": False, "script": False, "identical": False,
    "too_long": None, "length_ratio": None,
}  # fmt: skip
FIELDS = {"too_long": "max_characters", "length_ratio": "max_ratio"}


@pytest.mark.parametrize(("source", "target", "rule"), [row for row in BROKEN if row[2] != "empty"])
def test_a_rule_that_is_off_lets_its_rows_pass(source: str, target: str, rule: str) -> None:
    assert rule not in drops((source, target), **{FIELDS.get(rule, rule): OFF[rule]})


def test_a_row_counts_under_the_first_rule_it_breaks() -> None:
    assert drops(("<b>\x00", "\ufffd")) == ["encoding"]


def test_a_script_is_looked_for_in_its_own_language() -> None:
    assert drops(("Привет", "Hello"), languages=("ru", "en")) == [""]
    assert drops(("こんにちは世界", "Hello"), languages=("ja", "en")) == [""]
    assert drops(("Hello", "Hallo"), languages=("ja", "en")) == ["script"]
    assert drops(("ȝarble", "Ж"), languages=("xx", "yy")) == [""]
    assert script_class("pt-BR") == script_class("fr") == r"\p{Latin}"
    assert script_class("xx") is None


def test_line_breaks_within_a_sentence_are_spaces() -> None:
    table = pa.table({"source": [" a\r\n b\t"], "target": ["c"], "drop": [""]})
    assert Cleaner(CleanConfig(), ("en", "fr")).check(table)["source"].to_pylist() == ["a  b"]


def test_a_key_is_blind_to_case_marks_and_forms_of_a_letter() -> None:
    for spellings in (["Straße!", "« STRASSE »"], ["l'été", "L’E\u0301TE\u0301"], ["ﬁve", "Five."]):
        assert len({sentence_key(spelling) for spelling in spellings}) == 1


@given(st.lists(st.text(max_size=12), max_size=20))
def test_many_keys_are_those_of_each(sentences: list[str]) -> None:
    assert sentence_keys(pa.array(sentences, pa.string())).to_pylist() == [
        sentence_key(s) for s in sentences
    ]


def test_keys_of_every_letter_and_mark_are_those_of_each() -> None:
    codes = [n for n in range(0x11000) if not 0xD800 <= n < 0xE000]
    sentences = [f"a{chr(n)}B" for n in codes] + [f"{chr(n)}\u0301" for n in codes]
    assert sentence_keys(pa.array(sentences)).to_pylist() == [sentence_key(s) for s in sentences]


def test_hashes_depend_on_text_and_seed_alone() -> None:
    texts = pa.array(["a", "b", "a", ""])
    first, other = hash_texts(texts, 0), hash_texts(texts, 1)
    assert first[0] == first[2]
    assert len({*first.tolist(), *other.tolist()}) == 6
