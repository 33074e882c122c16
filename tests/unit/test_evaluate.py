"""What `evaluate` says is what is counted by hand, of a real model and a real corpus."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics import BLEU, CHRF

from s2s.cli.main import main
from s2s.config import Config, TrainConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.evaluation.evaluate import Part, evaluate
from s2s.model.directory import read_config
from s2s.text.normalise import WordSplitter
from tests.conftest import Pairs, Prepare, train_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def strange(pairs: Pairs, prepared: Prepare) -> Corpus:
    """A corpus with words that the model has not seen, and other references of some sources."""
    odd = [
        (f"{'I see ' * (n % 9)}zebra{' gnu' * (n % 4)} {n % 50}.", f"je vois le zèbre {n % 70}.")
        for n in range(300)
    ]
    more = [(source, f"{target} vraiment") for source, target in pairs[::2]]
    return prepared([*pairs, *odd, *more])


@pytest.fixture(scope="module")
def result(model_dir: Path, strange: Corpus) -> dict[str, Any]:
    """All that can be asked for."""
    return evaluate(
        model_dir, strange.path, "test",
        intervals=True, breakdowns=True, worst=4, translations=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def part(strange: Corpus) -> Part:
    return Part.of(strange, "test")


@pytest.fixture(scope="module")
def splitter(model_dir: Path) -> WordSplitter:
    return WordSplitter(read_config(model_dir).text)


def check(
    rows: list[dict[str, Any]], groups: dict[str, list[int]], said: list[str], part: Part
) -> None:
    """The rows are those groups of sentences, with sacreBLEU's scores of each."""
    assert {row["label"]: row["sentences"] for row in rows} == {
        label: len(numbers) for label, numbers in groups.items()
    }
    for row in rows:
        numbers = groups[row["label"]]
        most = max(len(part.references[n]) for n in numbers)
        ranks = [
            [part.references[n][rank] if rank < len(part.references[n]) else None for n in numbers]
            for rank in range(most)
        ]
        group = [said[n] for n in numbers]
        assert row["BLEU"] == pytest.approx(BLEU(force=True).corpus_score(group, ranks).score)
        assert row["chrF2"] == pytest.approx(CHRF().corpus_score(group, ranks).score)


def grouped(labels: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        groups.setdefault(label, []).append(number)
    return groups


def test_sentences_are_the_different_sources_with_all_their_references(
    strange: Corpus, part: Part
) -> None:
    rows = strange.split("test")
    pairs = list(zip(rows["source"], rows["target"], strict=True))
    assert part.sources == list(dict.fromkeys(source for source, _ in pairs))
    assert max(map(len, part.references)) > 1
    for source, group in zip(part.sources, part.references, strict=True):
        assert group == [target for other, target in pairs if other == source]
    assert [part.sources[number] for number in part.rows] == [source for source, _ in pairs]


def test_what_is_always_said(model_dir: Path, corpus: Corpus, translator: Translator) -> None:
    result = evaluate(model_dir, corpus.path, "valid")
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["decoding"] == "greedy"
    assert [score["name"] for score in result["scores"]] == ["BLEU", "chrF2", "TER"]
    assert all(score["low"] is score["high"] is None for score in result["scores"])
    assert not result.keys() & {"breakdowns", "token_accuracies", "worst", "translations"}


def test_intervals_hold_the_scores(result: dict[str, Any]) -> None:
    for score in result["scores"]:
        assert score["low"] < score["score"] < score["high"]
        assert "bs:1000" in score["signature"]


def test_translations_are_the_translators(
    result: dict[str, Any], part: Part, translator: Translator
) -> None:
    assert result["translations"] == translator.translate(part.sources)


def test_the_first_reference_is_scored_alone_where_there_are_several(
    result: dict[str, Any], part: Part
) -> None:
    alone = [score for score in result["scores"] if score["references"] == "first alone"]
    firsts = [group[0] for group in part.references]
    direct = BLEU(force=True).corpus_score(result["translations"], [firsts])
    assert alone[0]["score"] == pytest.approx(direct.score)
    assert "nrefs:1" in alone[0]["signature"]
    as_read = [score for score in result["scores"] if score["references"] == "as read"]
    assert "nrefs:var" in as_read[0]["signature"]


def test_a_breakdown_by_the_words_of_the_source(
    result: dict[str, Any], part: Part, splitter: WordSplitter
) -> None:
    def label(length: int) -> str:
        for low, high in ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30)):
            if low <= length <= high:
                return f"{low}-{high}"
        return "31+"

    groups = grouped([label(len(splitter.split(source))) for source in part.sources])
    assert len(groups) > 2
    check(result["breakdowns"]["source words"], groups, result["translations"], part)


def test_a_breakdown_by_unknown_words_of_the_source(
    result: dict[str, Any], part: Part, splitter: WordSplitter, pairs: Pairs
) -> None:
    seen = {word for source, _ in pairs for word in splitter.split(source)}
    unknown = [sum(word not in seen for word in splitter.split(source)) for source in part.sources]
    groups = grouped([str(count) if count < 3 else "3+" for count in unknown])
    assert {"0", "3+"} <= groups.keys()
    rows = result["breakdowns"]["unknown source words"]
    check(rows, groups, result["translations"], part)
    assert [row["label"] for row in rows] == sorted(groups)


def test_a_breakdown_by_the_rarest_word_of_the_easiest_reference(
    result: dict[str, Any], part: Part, splitter: WordSplitter, strange: Corpus
) -> None:
    counts = Counter(
        w for target in strange.split("train")["target"] for w in splitter.split(target)
    )

    def label(group: list[str]) -> str:
        times = max(min(counts[word] for word in splitter.split(target)) for target in group)
        for low, high in ((1, 4), (5, 19), (20, 99)):
            if low <= times <= high:
                return f"{low}-{high}"
        return "100+" if times else "0"

    groups = grouped([label(group) for group in part.references])
    assert len(groups) > 1
    check(result["breakdowns"]["rarest reference word"], groups, result["translations"], part)


def test_token_accuracies_add_up_to_the_one_of_all(result: dict[str, Any]) -> None:
    rows = result["token_accuracies"]
    tokens = sum(row["tokens"] for row in rows)
    right = sum(row["tokens"] * row["accuracy"] for row in rows)
    assert right / tokens == pytest.approx(result["token_accuracy"])
    [ends] = [row for row in rows if row["label"] == "<eos>"]
    assert ends["tokens"] == result["pairs"] - result["wordless"]
    assert "<unk>" in {row["label"] for row in rows}


def test_the_worst_sentences_come_first(result: dict[str, Any], part: Part) -> None:
    said = result["translations"]
    chrf = [
        CHRF().sentence_score(translation, group).score
        for translation, group in zip(said, part.references, strict=True)
    ]
    assert [row["score"] for row in result["worst"]] == pytest.approx(sorted(chrf)[:4])
    for row in result["worst"]:
        number = part.sources.index(row["source"])
        assert row["translation"] == said[number]
        assert row["references"] == part.references[number]


def test_a_sentence_without_a_word_is_in_no_group(
    pairs: Pairs, prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    # A model that keeps only letters, and a corpus with numbers prepared for one that keeps all.
    tutorial = prepared(pairs, text="tutorial")
    config = tiny.model_copy(
        update={"text": tutorial.manifest.config.text, "train": TrainConfig(epochs=1)}
    )
    train_model(tutorial, config, tmp_path)
    numbers = prepared([*pairs, *((f"{n}", f"{n} {n + 1}") for n in range(200))])
    result = evaluate(tmp_path, numbers.path, "test", breakdowns=True)
    assert result["wordless"] > 0
    for rows in result["breakdowns"].values():
        grouped = sum(row["sentences"] for row in rows)
        assert grouped == result["sentences"] - result["wordless"]


def test_text_that_is_split_already_is_scored_as_it_stands(
    pairs: Pairs, prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    corpus = prepared(pairs, text="tokenised")
    config = tiny.model_copy(
        update={"text": corpus.manifest.config.text, "train": TrainConfig(epochs=1)}
    )
    train_model(corpus, config, tmp_path)
    scores = evaluate(tmp_path, corpus.path, "test")["scores"]
    assert [(score["name"], score["references"]) for score in scores] == [
        ("BLEU", "as read"),
        ("chrF2", "as read"),
        ("TER", "as read"),
    ]
    assert "tok:none" in scores[0]["signature"]


def test_a_wider_beam_is_used_and_told(
    model_dir: Path, strange: Corpus, part: Part, translator: Translator
) -> None:
    result = evaluate(model_dir, strange.path, "test", beam=3, translations=True)
    assert result["decoding"] == "beam 3"
    assert result["translations"] == translator.with_settings(beam=3).translate(part.sources)


# ---- the command --------------------------------------------------------------------------------


def test_the_command_shows_groups_and_the_worst_and_saves_the_translations(
    model_dir: Path, corpus: Corpus, translator: Translator, capsys: Captured, tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    flags = ["--split", "test", "--worst", "2", "--intervals", "--output", str(out)]
    assert main(["evaluate", str(model_dir), "--corpus", str(corpus.path), *flags]) == 0
    said = capsys.readouterr().out
    for wanted in ("perplexity", "TER", "by source words", "by unknown", "by rarest", "<eos>"):
        assert wanted in said
    assert " to " in said
    assert said.count("translation:") == 2
    sources = Part.of(corpus, "test").sources
    lines = [translation + "\n" for translation in translator.translate(sources)]
    assert out.read_text("utf-8") == "".join(lines)


def test_the_command_says_all_of_it_as_json(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    flags = ["--corpus", str(corpus.path), "--worst", "3", "--json", "--beam", "1", "--intervals"]
    assert main(["evaluate", str(model_dir), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["worst"]) == 3
    assert len(result["breakdowns"]) == 3
    assert all(score["low"] <= score["high"] for score in result["scores"])
    assert "translations" not in result


def test_the_command_refuses_numbers_that_mean_nothing(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    for name, value in (("beam", "0"), ("worst", "-1")):
        flags = ["--corpus", str(corpus.path), f"--{name}", value]
        assert main(["evaluate", str(model_dir), *flags]) == 2
        assert name in capsys.readouterr().err
