"""Both tokenizers against what they promise, and vocabularies."""

import json
import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s2s.config import TextConfig
from s2s.errors import BadInput
from s2s.text.normalise import WordSplitter
from s2s.text.vocabulary import EOS, SPECIALS, UNK, Vocabulary

TUTORIAL = TextConfig(normaliser="tutorial")
LOSSLESS = TextConfig(normaliser="lossless")

# Latin letters of Western, Central and Eastern Europe and of Vietnamese, loose accents, marks.
latin = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x24F)
    | st.characters(min_codepoint=0x300, max_codepoint=0x36F)
    | st.characters(min_codepoint=0x1E00, max_codepoint=0x1EFF)
    | st.sampled_from(" .?!,'’«»\u00a0\u202f…–"),
    max_size=40,
)
# Any text, with what sentences are full of made frequent.
anything = st.lists(
    st.sampled_from(["l'", "don't", "it’s", "'s", " ", "  ", "«\u202f", "\u202f»", "…", "9", "é"])
    | st.text(max_size=6),
    max_size=8,
).map("".join)


def tutorial_in_plain_python(sentence: str) -> list[str]:
    """The tutorial's own preprocessing, as its notebook has it."""
    decomposed = unicodedata.normalize("NFD", sentence)
    plain = "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()
    spaced = re.sub(r"([?.!,])", r" \1", plain)
    return re.sub(r"[^a-zA-Z!.?]+", " ", spaced).split()


def words_of(vocabulary: Vocabulary) -> list[str]:
    """The words of a vocabulary in the order of their ids, the specials left out."""
    return [vocabulary.decode([i]) for i in range(len(SPECIALS), len(vocabulary))]


@given(latin)
@example("Ça va, où ?")
@example("? a mark first")
@example("...")
@example("Don't! Stop... (please), Éric…")
@example("I have 3 cats; 1,000 dogs.")
@example("İstanbul ſtraße Ǆ")
def test_the_tutorial_normaliser_does_as_the_tutorial(sentence: str) -> None:
    vocabulary = Vocabulary.learn([], TUTORIAL)
    assert vocabulary.normalise(sentence) == " ".join(tutorial_in_plain_python(sentence))


@given(latin)
def test_the_tutorial_words_are_encoded_one_by_one(sentence: str) -> None:
    vocabulary = Vocabulary.learn([sentence], TUTORIAL)
    [ids] = vocabulary.encode([sentence])
    assert [vocabulary.decode([i]) for i in ids] == tutorial_in_plain_python(sentence)


@given(anything)
@example("l'école")
@example("I don't know; it's O'Neill's, isn't it?")
@example("«\u202fOui\u202f», dit-il.")
@example("« guillemets »")
@example("prix\u202f: 3\u202f000\u00a0€")
@example("He said \"no\", 'no' and “no”.")
@example("two  spaces,   three")
@example(" before and after ")
@example("'")
@example("rock 'n' roll, the boys' dogs, 'tis")
@example("aujourd’hui, qu’il s’en aille…")
@example("a\u0301 lone \u0301 accent".replace("a\u0301", "á"))
@example("3.14 x-ray e-mail @home #1 50% C++")
@example("日本語、テスト。 👩‍👩‍👧 ok")
@example("<eos> <pad>")
@example("tab\tand\nline")
def test_a_lossless_sentence_comes_back_as_it_was(sentence: str) -> None:
    sentence = unicodedata.normalize("NFC", sentence.replace("\ue000", "").replace("\ue001", ""))
    vocabulary = Vocabulary.learn([sentence], LOSSLESS)
    [ids] = vocabulary.encode([sentence])
    assert vocabulary.decode(ids) == sentence
    assert vocabulary.normalise(sentence) == sentence


@given(st.lists(anything, max_size=5))
def test_a_vocabulary_knows_every_word_of_its_own_text(sentences: list[str]) -> None:
    vocabulary = Vocabulary.learn(sentences, LOSSLESS)
    assert all(UNK not in ids for ids in vocabulary.encode(sentences))


@given(st.lists(anything | latin, max_size=8))
@example(["a  b", " a", "b ", "", " ", "l' école", "a 's b", "x ' y", "don 't", "e \u0301"])
def test_many_sentences_split_as_each_alone(sentences: list[str]) -> None:
    sentences = [sentence.replace("\n", "") for sentence in sentences]
    for config in (LOSSLESS, TUTORIAL):
        splitter = WordSplitter(config)
        words = splitter.split_many(pa.array(sentences, pa.string()))
        for row, sentence in enumerate(sentences):
            numbers = words.indices.select(np.array([row])).values
            assert [words.distinct[n] for n in numbers] == splitter.split(sentence)


@pytest.mark.parametrize("units", ["bpe", "unigram"])
def test_parts_of_words_spell_words_that_were_never_seen(units: str) -> None:
    config = TextConfig(units=units, vocabulary_size=80)
    seen = ["the lowest tower", "a newer lower town", "l'été, « d'ornement » !", "don't wonder"]
    vocabulary = Vocabulary.learn(seen * 5, config)
    for sentence in [*seen, "the newest wetter town, « l'ornement » !", "a tower's end"]:
        [ids] = vocabulary.encode([sentence])
        assert UNK not in ids
        assert vocabulary.decode(ids) == vocabulary.normalise(sentence) == sentence
    [long], [short] = vocabulary.encode(["lowestnewer"]), vocabulary.encode(["lower"])
    assert len(long) > len(short)


def test_parts_of_words_need_a_size() -> None:
    with pytest.raises(ValueError, match="vocabulary_size"):
        TextConfig(units="bpe")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("I don't know.", 5),  # I do(n) 't know .
        ("l'école", 2),
        ("It's l'eau", 4),
        ("« oui »", 3),
    ],
)
def test_lossless_words_are_words_clitics_and_marks(sentence: str, words: int) -> None:
    vocabulary = Vocabulary.learn([sentence], LOSSLESS)
    assert len(vocabulary.encode([sentence])[0]) == words


@given(anything, anything)
def test_specials_in_users_text_are_only_text(before: str, after: str) -> None:
    for config in (LOSSLESS, TUTORIAL):
        sentence = f"{before}<eos>{after}<pad><sos>"
        vocabulary = Vocabulary.learn([sentence, "eos pad sos"], config)
        [ids] = vocabulary.encode([sentence])
        assert not set(ids) & set(range(len(SPECIALS)))


def test_an_unknown_word_is_unk_and_no_end() -> None:
    vocabulary = Vocabulary.learn(["a b"], LOSSLESS)
    [ids] = vocabulary.encode(["a <eos> b"])
    assert UNK in ids
    assert EOS not in ids


def test_words_stand_by_frequency_then_alphabet() -> None:
    vocabulary = Vocabulary.learn(["b c a c", "c b z"], LOSSLESS)
    assert words_of(vocabulary) == ["c", "b", "a", "z"]


@given(st.lists(st.text("abcdeé' .", max_size=12), max_size=8), st.integers(0, 2**32))
def test_the_order_of_the_sentences_does_not_matter(sentences: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(sentences, len(sentences))
    for config in (LOSSLESS, TUTORIAL):
        first, second = Vocabulary.learn(sentences, config), Vocabulary.learn(shuffled, config)
        assert words_of(first) == words_of(second)


def test_a_cap_keeps_the_most_frequent_words() -> None:
    config = TextConfig(normaliser="tutorial", vocabulary_size=2)
    vocabulary = Vocabulary.learn(["a b b c c c d"], config)
    assert words_of(vocabulary) == ["c", "b"]
    assert vocabulary.encode(["a c"]) == [[UNK, len(SPECIALS)]]


def test_rare_words_are_left_out() -> None:
    config = TextConfig(min_frequency=2)
    assert words_of(Vocabulary.learn(["a b b c c c"], config)) == ["c", "b"]


def test_unknown_words_are_spelled_unk() -> None:
    vocabulary = Vocabulary.learn(["a b"], LOSSLESS)
    assert vocabulary.decode(vocabulary.encode(["a x b"])[0]) == "a <unk> b"


@pytest.mark.parametrize("config", [LOSSLESS, TUTORIAL])
def test_nothing_encodes_to_nothing(config: TextConfig) -> None:
    vocabulary = Vocabulary.learn(["a b"], config)
    assert vocabulary.encode([""]) == [[]]
    assert vocabulary.encode([]) == []
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize("config", [LOSSLESS, TUTORIAL])
def test_a_saved_vocabulary_is_the_same_when_loaded(config: TextConfig, tmp_path: Path) -> None:
    sentences = ["l'école, don't  «\u202foui\u202f»", "Ça va ?"]
    vocabulary = Vocabulary.learn(sentences, config)
    vocabulary.save(tmp_path / "words.json")
    loaded = Vocabulary.load(tmp_path / "words.json")
    assert len(loaded) == len(vocabulary)
    assert words_of(loaded) == words_of(vocabulary)
    assert loaded.encode(sentences) == vocabulary.encode(sentences)
    assert [loaded.normalise(s) for s in sentences] == [vocabulary.normalise(s) for s in sentences]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[]", b"\xff\xfe\x00", b'{"model": {"type": "WordLevel", "vocab": {}}}'],
)
def test_a_file_that_is_no_tokenizer_is_bad_input(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"words\.json") as caught:
        Vocabulary.load(tmp_path / "words.json")
    assert len(str(caught.value).splitlines()) == 1


def test_a_tokenizer_file_cut_short_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    Vocabulary.learn(["a b"], LOSSLESS).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput):
        Vocabulary.load(path)


def test_a_tokenizer_without_our_specials_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    Vocabulary.learn(["a b"], LOSSLESS).save(path)
    tree = json.loads(path.read_text("utf-8"))
    tree["model"]["vocab"] = {"<unk>": 0, "a": 1}
    path.write_text(json.dumps(tree), "utf-8")
    with pytest.raises(BadInput, match="<pad> <unk> <sos> <eos>"):
        Vocabulary.load(path)


def test_an_absent_tokenizer_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"words\.json"):
        Vocabulary.load(tmp_path / "words.json")


# ---- what stands in the text --------------------------------------------------------------------

UNITS = [{}, {"units": "bpe", "vocabulary_size": 40}, {"units": "unigram", "vocabulary_size": 40}]


@pytest.mark.parametrize("normaliser", ["lossless", "tutorial", "tokenised"])
@pytest.mark.parametrize("units", UNITS, ids=["word", "bpe", "unigram"])
def test_every_token_tells_the_word_that_it_is_of(
    units: dict[str, object], normaliser: str
) -> None:
    config = TextConfig.model_validate({**units, "normaliser": normaliser})
    known = ["the dogs see the cat .", "a cat sees dogs !"] * 5
    vocabulary = Vocabulary.learn(known, config)
    sentence = "the Zoé sees cats !"
    [ids] = vocabulary.encode([sentence])
    tokens = vocabulary.written_tokens(sentence)
    assert [token.id for token in tokens] == ids
    assert list(dict.fromkeys(token.word for token in tokens)) == sentence.split()
    for token in tokens:
        assert token.text in token.word
        if token.id == UNK:
            assert token.text == token.word


def test_a_mark_that_is_copied_keeps_its_spacing() -> None:
    vocabulary = Vocabulary.learn(["Bonjour", "."], TextConfig())
    [bonjour] = vocabulary.encode(["Bonjour"])[0]
    written = vocabulary.written_tokens("Hello…")
    assert vocabulary.decode([bonjour, UNK], {1: written[1].word}) == "Bonjour…"
    assert [token.text for token in written] == ["Hello", "…"]


@pytest.mark.parametrize("units", UNITS, ids=["word", "bpe", "unigram"])
def test_specials_in_text_that_is_split_already_are_unknown_words(units: dict[str, object]) -> None:
    config = TextConfig.model_validate({**units, "normaliser": "tokenised"})
    vocabulary = Vocabulary.learn(["a <unk> <pad> b <eos>", "a<eos> b<pad> <unk>x"], config)
    for sentence in ("<pad> a <eos> <sos> <unk>", "a<eos> <sos>b", "<unk>x b<pad>"):
        [ids] = vocabulary.encode([sentence])
        assert ids == [token.id for token in vocabulary.written_tokens(sentence)]
        words = vocabulary.encode_words(sentence.split())
        assert ids == [token for word in words for token in word]
        assert not {0, 2, 3}.intersection(ids)
    assert vocabulary.tokens[:4] == [*SPECIALS]
    if not units:
        assert vocabulary.encode(["<pad> a <unk>"]) == [[UNK, vocabulary.tokens.index("a"), UNK]]


@pytest.mark.parametrize("units", UNITS[1:], ids=["bpe", "unigram"])
@pytest.mark.parametrize("source_normaliser", ["same", "simplified"])
def test_a_word_that_cannot_be_spelled_is_one_unknown_token(
    source_normaliser: str, units: dict[str, object]
) -> None:
    config = TextConfig.model_validate({**units, "source_normaliser": source_normaliser})
    known = ["the dogs see the cat .", "a cat sees dogs !"] * 5
    vocabulary = Vocabulary.learn(known, config, "source")
    sentence = "the Иван sees Žoé, dogs"
    [ids] = vocabulary.encode([sentence])
    tokens = vocabulary.written_tokens(sentence)
    assert [token.id for token in tokens] == ids
    unknown = [token.word for token in tokens if token.id == UNK]
    assert [word.strip("\ue000") for word in unknown] == ["Иван", "Žoé", ","]
    assert vocabulary.encode_words(["Иван", "dogs"])[0] == [UNK]
    spoken = vocabulary.decode(ids)
    assert spoken.split() == ["the", "<unk>", "sees", "<unk>", "<unk>", "dogs"]
    copied = {place: token.word for place, token in enumerate(tokens) if token.id == UNK}
    assert vocabulary.decode(ids, copied).replace(" ,", ",") == sentence


@pytest.mark.parametrize("source_normaliser", ["same", "simplified"])
def test_an_unknown_character_of_a_clause_without_spaces_is_one_token(
    source_normaliser: str,
) -> None:
    units = {"units": "bpe", "vocabulary_size": 60, "source_normaliser": source_normaliser}
    config = TextConfig.model_validate(units)
    vocabulary = Vocabulary.learn(["我喜欢吃苹果。", "他喜欢吃梨。"] * 5, config, "source")
    sentence = "我喜欢吃囍苹果。"
    [ids] = vocabulary.encode([sentence])
    tokens = vocabulary.written_tokens(sentence)
    assert ids == [token.id for token in tokens]
    assert [token.word for token in tokens if token.id == UNK] == ["囍"]
    assert vocabulary.encode_words(["我喜欢吃囍苹果"])[0] == ids[:-1]
    copied = {place: token.word for place, token in enumerate(tokens) if token.id == UNK}
    assert vocabulary.decode(ids, copied).replace(" ", "") == sentence
