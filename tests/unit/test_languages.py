"""Codes of languages, and detection among those that are served."""

import re

import pytest

from s2s.errors import BadInput
from s2s.text.detection import language_probabilities
from s2s.text.language_pairs import language_pair
from s2s.text.languages import (
    canonical_code,
    find_code,
    is_spaceless,
    matching_languages,
    scripts,
)
from s2s.text.sentences import most_sentences, split_sentences
from s2s.text.translatable import Translatable

# ---- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "served", "meant"),
    [
        ("en", "en fr", "en"),
        ("EN", "en fr", "en"),
        ("en-US", "en fr", "en"),
        ("en_GB", "en fr", "en"),
        ("EN_us", "en en-US", "en-US"),
        ("en", "en-US en", "en"),
        ("eng", "en fr", "en"),
        ("fr-CA", "fr en", "fr"),
        ("pb", "pt pt-BR", "pt-BR"),
        ("pb", "pt", "pt"),
        ("pt_br", "pt-PT pb", "pb"),
        ("pt", "pt-BR", "pt-BR"),
        ("pt-PT", "pt pt-BR", "pt"),
        ("zh", "zh-Hans zh-Hant", "zh-Hans"),
        ("zh", "zh zt", "zh"),
        ("zh-Hans", "zh zt", "zh"),
        ("zh_CN", "zh-Hant zh-Hans", "zh-Hans"),
        ("zt", "zh zh-Hant", "zh-Hant"),
        ("zh-TW", "zh zt", "zt"),
        ("zh-hant-hk", "zh-Hans zh-Hant", "zh-Hant"),
        ("iw", "he", "he"),
        ("x", "x y", "x"),
        ("odd_code", "odd-code", "odd-code"),
    ],
)
def test_a_code_means_the_closest_language_that_is_served(
    code: str, served: str, meant: str
) -> None:
    for order in (served.split(), served.split()[::-1]):
        assert matching_languages(code, tuple(order))[0] == meant


@pytest.mark.parametrize(
    ("code", "served"),
    [
        ("de", "en fr"),
        ("en-GB", "en-US"),
        ("zt", "zh-Hans"),
        ("zh", "zt"),
        ("", "en"),
        ("-", "en"),
        ("_", "en"),
        ("e", "en"),
        ("english", "en"),
        ("auto", "en"),
    ],
)
def test_a_code_of_no_served_language_means_none(code: str, served: str) -> None:
    assert matching_languages(code, tuple(served.split())) == ()


@pytest.mark.parametrize(
    ("written", "code"),
    [
        *(("en", "en"), ("EN", "en"), (" fr ", "fr"), ("eng", "en"), ("srp", "sr"), ("deu", "de")),
        *(("ger", "de"), ("pt_br", "pt-BR"), ("PT-BR", "pt-BR"), ("por-br", "pt-BR")),
        *(("pb", "pt-BR"), ("zt", "zh-Hant"), ("zh-hans", "zh-Hans"), ("zho_Hant", "zh-Hant")),
        *(("cmn-Hans-CN", "zh-Hans-CN"), ("sr_latn", "sr-Latn"), ("sr_RS@latin", "sr-Latn-RS")),
        *(("sh", "sr-Latn"), ("en_US.UTF-8", "en-US"), ("en_UK", "en-GB"), ("iw", "he")),
        *(("eng_Latn", "en"), ("fra_Latn", "fr"), ("srp_Cyrl", "sr-Cyrl"), ("jpn_Jpan", "ja")),
        *(("ca-valencia", "ca-valencia"), ("es-419", "es-419"), ("tlh", "tlh")),
        *(("x", "x"), ("odd code", "odd code"), ("", ""), ("english", "english")),
    ],
)
def test_a_code_has_one_canonical_form(written: str, code: str) -> None:
    assert canonical_code(written) == code
    assert canonical_code(code) == code


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        *(("en-fr", "en fr"), ("EN-PT", "en pt"), ("eng-srp", "en sr"), ("en_fr", "en fr")),
        *(("en-pt-BR", "en pt-BR"), ("en-pt_BR", "en pt-BR"), ("en-pt-br", "en pt-BR")),
        *(
            ("pt-BR-en", "pt-BR en"),
            ("zh-Hans-en", "zh-Hans en"),
            ("en-zh-Hant-TW", "en zh-Hant-TW"),
        ),
        *(("en:pt-BR", "en pt-BR"), ("en,pt-BR", "en pt-BR"), ("pt_BR : en", "pt-BR en")),
        *(("en-sr_Latn", "en sr-Latn"), ("sr-Latn-en", "sr-Latn en"), ("en-fr-CA", "en fr-CA")),
        *(("en_US-pt_BR", "en-US pt-BR"), ("en-US-pt-BR", "en-US pt-BR"), ("en-de-AT", "en de-AT")),
        *(("fr-CA-en", "fr-CA en"), ("en-GB-cy", "en-GB cy"), ("eng_Latn-hin_Deva", "en hi")),
        *(
            ("en-us-fr", "en-US fr"),
            ("es-419-en", "es-419 en"),
            ("en>fr", None),
            ("xx-yy", "xx yy"),
        ),
        *(("fr-ca-es", None), ("fr-CA:es", "fr-CA es"), ("en-uk", "en uk"), ("en->fr", "en fr")),
        *(("en-jp", None), ("en-en", None), ("en-eng", None), ("pt-BR", None), ("english", None)),
        *(("", None), ("-", None), ("en-", None), ("en", None), ("en-fr-de", None), ("a-b", None)),
        *(("english-french", None), ("en:fr:de", None)),
    ],
)
def test_two_codes_are_told_apart_or_refused(text: str, pair: str | None) -> None:
    if pair is None:
        with pytest.raises(BadInput, match=f"--languages {re.escape(text)}"):
            language_pair(text)
    else:
        assert " ".join(language_pair(text)) == pair


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("en-jp", "Japanese is ja"),
        ("fr-ca-es", "fr:ca-es or fr-ca:es"),
        ("pt-BR", "pt-BR is the code of one language"),
        ("english-french", "such as en-fr or en:pt-BR; write en:fr"),
        ("en-en", "the same language"),
    ],
)
def test_a_refusal_says_how_to_write_the_codes(text: str, remedy: str) -> None:
    with pytest.raises(BadInput, match=remedy):
        language_pair(text)


@pytest.mark.parametrize(
    ("language", "names", "found"),
    [
        ("en", "fr EN", "EN"),
        ("en", "fr_FR en_GB", "en_GB"),
        ("en", "en-GB en-US", "en-US"),
        ("pt-BR", "pt_br pt", "pt_br"),
        ("pt-BR", "pt-PT pt", "pt"),
        ("pt-BR", "pt-PT", None),
        ("sr-Latn", "sr-Cyrl sr-Latn-RS", "sr-Latn-RS"),
        ("sr-Latn", "sr-Cyrl", None),
        ("de", "ger eng", "ger"),
        ("en", "english source en_score", None),
    ],
)
def test_the_name_of_a_language_is_found(language: str, names: str, found: str | None) -> None:
    assert find_code(language, tuple(names.split())) == found


@pytest.mark.parametrize(
    ("code", "written_in"),
    [
        ("en", ["Latn"]),
        ("sr", ["Cyrl", "Latn"]),
        ("sr-Latn", ["Latn"]),
        ("sr_latn", ["Latn"]),
        ("zh-TW", ["Hant", "Hans"]),
        ("ja", ["Jpan"]),
        ("hi", ["Deva"]),
        ("x", []),
    ],
)
def test_the_scripts_of_a_code(code: str, written_in: list[str]) -> None:
    assert list(scripts(code)) == written_in


def test_languages_without_spaces() -> None:
    assert all(map(is_spaceless, ["zh", "zh-Hant", "yue", "ja", "th", "lo", "km", "my", "bo"]))
    assert not any(map(is_spaceless, ["en", "ko", "vi", "hi", "zh-Latn", "x"]))


def test_a_regional_code_has_the_sentences_of_its_language() -> None:
    text = "O Sr. Silva chegou. Ele saiu."
    assert len(split_sentences(text, "pt")) == 2
    for code in ("pt-BR", "pt_BR", "PT", "por"):
        assert split_sentences(text, code) == split_sentences(text, "pt")
    assert most_sentences("Τι; Ναι.", "ell") == most_sentences("Τι; Ναι.", "el") == 2


def test_a_language_of_two_scripts_has_words_in_both() -> None:
    for code, word in [("sr", "kuća"), ("sr", "кућа"), ("sr-Latn", "kuća"), ("x", "word")]:
        assert Translatable(code, ["<unk>", word], 1)(word, [1])
    assert not Translatable("sr-Latn", ["<unk>", "кућа"], 1)("кућа", [1])


# ---- detection -----------------------------------------------------------------------------------

TEXTS = {
    "en": ["I am cold.", "The pig.", "Hello", "Where are you?", "I want to go home.", "Thank you!"],
    "fr": ["J'ai froid.", "Le cochon.", "Bonjour", "Où es-tu ?", "Oui", "Je veux rentrer."],
}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_short_texts_are_detected(language: str) -> None:
    for text in TEXTS[language]:
        shares = language_probabilities(text, ["fr", "en"])
        assert max(shares, key=shares.__getitem__) == language, (text, shares)


@pytest.mark.parametrize(
    "text",
    [
        *("OK", "12:30", "", " \n", "🙂", "https://en.wikipedia.org/wiki/English_language"),
        *("<p class='the english words'></p>", "ann@the.english.example"),
        "Guten Tag, wie geht es Ihnen heute?",
        "Привет, как дела у тебя сегодня?",
        "今日は天気がいいですね。",
    ],
)
def test_a_text_that_could_be_in_either_is_a_guess(text: str) -> None:
    shares = language_probabilities(text, ["en", "fr"])
    assert all(0.35 < share < 0.65 for share in shares.values()), shares


def test_more_text_is_surer() -> None:
    texts = ["Bonjour", "Bonjour tout le monde", "Bonjour tout le monde, comment allez-vous ?"]
    shares = [language_probabilities(text, ["en", "fr", "es", "it"])["fr"] for text in texts]
    assert shares == sorted(shares)
    assert shares[0] < 0.95
    assert shares[-1] > 0.99


@pytest.mark.parametrize("text", ["Bonjour", "OK", "", "Das ist ein Satz.", "Isto é uma frase."])
@pytest.mark.parametrize("served", [["en"], ["en", "fr"], ["pt", "pt-BR", "pb", "de"], ["x", "y"]])
def test_the_probabilities_are_one_together_and_none_is_negative(
    text: str, served: list[str]
) -> None:
    shares = language_probabilities(text, served)
    assert set(shares) == set(served)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert min(shares.values()) >= 0
    assert max(shares.values()) > 0.1


def test_spellings_of_one_language_share_its_probability() -> None:
    shares = language_probabilities("Esta é uma frase em português.", ["pt", "pt-BR", "en"])
    assert shares["pt"] == shares["pt-BR"] > 0.45
