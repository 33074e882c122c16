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


def test_serbian_may_be_in_either_script_unless_the_code_names_one() -> None:
    rows = [("house", "кућа"), ("house", "kuća")]
    for code, broken in {
        "sr": ["", ""],
        "srp": ["", ""],
        "sr-Latn": ["script", ""],
        "sr_Cyrl_RS": ["", "script"],
        "hr": ["script", ""],
    }.items():
        assert drops(*rows, languages=("en", code)) == broken, code
    assert drops(("namaste", "नमस्ते"), ("hello", "hello!"), languages=("hi-Latn", "hi")) == [
        "",
        "script",
    ]


def test_a_chinese_or_korean_character_is_as_long_as_three_letters() -> None:
    english = "The recommendations of the sector on interference remain in force everywhere. " * 2
    assert drops(
        (english, "国际电联建议书仍在全境暂时适用并有约束力。"), languages=("en", "zh")
    ) == [""]
    assert drops((english, "勧告は引き続き全域で適用されます。"), languages=("en", "ja")) == [""]
    assert drops((english, "권고는 계속 적용된다."), languages=("en", "ko")) == [""]
    assert drops((english, "国际电联。"), languages=("en", "zh")) == ["length_ratio"]
    assert drops(
        ("Yes.", "国际电联建议书仍在全境暂时适用并有约束力。"), languages=("en", "zh")
    ) == ["length_ratio"]
    assert drops(("Go.", "go " * 40), languages=("en", "th"), script=False) == ["length_ratio"]


def test_line_breaks_within_a_sentence_are_spaces() -> None:
    table = pa.table({"source": [" a\r\n b\t"], "target": ["c"], "drop": [""]})
    assert Cleaner(CleanConfig(), ("en", "fr")).check(table)["source"].to_pylist() == ["a  b"]


def test_a_key_is_blind_to_case_marks_and_forms_of_a_letter() -> None:
    for spellings in (["Straße!", "« STRASSE »"], ["l'été", "L’E\u0301TE\u0301"], ["ﬁve", "Five."]):
        assert len({sentence_key(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("वह जाता है।", "वह जाती है।"),
        ("কি", "কে"),
        ("ผู้", "ผี"),
        ("ẹ̀", "ẹ"),
        ("כָּתַב", "כֻּתַּב"),
        ("كَتَبَ", "كُتِبَ"),
    ],
)
def test_another_combining_mark_is_another_sentence(one: str, other: str) -> None:
    assert sentence_key(one) != sentence_key(other)
    assert " " not in sentence_key(one.replace(" ", ""))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("वह जाता है।", "«वह जाता है»"),
        ("क्‍ष", "क्ष"),  # a joiner after the virama changes its look alone
        ("İstanbul", "istanbul"),
        ("1️⃣", "1"),
        ("I ❤️ it", "I ❤ it"),
        ("e\u0301te\u0301", "été"),
        ("می‌خواهم", "می خواهم"),
    ],
)
def test_what_only_changes_the_look_is_the_same_sentence(one: str, other: str) -> None:
    assert sentence_key(one) == sentence_key(other)


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
