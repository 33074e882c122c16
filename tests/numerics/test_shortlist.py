"""Shortlists: what they hold, and decoding with them."""

import re
from operator import ne
from pathlib import Path

import numpy as np
import pytest
import torch

from s2s.cli.main import main
from s2s.config import DecodeConfig
from s2s.corpus import Corpus
from s2s.decoding.lexicon import link_counts
from s2s.decoding.search import decode
from s2s.decoding.shortlist import SHORTLIST, RestrictedNetwork
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.shortlists import shortlist_effects, shortlist_of
from s2s.model.directory import ModelDirectory
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import SPECIALS
from tests.support.corpora import Pairs
from tests.support.networks import KINDS, made, some_sources


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
    candidates = shortlist.candidates([[len(SPECIALS)]], 1).tolist()
    assert candidates[: len(SPECIALS)] == list(range(len(SPECIALS)))
    assert candidates == sorted(set(candidates))
    assert len(candidates) <= len(SPECIALS) + 2


@pytest.mark.parametrize("name", [name for name in KINDS if name != "adaptive"])
@pytest.mark.parametrize("beam", [1, 5])
def test_a_restricted_network_translates_by_its_candidates(name: str, beam: int) -> None:
    model, how = made(name), DecodeConfig(beam=beam, max_length=7)
    source, lengths = some_sources(8)

    class Hidden:
        encode = model.encode

        def step(self, tokens, state):  # type: ignore[no-untyped-def]
            hidden, weights, state = model.decoder(tokens[:, None], state)
            return hidden[:, 0], None if weights is None else weights[:, 0], state

    candidates = torch.tensor([0, 1, 2, 3, 5, 6, 9, 11])
    network = RestrictedNetwork.of(Hidden(), model.decoder.output, candidates)
    found = [network.in_vocabulary(each) for each in decode(network, source, lengths, how)]
    # The same model with all other tokens made impossible.
    with torch.no_grad():
        others = [token for token in range(12) if token not in candidates.tolist()]
        model.decoder.output.bias[others] = -1e9
    wanted = decode(model, source, lengths, how)
    assert [[h.ids for h in row] for row in found] == [[h.ids for h in row] for row in wanted]


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
