"""Greedy decoding against the plainest loop, and translation of many as of one."""

from pathlib import Path

import pytest
import torch

from s2s.bundle import Bundle
from s2s.config import Config, DecodeConfig, ModelConfig, TextConfig
from s2s.decode import greedy
from s2s.model import Seq2Seq
from s2s.text import EOS, PAD, SOS, Vocabulary
from s2s.translator import Translator
from tests.conftest import Pairs


def one_by_one(model: Seq2Seq, words: list[int], max_length: int) -> list[int]:
    """Greedy decoding of one sentence, as a textbook has it."""
    with torch.no_grad():
        state = model.encode(torch.tensor([words]), torch.tensor([len(words)]))
        said = [SOS]
        while said[-1] != EOS and len(said) <= max_length:
            logits, state = model.step(torch.tensor(said[-1:]), state)
            said.append(int(logits[0].argmax()))
    return [word for word in said[1:] if word != EOS]


def sources(bundle: Bundle, pairs: Pairs) -> tuple[list[list[int]], torch.Tensor, torch.Tensor]:
    """The sentences as ids, as a padded batch, and their lengths."""
    ids = bundle.source.encode([source for source, _ in pairs])
    lengths = torch.tensor([len(words) for words in ids])
    padded = torch.full((len(ids), int(lengths.max())), PAD)
    for row, words in zip(padded, ids, strict=True):
        row[: len(words)] = torch.tensor(words)
    return ids, padded, lengths


@pytest.mark.parametrize("max_length", [1, 3, 50])
def test_greedy_equals_the_plain_loop(max_length: int, model_dir: Path, pairs: Pairs) -> None:
    bundle = Bundle.load(model_dir)
    ids, padded, lengths = sources(bundle, pairs)
    together = greedy(bundle.model, padded, lengths, max_length)
    assert together == [one_by_one(bundle.model, words, max_length) for words in ids]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_greedy_equals_the_plain_loop_for_every_cell(cell: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig.model_validate(
        {"cell": cell, "layers": 2, "embedding_size": 8, "hidden_size": 16}
    )
    model = Seq2Seq(12, 12, config).eval()
    lengths = torch.randint(1, 7, (20,))
    source = torch.randint(4, 12, (20, 6)) * (torch.arange(6) < lengths[:, None])
    wanted = [one_by_one(model, r[:n].tolist(), 9) for r, n in zip(source, lengths, strict=True)]
    assert greedy(model, source, lengths, 9) == wanted


def test_no_translation_is_longer_than_the_cap(tiny: Config) -> None:
    torch.manual_seed(0)
    words = Vocabulary.learn(["a b c"], TextConfig())
    bundle = Bundle.new(tiny, words, words)
    with torch.no_grad():
        bundle.model.decoder.output.bias[EOS] = -1e9
    said = greedy(bundle.model, torch.tensor([[4, 5]]), torch.tensor([2]), 7)
    assert [len(sentence) for sentence in said] == [7]


def test_the_cap_is_the_configs(model_dir: Path, pairs: Pairs) -> None:
    bundle = Bundle.load(model_dir)
    short = Config(**{**dict(bundle.config), "decode": DecodeConfig(max_length=2)})
    capped = Translator(Bundle(short, bundle.source, bundle.target, bundle.model))
    for translation in capped.translate([source for source, _ in pairs[:20]]):
        assert len(bundle.target.encode([translation])[0]) <= 2


def test_many_sentences_are_translated_as_each_alone(translator: Translator, pairs: Pairs) -> None:
    sentences = [source for source, _ in pairs] + ["", "unheard-of", "I I I I I I I I I I"]
    assert translator.translate(sentences) == [translator.translate([s])[0] for s in sentences]


def test_the_order_of_the_sentences_is_kept(translator: Translator, pairs: Pairs) -> None:
    sentences = [source for source, _ in pairs]
    assert translator.translate(sentences[::-1]) == translator.translate(sentences)[::-1]


@pytest.mark.parametrize("sentence", ["", " ", " \t\n "])
def test_a_sentence_without_words_has_an_empty_translation(
    sentence: str, translator: Translator
) -> None:
    assert translator.translate([sentence]) == [""]
    assert translator.translate(["I see trees.", sentence])[1] == ""


def test_no_sentences_give_no_translations(translator: Translator) -> None:
    assert translator.translate([]) == []


def test_a_sentence_of_unknown_words_is_still_translated(translator: Translator) -> None:
    [translation] = translator.translate(["xyzzy plugh"])
    assert isinstance(translation, str)


def test_batches_are_counted_to_the_last_sentence(translator: Translator, pairs: Pairs) -> None:
    told: list[int] = []
    sentences = ["", *(source for source, _ in pairs), ""]
    translator.translate(sentences, told.append)
    assert sum(told) == len(sentences)


def test_the_tiny_model_has_learned_something(translator: Translator, pairs: Pairs) -> None:
    translations = translator.translate([source for source, _ in pairs])
    right = sum(t == target for t, (_, target) in zip(translations, pairs, strict=True))
    assert right > len(pairs) / 4
