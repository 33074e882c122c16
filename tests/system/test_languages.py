"""Languages of other scripts and word orders, from a file of pairs to translations."""

import json
from pathlib import Path

import pytest

from s2s.corpus import Corpus
from tests.support.cluster import Cluster, s2s
from tests.support.languages import LANGUAGES, made_up

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_needs_no_setting_of_its_own(
    language: str, cluster: Cluster, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{source}\t{target}\n" for source, target in made_up(language)))
    corpus, model = tmp_path / "corpus", tmp_path / "model"
    prepared = s2s(
        "prepare", "base", "--source", pairs, "--languages", f"en-{language}", "--out", corpus
    )
    assert prepared.code == 0, prepared.err
    trained = cluster.s2s("train", "base", "--corpus", corpus, "--out", model)
    assert trained.code == 0, trained.err

    scored = s2s("evaluate", model, "--corpus", corpus, "--split", "test", "--json")
    assert scored.code == 0, scored.err
    bleu = next(score for score in json.loads(scored.out)["scores"] if score["name"] == "BLEU")
    assert bleu["score"] > 80
    rows = Corpus.open(corpus).split("test")
    right = 0
    for source, target in zip(rows["source"][:20], rows["target"][:20], strict=True):
        right += s2s("translate", model, source).out == f"{target}\n"
    assert right >= 15
