"""Sources as keyboards, editors and browsers write them, and what becomes of unknown words."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from s2s.config import Config, DecodeConfig, ModelConfig, TextConfig
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.text.normalise import WordSplitter
from s2s.text.vocabulary import SPECIALS, UNK, Vocabulary

SIMPLIFIED = TextConfig(source_normaliser="simplified")
PLAIN = "I'm \"here\" - don't you see the well-known 3.5 cats..."
WORDS = [
    "i", "'m", '"', "here", '"', "-", "don", "'t", "you", "see", "the", "well", "-", "known",
    "3", ".", "5", "cats", "…",
]  # fmt: skip

VARIANTS = {
    "doubled spaces": PLAIN.replace(" ", "  "),
    "no-break spaces": PLAIN.replace(" ", "\u00a0"),
    "narrow no-break spaces": PLAIN.replace(" ", "\u202f"),
    "ideographic spaces": PLAIN.replace(" ", "\u3000"),
    "tabs": PLAIN.replace(" ", "\t"),
    "line ends": PLAIN.replace(" ", "\r\n"),
    "white space around it": f" \u00a0{PLAIN}\n ",
    "curly apostrophes": PLAIN.replace("'", "\u2019"),
    "backticks": PLAIN.replace("'", "`"),
    "acute accents": PLAIN.replace("'", "\u00b4"),
    "primes": PLAIN.replace("'", "\u2032"),
    "curly quotation marks": PLAIN.replace(' "', " \u201c").replace('"', "\u201d"),
    "German quotation marks": PLAIN.replace(' "', " \u201e").replace('"', "\u201c"),
    "guillemets": PLAIN.replace(' "', " \u00ab\u00a0").replace('"', "\u00a0\u00bb"),
    "TeX's quotation marks": PLAIN.replace(' "', " ``").replace('"', "''"),
    "an en dash": PLAIN.replace(" - ", " \u2013 "),
    "an em dash": PLAIN.replace(" - ", "\u2014"),
    "two hyphens": PLAIN.replace(" - ", " -- "),
    "a minus": PLAIN.replace(" - ", " \u2212 "),
    "no-break hyphens": PLAIN.replace("-", "\u2011"),
    "an ellipsis": PLAIN.replace("...", "\u2026"),
    "two dots": PLAIN.replace("...", ".."),
    "full width": PLAIN.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
    "a byte order mark": f"\ufeff{PLAIN}",
    "direction marks": f"\u200e\u202a{PLAIN}\u202c\u200f",
    "soft hyphens": PLAIN.replace("known", "kn\u00adown"),
    "zero-width spaces": PLAIN.replace("known", "kn\u200bown"),
    "word joiners": PLAIN.replace("known", "kn\u2060own"),
    "capitals": PLAIN.upper(),
    "title case": PLAIN.title().replace("'M", "'m").replace("'T", "'t"),
    "private use": PLAIN.replace("here", "he\ue000re\ue001"),
    "a control character": PLAIN.replace(" - ", " \x07- "),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_source_is_the_same_however_it_is_written(variant: str) -> None:
    assert WordSplitter(SIMPLIFIED, "source").split(VARIANTS[variant]) == WORDS


@pytest.mark.parametrize("text", ["é", "Éléphant", "ﬁn", "한국어", "が", "ỗi"])
def test_canonical_and_compatible_forms_are_one(text: str) -> None:
    splitter = WordSplitter(SIMPLIFIED, "source")
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len({tuple(splitter.split(form)) for form in forms}) == 1


def test_targets_are_kept_as_they_are() -> None:
    sentence = "L’été\u00a0: «\u202fOUI\u202f»…  a"
    vocabulary = Vocabulary.learn([sentence], SIMPLIFIED, "target")
    assert vocabulary.decode(vocabulary.encode([sentence])[0]) == sentence


@given(st.lists(st.sampled_from([*PLAIN, *"\u00a0\u200b\u0301’—…Ａé"]), max_size=30).map("".join))
@example("a  b")
@example("'' ''")
@example("a\u0301 \u0301b")
def test_many_sources_split_as_each_alone(sentence: str) -> None:
    splitter = WordSplitter(SIMPLIFIED, "source")
    words = splitter.split_many(pa.array([sentence, PLAIN, sentence], pa.string()))
    for row in (0, 2):
        numbers = words.indices.select(np.array([row])).values
        assert [words.distinct[n] for n in numbers] == splitter.split(sentence)


@pytest.mark.parametrize("units", [{}, {"units": "bpe", "vocabulary_size": 40}])
def test_words_are_told_as_they_were_written(units: dict[str, object]) -> None:
    text = SIMPLIFIED.model_copy(update=units)
    vocabulary = Vocabulary.learn(["the cat's here"] * 5, text, "source")
    sentence = "\ufeffTHE\u00a0 Cat’s ‘Zbig\u00adniew’ ﬁn"
    [ids] = vocabulary.encode([sentence])
    tokens = vocabulary.written_tokens(sentence)
    assert [token.id for token in tokens] == ids
    written = list(dict.fromkeys(token.word for token in tokens))
    assert written == ["THE", "Cat", "’s", "‘", "Zbig\u00adniew", "’", "ﬁn"]
    place = 0
    for token in tokens:
        if token.id != UNK:
            place = sentence.index(token.text, place)  # two letters may be written as one


def test_both_sides_can_share_a_vocabulary_of_subwords() -> None:
    text = TextConfig.model_validate(
        {**SIMPLIFIED.model_dump(), "units": "bpe", "vocabulary_size": 60, "shared": True}
    )
    target = Vocabulary.learn(["l'été", "Été the summer"] * 5, text)
    source = target.of_side(text, "source")
    assert source.tokens == target.tokens
    assert source.encode(["THE  summer"]) == target.encode(["the summer"])


# ---- marks that join, and characters that extend ------------------------------------------------


@given(st.data())
def test_no_private_use_character_of_ours_is_ever_said(data: st.DataObject) -> None:
    sentences = ["l'été, (oui) « non » ! 3.5", 'a  "b". Qu\'est-ce…', " x"]
    vocabulary = Vocabulary.learn(sentences, TextConfig())
    ids = data.draw(st.lists(st.integers(len(SPECIALS), len(vocabulary) - 1), max_size=12))
    assert not {"\ue000", "\ue001", "\ue002"} & set(vocabulary.decode(ids))


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("او می\u200cرود", 2),  # Persian, a non-joiner
        ("ශ්\u200dරී ලංකාව", 2),  # Sinhala, a joiner
        ("ന്\u200dറെ", 1),  # Malayalam
        ("Donau\u00addampf", 1),
        ("zero\u200bwidth", 1),
        ("हिन्दी में", 2),
        ("e\u0301te\u0301", 1),
        ("👨\u200d👩\u200d👧", 3),
    ],
)
def test_what_extends_a_character_cuts_no_word(sentence: str, words: int) -> None:
    for side in ("source", "target"):
        assert len(WordSplitter(SIMPLIFIED, side).split(sentence)) == words
    vocabulary = Vocabulary.learn([sentence], SIMPLIFIED)
    whole = unicodedata.normalize("NFC", sentence)
    assert vocabulary.decode(vocabulary.encode([sentence])[0]) == whole


# ---- translations -------------------------------------------------------------------------------


def translator(bias: dict[str, float], **decode: object) -> Translator:
    """A translator without training, whose translations consist of the tokens that it is told."""
    torch.manual_seed(0)
    source = Vocabulary.learn(["my name is . ?"], SIMPLIFIED, "source")
    target = Vocabulary.learn(["Mon nom est l'été ."], SIMPLIFIED)
    model = ModelConfig(embedding_size=8, hidden_size=8, attention="dot")
    settings = {"max_length": 3, "unknown": "copy", **decode}
    config = Config(
        text=SIMPLIFIED, model=model, decode=DecodeConfig.model_validate(settings),
        source_language="en", target_language="fr",
    )  # fmt: skip
    directory = ModelDirectory.new(config, source, target)
    directory.model.eval()
    with torch.no_grad():
        for token, value in bias.items():
            directory.model.decoder.output.bias[target.tokens.index(token)] = value
    return Translator(directory)


def test_capitals_of_a_sentence_are_those_of_its_translation() -> None:
    says = translator({"Mon": 99})
    assert says.translate(["My name.", "MY NAME.", "My NAME.", "MY."]) == [
        "Mon Mon Mon",
        "MON MON MON",
        "Mon Mon Mon",
        "MON MON MON",
    ]
    [[found]] = says.hypotheses(["MY NAME IS."])
    assert found.text == "MON MON MON"
    assert [begin for _, begin, _ in found.links("MY NAME IS.")] == [0, 4, 8]


def test_a_bare_mark_is_never_copied() -> None:
    copying = translator({"<unk>": 99})
    for alignment in ([0, 0, 0], [4, 4, 4], [3, 4, 4], None):
        text = copying.detokenise("My name is Zbigniew.", [UNK], alignment)
        assert text == ("My" if alignment == [0, 0, 0] else "Zbigniew")
    # A second unknown word, which looked at the mark as well, has nothing left to copy.
    assert copying.detokenise("My Zbigniew.", [UNK, UNK], [2, 2]) == "Zbigniew"
    assert copying.detokenise("my name.", [UNK], [2]) == ""
    assert copying.detokenise("Zoé and Anne!", [UNK, UNK], [3, 3]) == "Anne and"


def test_a_translation_does_not_depend_on_how_the_source_is_written() -> None:
    made = translator({})
    [plain] = made.translate(["my name is my name?"])
    variants = [
        "\ufeffmy  name\u00a0is\tmy na\u00adme??",
        "My Name Is My Name ?",
        "ｍｙ ｎａｍｅ ｉｓ ｍｙ ｎａｍｅ？",
    ]
    assert made.translate(variants) == [plain] * 3


def test_a_model_of_other_text_reads_lines_as_rows_of_its_corpus() -> None:
    words = Vocabulary.learn(["my name is"], TextConfig())
    config = Config(model=ModelConfig(embedding_size=8, hidden_size=8))
    directory = ModelDirectory.new(config, words, words)
    directory.model.eval()
    translator = Translator(directory)
    [[odd]], [[usual]] = translator.split(["\ufeffmy\tname\n"]), translator.split(["my name"])
    assert odd.ids == usual.ids
