"""Scores are sacreBLEU's and those computed by hand, and tests tell chance from skill."""

from importlib.util import find_spec
from unicodedata import normalize

import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from s2s.evaluation.scores import (
    Difference,
    Tokenize,
    paired_bootstrap,
    score,
    sentence_scores,
    tokenizer_of,
)

HYPOTHESES = ["the cat sat on the mat", "a dog barks loudly at night .", "it rains again today"]
REFERENCES = [
    ["the cat sat on a mat", "there is a cat on the mat"],
    ["a dog is barking at night .", "a dog barks at night .", "dogs bark at night ."],
    ["today it rains again"],
]
# As sacreBLEU wants them: the first of each, the second of each, ...
FIRST, SECOND, THIRD = (
    [group[rank] if rank < len(group) else None for group in REFERENCES] for rank in range(3)
)


def test_scores_are_those_of_sacrebleu_with_any_number_of_references() -> None:
    scores = score(HYPOTHESES, REFERENCES, "as read")
    assert [s.name for s in scores] == ["BLEU", "chrF2", "TER"]
    for result, metric in zip(scores, (BLEU(force=True), CHRF(), TER()), strict=True):
        expected = metric.corpus_score(HYPOTHESES, [FIRST, SECOND, THIRD]).score
        assert result.score == pytest.approx(expected)
        assert result.references == "as read"
        assert "nrefs:var" in result.signature
        assert "version:" in result.signature
        assert result.low is result.high is None


def test_scores_are_those_computed_by_hand() -> None:
    # Of 6, 5, 4 and 3 runs of one to four words, 5, 3, 2 and 1 are in the reference.
    bleu, _, ter = score(["the cat sat on the mat"], [["the cat sat on a mat"]], "")
    assert bleu.score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert ter.score == pytest.approx(100 / 6)  # one of six words to replace
    # Of runs of one to three letters, 2 of 3, 1 of 2 and 0 of 1 are in the reference.
    assert sentence_scores(["abc"], [["abd"]]) == [pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)]


def test_a_reference_more_can_only_help_a_translation_that_it_equals() -> None:
    alone = {s.name: s.score for s in score(["a b c d e"], [["a b x d e"]], "")}
    more = {s.name: s.score for s in score(["a b c d e"], [["a b x d e", "a b c d e"]], "")}
    assert more["BLEU"] == pytest.approx(100)
    assert more["chrF2"] == pytest.approx(100)
    assert more["TER"] == 0 < alone["TER"]
    assert alone["BLEU"] < 100


def test_tokenised_text_is_not_tokenised_again() -> None:
    translations, references = ["a b c-d e f."], [["a b c-d e f ."]]
    split, alone = (
        score(translations, references, "", measures=["BLEU"], tokenize=how)[0]
        for how in ("13a", "none")
    )
    assert split.score == pytest.approx(100)  # the last point becomes a word of its own
    assert alone.score < 100
    assert "tok:13a" in split.signature
    assert "tok:none" in alone.signature


def test_only_the_given_measures_are_computed() -> None:
    assert [s.name for s in score(HYPOTHESES, REFERENCES, "", measures=["chrF"])] == ["chrF2"]


def test_intervals_hold_the_score_and_are_the_same_each_time() -> None:
    one, two = (score(HYPOTHESES * 20, REFERENCES * 20, "", samples=200) for _ in range(2))
    assert one == two
    for result in one:
        assert result.low is not None
        assert result.high is not None
        assert result.low < result.score < result.high
        assert "bs:200" in result.signature
        assert "seed:12345" in result.signature


def test_intervals_of_sentences_that_are_all_alike_are_points() -> None:
    for result in score(HYPOTHESES[:1] * 10, REFERENCES[:1] * 10, "", samples=50):
        assert result.low == pytest.approx(result.score)
        assert result.high == pytest.approx(result.score)


def test_single_sentences_are_scored_against_their_own_references() -> None:
    expected = [
        CHRF().sentence_score(hypothesis, group).score
        for hypothesis, group in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    assert sentence_scores(HYPOTHESES, REFERENCES) == pytest.approx(expected)
    assert sentence_scores([""], [["a word"]]) == [0]


# ---- two systems --------------------------------------------------------------------------------

GOOD = [f"sentence {n} is about the number {n} ." for n in range(60)]
WANTED = [[sentence] for sentence in GOOD]
BAD = [f"nothing of that {n}" if n % 2 else sentence for n, sentence in enumerate(GOOD)]


def significance(a: list[str], b: list[str]) -> dict[str, Difference]:
    return {row.name: row for row in paired_bootstrap(a, b, WANTED, samples=200)}


@pytest.mark.parametrize("system", [GOOD, BAD])
def test_a_system_never_differs_from_itself(system: list[str]) -> None:
    for row in significance(system, list(system)).values():
        assert row.difference == 0
        assert row.p_value == 1
        assert row.better is None


def test_systems_that_no_measure_tells_apart_do_not_differ() -> None:
    rows = significance(["x"] * 60, ["y"] * 60)
    assert rows["BLEU"].p_value == rows["TER"].p_value == 1


def test_a_much_better_system_is_found_by_every_measure_on_either_side() -> None:
    for name, row in significance(GOOD, BAD).items():
        assert row.better == "a"
        assert row.p_value == pytest.approx(1 / 201)
        assert (row.difference > 0) == (name == "TER")  # where less is better
        assert "bs:200" in row.signature
        assert "seed:12345" in row.signature
    assert {row.better for row in significance(BAD, GOOD).values()} == {"b"}


def test_the_sides_are_alike_and_the_scores_those_of_each_alone() -> None:
    alone = {s.name: s.score for s in score(BAD, WANTED, "")}
    there, back = significance(GOOD, BAD), significance(BAD, GOOD)
    for name in there:
        assert there[name].b == back[name].a == pytest.approx(alone[name])
        assert there[name].difference == -back[name].difference
        assert there[name].p_value == back[name].p_value


def test_one_sentence_of_many_is_chance() -> None:
    slip = ["sentence 0 is about a number 0 .", *GOOD[1:]]
    for row in significance(GOOD, slip).values():
        assert row.difference != 0
        assert row.p_value > 0.05
        assert row.better is None


# ---- languages and forms of text ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        *(("en", "13a"), ("pt-BR", "13a"), ("hi", "13a"), ("x", "13a"), ("zh-Latn", "13a")),
        *(("zh", "zh"), ("zh-Hant-TW", "zh"), ("yue", "zh"), ("cmn", "zh")),
        *(("th", "char"), ("lo", "char"), ("km", "char"), ("my", "char"), ("bo", "char")),
    ],
)
def test_bleu_splits_words_as_the_language_is_written(language: str, tokenizer: str) -> None:
    assert tokenizer_of(language) == tokenizer


@pytest.mark.parametrize(("language", "package"), [("ja", "MeCab"), ("ko", "mecab_ko")])
def test_a_tokenizer_that_is_not_installed_gives_way_to_characters(
    language: str, package: str
) -> None:
    installed = find_spec(package) is not None
    assert tokenizer_of(language) == (f"{language}-mecab" if installed else "char")


@pytest.mark.parametrize(
    ("language", "reference"),
    [
        ("zh", "那只红色的猫看见了那只绿色的狗。"),
        ("ja", "赤い猫が緑の犬を見ました。"),
        ("th", "แมวสีแดงเห็นสุนัขสีเขียว "),
        ("my", "ခွေးနီသည်ကြောင်စိမ်းကိုမြင်သည်။"),
    ],
)
def test_one_other_mark_leaves_a_high_score_without_spaces(language: str, reference: str) -> None:
    how = tokenizer_of(language)
    bleu, chrf2, ter = score([reference[:-1] + "！"], [[reference]], "", tokenize=how)
    assert 80 < bleu.score < 100
    assert 80 < chrf2.score < 100
    assert 0 < ter.score < 20
    assert f"tok:{how}" in bleu.signature
    assert ("asian:yes" in ter.signature) == (how in ("zh", "ja-mecab"))
    assert ("tok:char|" in ter.signature) == ("shifts:no" in ter.signature) == (how == "char")


def test_both_unicode_forms_of_an_accent_are_the_same_text() -> None:
    composed = [f"l'élève n° {n} a été très gêné ." for n in range(5)]
    decomposed = [normalize("NFD", text) for text in composed]
    references = [[text] for text in decomposed]
    bleu, chrf2, ter = score(composed, references, "")
    assert (bleu.score, chrf2.score, ter.score) == (pytest.approx(100), pytest.approx(100), 0)
    assert sentence_scores(composed, references) == pytest.approx([100] * 5)
    for row in paired_bootstrap(composed, decomposed, references, samples=20):
        assert row.a == row.b == pytest.approx(0 if row.name == "TER" else 100)


@pytest.mark.parametrize("tokenize", ["13a", "char", "none", "zh"])
def test_empty_translations_and_references_are_scored(tokenize: Tokenize) -> None:
    for translations, references in [
        (["", ""], [["a b c d"], ["e f g h"]]),
        (["a b c d", "e"], [[""], [""]]),
        (["", ""], [[""], ["", ""]]),
    ]:
        bleu, chrf2, ter = score(translations, references, "", tokenize=tokenize, samples=10)
        assert bleu.score == chrf2.score == 0
        assert ter.score >= 0
        assert sentence_scores(translations, references) == [0, 0]
        for row in paired_bootstrap(translations, translations, references, samples=10):
            assert row.difference == 0


def test_the_edits_of_characters_are_counted_and_the_nearest_reference_is_taken() -> None:
    translations, references = ["กขคงจ", "กข คง"], [["กขคงฉ", "จงคขก"], ["กขคง"]]
    [ter] = score(translations, references, "", measures=["TER"], tokenize="char")
    assert ter.score == pytest.approx(100 * 1 / 9)  # one character of five and four
