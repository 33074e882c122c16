"""Codes of languages, and detection among those that are served."""

import pytest

from s2s.text.detection import language_probabilities
from s2s.text.languages import matching_languages

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
