"""Shortlists: what they hold, and decoding with them."""

import asyncio
import re
from operator import ne
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2s.cli.main import main
from s2s.config import DecodeConfig
from s2s.corpus import Corpus
from s2s.decoding.lexicon import link_counts
from s2s.decoding.search import decode
from s2s.decoding.shortlist import SHORTLIST
from s2s.decoding.translation import SentenceTranslations
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.shortlists import shortlist_effects, shortlist_of
from s2s.model.directory import ModelDirectory
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.process import EngineOptions
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import SPECIALS
from tests.support.corpora import Pairs
from tests.support.networks import KINDS, SHORTLIST_OF_NUMBERS, made, shortlisted, some_sources
from tests.support.serving import within


def plain_counts(pairs: list[tuple[list[int], list[int]]]) -> dict[tuple[int, int], float]:
    """Expected counts by Model 1, as a textbook has it."""
    counts = {(s, t): 1.0 for source, target in pairs for s in source for t in target}
    for _ in range(5):
        totals: dict[int, float] = {}
        for (s, _), count in counts.items():
            totals[s] = totals.get(s, 0.0) + count
        chances = {(s, t): count / totals[s] for (s, t), count in counts.items()}
        counts = dict.fromkeys(counts, 0.0)
        for source, target in pairs:
            for t in target:
                total = sum(chances[s, t] for s in source)
                for s in source:
                    counts[s, t] += chances[s, t] / total
    return counts


def test_counts_are_those_of_the_plain_loop() -> None:
    pairs = [([4, 5], [6, 7, 6]), ([4], [6]), ([5, 8, 8], [7]), ([9], []), ([4, 9], [6, 9])]
    sources, targets = (Ragged.from_lists(side) for side in zip(*pairs, strict=True))
    found = {(s, t): count for s, t, count in zip(*link_counts(sources, targets), strict=True)}
    assert found == pytest.approx(plain_counts(pairs))


@pytest.fixture
def with_shortlist(model_dir: Path, corpus: Corpus, tmp_path: Path) -> Path:
    """A copy of the model directory with a shortlist."""
    path = tmp_path / "model"
    path.mkdir()
    for file in model_dir.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    shortlist_of(ModelDirectory.load(path), corpus).save(path)
    return path


def test_likely_tokens_are_translations(with_shortlist: Path, corpus: Corpus) -> None:
    shortlist = shortlist_of(ModelDirectory.load(with_shortlist), corpus)
    source, target = corpus.source.tokens, corpus.target.tokens

    def likeliest(word: str) -> list[str]:
        [place] = [i for i, token in enumerate(source) if token.strip("▁") == word]
        start, end = shortlist.offsets[place : place + 2]
        return [target[token].strip("▁") for token in shortlist.likely[start:end]]

    assert likeliest("trees")[0] in {"les", "arbres"}
    assert likeliest("bread")[0] in {"le", "pain"}
    usual = shortlist.usual_tokens(1).tolist()
    assert usual == [*range(len(SPECIALS)), shortlist.frequent[0]]
    first = [len(SPECIALS)] * 2
    [each] = set(shortlist.likely_tokens(first, 1).tolist())
    assert each == shortlist.likely[shortlist.offsets[first[0]]]


@pytest.mark.parametrize("name", [name for name in KINDS if name != "adaptive"])
@pytest.mark.parametrize("beam", [1, 5])
def test_a_sentence_has_its_own_tokens_whatever_the_batch(name: str, beam: int) -> None:
    how = DecodeConfig(beam=beam, max_length=7)
    source, lengths = some_sources(20)
    found = decode(shortlisted(made(name)), source, lengths, how, details=True)
    for row, length in enumerate(lengths.tolist()):
        # The same model with all other tokens made impossible.
        model = made(name)
        ids = source[row, :length].tolist()
        own = {*SHORTLIST_OF_NUMBERS.usual_tokens(2), *SHORTLIST_OF_NUMBERS.likely_tokens(ids, 2)}
        with torch.no_grad():
            model.decoder.output.bias[[token for token in range(12) if token not in own]] = -1e9
        [wanted] = decode(model, source[row : row + 1, :length], lengths[row : row + 1], how, True)
        assert [h.ids for h in found[row]] == [h.ids for h in wanted]
        assert [h.score for h in found[row]] == pytest.approx([h.score for h in wanted], abs=1e-4)


# In int8 the output layer of a shortlist is exact, and so a translation may differ.
@pytest.mark.parametrize(("precision", "unlike"), [("fp32", 0), ("int8", 12)])
def test_translations_with_a_shortlist(
    precision: str, unlike: int, with_shortlist: Path, pairs: Pairs
) -> None:
    sources = [source for source, _ in pairs]
    translator = Translator.load(with_shortlist).with_settings(precision=precision)
    wide = translator.with_settings(shortlist=200)
    found, wanted = wide.translate(sources), translator.translate(sources)
    assert sum(map(ne, found, wanted)) <= unlike
    narrow = translator.with_settings(shortlist=1, batch_size=1)
    seen = {token for each in narrow.hypotheses(sources[:8]) for token in each[0].words}
    everything = {token for each in wide.hypotheses(sources[:8]) for token in each[0].words}
    assert seen != everything


def test_effects_begin_with_all_tokens(with_shortlist: Path, corpus: Corpus) -> None:
    model = ModelDirectory.load(with_shortlist)
    everything, wide = shortlist_effects(model, corpus, [200])
    assert (everything.size, wide.size) == (None, 200)
    assert everything.different == wide.different == 0
    assert wide.bleu.difference == 0
    assert wide.share == 0


def test_a_model_without_a_shortlist_names_the_command(
    model_dir: Path, with_shortlist: Path
) -> None:
    with pytest.raises(BadInput, match=re.escape(f"s2s shortlist {model_dir}")):
        Translator.load(model_dir).with_settings(shortlist=50)
    file = with_shortlist / SHORTLIST
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(BadInput, match="cannot be loaded"):
        Translator.load(with_shortlist).with_settings(shortlist=50)


def test_a_shortlist_of_other_vocabularies_is_refused(with_shortlist: Path) -> None:
    file = with_shortlist / SHORTLIST
    data = file.read_bytes()
    start = data.index(b'"vocabularies":"') + len(b'"vocabularies":"')
    file.write_bytes(data[:start] + b"0" * 64 + data[start + 64 :])
    with pytest.raises(BadInput, match="other vocabularies"):
        Translator.load(with_shortlist).with_settings(shortlist=50)


def test_the_command_writes_and_measures(
    with_shortlist: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (with_shortlist / SHORTLIST).unlink()
    arguments = ["shortlist", str(with_shortlist), "--corpus", str(corpus.path), "--sizes", "200"]
    assert main(arguments) == 0
    assert "0.0%" in capsys.readouterr().out
    assert Translator.load(with_shortlist).with_settings(shortlist=9).translate("I see trees.")
    assert main([*arguments[:-1], "201"]) == 2


def test_frequent_tokens_come_first(with_shortlist: Path, corpus: Corpus) -> None:
    shortlist = shortlist_of(ModelDirectory.load(with_shortlist), corpus)
    counts = np.bincount(np.concatenate(corpus.split("train")["target_ids"][:]))
    frequent = [counts[token] for token in shortlist.frequent if token < len(counts)]
    assert frequent == sorted(frequent, reverse=True)


def test_tokens_of_sentences_that_have_left_are_dropped() -> None:
    network = shortlisted(made("none"))
    state = network.encode(torch.tensor([[4, 5, 6, 7], [4, 0, 0, 0]]), torch.tensor([4, 1]))
    assert state.candidates is not None
    assert len(network._tokens) == 12
    network.keep([int(state.candidates.sets[1])])
    assert network._tokens.tolist() == [0, 1, 2, 3, 4, 5, 7]
    logits, _, new = network.step(torch.tensor([1]), state.select(torch.tensor([1])))
    assert logits.isfinite().all()
    assert new.tokens_of(torch.tensor([6])).tolist() == [7]


def best(translated: list[list[SentenceTranslations]]) -> list[list[str]]:
    """The best translation of each sentence of each text."""
    return [[sentence.of_rank(0).text for sentence in text] for text in translated]


def test_a_service_translates_as_the_translator_does(with_shortlist: Path, pairs: Pairs) -> None:
    settings: dict[str, Any] = {"shortlist": 3, "unknown": "avoid"}
    engine = EngineClient(EngineOptions(slots=5, decode=settings).start(with_shortlist))
    sources = [source for source, _ in pairs[:40]]
    alone = Translator.load(with_shortlist).with_settings(**settings)

    async def all_at_once() -> list[Any]:
        beam = engine.config.decode.changed(beam=4)
        return await asyncio.gather(
            engine.translate(sources),
            engine.translate_detailed(sources[:10], beam),
            engine.translate(sources[::-1]),
        )

    found, in_detail, backwards = within(all_at_once())
    assert found == backwards[::-1] == [alone.translate(source) for source in sources]
    wanted = alone.with_settings(beam=4).translate_in_detail(sources[:10])
    assert best(in_detail) == best(wanted)
    engine.close()
