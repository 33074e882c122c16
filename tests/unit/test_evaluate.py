"""Evaluations of a real model on a real corpus have the numbers that are counted by hand."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU, CHRF

from s2s.cli.main import main
from s2s.config import Config, TrainConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.breakdowns import Breakdowns, SentenceGroup
from s2s.evaluation.evaluate import Evaluation, evaluate
from s2s.evaluation.references import References
from s2s.model.directory import ModelDirectory
from s2s.text.normalise import WordSplitter
from tests.support.corpora import Pairs, Prepare, train_model

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
def model(model_dir: Path) -> ModelDirectory:
    return ModelDirectory.load(model_dir)


@pytest.fixture(scope="module")
def evaluation(model: ModelDirectory, strange: Corpus) -> Evaluation:
    """An evaluation with everything that is optional."""
    return evaluate(model, strange, "test", samples=1000, breakdowns=True, worst=4)


@pytest.fixture(scope="module")
def breakdowns(evaluation: Evaluation) -> Breakdowns:
    assert evaluation.breakdowns is not None
    return evaluation.breakdowns


@pytest.fixture(scope="module")
def references(strange: Corpus) -> References:
    return References.of(strange, "test")


@pytest.fixture(scope="module")
def splitter(model: ModelDirectory) -> WordSplitter:
    return WordSplitter(model.config.text)


def check(
    groups: tuple[SentenceGroup, ...], expected: dict[str, list[int]], evaluation: Evaluation
) -> None:
    """Check that groups are those of the expected sentences, with sacreBLEU's scores of each."""
    assert {group.label: group.sentences for group in groups} == {
        label: len(numbers) for label, numbers in expected.items()
    }
    targets = evaluation.references.targets
    for group in groups:
        numbers = expected[group.label]
        most = max(len(targets[n]) for n in numbers)
        ranks = [
            [targets[n][rank] if rank < len(targets[n]) else None for n in numbers]
            for rank in range(most)
        ]
        translations = [evaluation.translations[n] for n in numbers]
        assert group.bleu == pytest.approx(BLEU(force=True).corpus_score(translations, ranks).score)
        assert group.chrf2 == pytest.approx(CHRF().corpus_score(translations, ranks).score)


def grouped(labels: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        groups.setdefault(label, []).append(number)
    return groups


def test_sentences_are_the_distinct_sources_with_all_their_references(
    strange: Corpus, references: References
) -> None:
    rows = strange.split("test")
    pairs = list(zip(rows["source"], rows["target"], strict=True))
    assert references.sources == list(dict.fromkeys(source for source, _ in pairs))
    assert max(map(len, references.targets)) > 1
    for source, group in zip(references.sources, references.targets, strict=True):
        assert group == [target for other, target in pairs if other == source]
    sources = [references.sources[index] for index in references.source_of_row]
    assert sources == [source for source, _ in pairs]


def test_an_evaluation_without_options(
    model: ModelDirectory, corpus: Corpus, translator: Translator
) -> None:
    evaluation = evaluate(model, corpus, "valid")
    assert evaluation.split == "valid"
    assert evaluation.pairs == corpus.manifest.rows["valid"]
    assert evaluation.perplexity == pytest.approx(math.exp(evaluation.loss))
    assert evaluation.decoding == "greedy"
    assert [score.name for score in evaluation.scores] == ["BLEU", "chrF2", "TER"]
    assert all(score.low is score.high is None for score in evaluation.scores)
    assert evaluation.breakdowns is None
    assert evaluation.worst == ()
    content = json.loads(evaluation.to_json())
    assert list(content) == [
        "part", "pairs", "sentences", "wordless", "incomplete", "loss", "perplexity",
        "token_accuracy", "padded_accuracy", "decoding", "scores",
    ]  # fmt: skip


def test_intervals_hold_the_scores(evaluation: Evaluation) -> None:
    for score in evaluation.scores:
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.score < score.high
        assert "bs:1000" in score.signature


def test_translations_are_those_of_the_translator(
    evaluation: Evaluation, references: References, translator: Translator
) -> None:
    assert evaluation.translations == translator.translate_rows(references.sources)


def test_the_first_reference_is_scored_alone_where_there_are_several(
    evaluation: Evaluation, references: References
) -> None:
    alone = [score for score in evaluation.scores if score.references == "first alone"]
    firsts = [group[0] for group in references.targets]
    direct = BLEU(force=True).corpus_score(evaluation.translations, [firsts])
    assert alone[0].score == pytest.approx(direct.score)
    assert "nrefs:1" in alone[0].signature
    as_read = [score for score in evaluation.scores if score.references == "as read"]
    assert "nrefs:var" in as_read[0].signature


def test_a_breakdown_by_the_words_of_the_source(
    evaluation: Evaluation, breakdowns: Breakdowns, references: References, splitter: WordSplitter
) -> None:
    def label(length: int) -> str:
        for low, high in ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30)):
            if low <= length <= high:
                return f"{low}-{high}"
        return "31+"

    groups = grouped([label(len(splitter.split(source))) for source in references.sources])
    assert len(groups) > 2
    check(breakdowns.sentences["source words"], groups, evaluation)


def test_a_breakdown_by_unknown_words_of_the_source(
    evaluation: Evaluation,
    breakdowns: Breakdowns,
    references: References,
    splitter: WordSplitter,
    pairs: Pairs,
) -> None:
    seen = {word for source, _ in pairs for word in splitter.split(source)}
    unknown = [
        sum(word not in seen for word in splitter.split(source)) for source in references.sources
    ]
    groups = grouped([str(count) if count < 3 else "3+" for count in unknown])
    assert {"0", "3+"} <= groups.keys()
    rows = breakdowns.sentences["unknown source words"]
    check(rows, groups, evaluation)
    assert [row.label for row in rows] == sorted(groups)


def test_a_breakdown_by_the_rarest_word_of_the_easiest_reference(
    evaluation: Evaluation,
    breakdowns: Breakdowns,
    references: References,
    splitter: WordSplitter,
    strange: Corpus,
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

    groups = grouped([label(group) for group in references.targets])
    assert len(groups) > 1
    check(breakdowns.sentences["rarest reference word"], groups, evaluation)


def test_token_accuracies_add_up_to_the_one_of_all(
    evaluation: Evaluation, breakdowns: Breakdowns
) -> None:
    groups = breakdowns.tokens
    tokens = sum(group.tokens for group in groups)
    right = sum(group.tokens * group.accuracy for group in groups)
    assert right / tokens == pytest.approx(evaluation.token_accuracy)
    [ends] = [group for group in groups if group.label == "<eos>"]
    assert ends.tokens == evaluation.pairs - evaluation.wordless
    assert "<unk>" in {group.label for group in groups}


def test_the_worst_sentences_come_first(evaluation: Evaluation, references: References) -> None:
    chrf = [
        CHRF().sentence_score(translation, group).score
        for translation, group in zip(evaluation.translations, references.targets, strict=True)
    ]
    assert [row.score for row in evaluation.worst] == pytest.approx(sorted(chrf)[:4])
    for row in evaluation.worst:
        number = references.sources.index(row.source)
        assert row.translation == evaluation.translations[number]
        assert row.references == references.targets[number]


def test_json_has_the_fields_by_their_names(evaluation: Evaluation, breakdowns: Breakdowns) -> None:
    content = json.loads(evaluation.to_json())
    assert content["part"] == "test"
    assert content["perplexity"] == evaluation.perplexity
    assert content["scores"][0] == {
        "name": "BLEU",
        "references": "as read",
        "score": evaluation.scores[0].score,
        "signature": evaluation.scores[0].signature,
        "low": evaluation.scores[0].low,
        "high": evaluation.scores[0].high,
    }
    assert list(content["breakdowns"]) == [
        "source words", "unknown source words", "rarest reference word"
    ]  # fmt: skip
    group = breakdowns.sentences["source words"][0]
    assert content["breakdowns"]["source words"][0] == {
        "label": group.label,
        "sentences": group.sentences,
        "BLEU": group.bleu,
        "chrF2": group.chrf2,
    }
    tokens = breakdowns.tokens[-1]
    assert content["token_accuracies"][-1] == {
        "label": tokens.label,
        "tokens": tokens.tokens,
        "accuracy": tokens.accuracy,
    }
    assert content["worst"][0] == {
        "source": evaluation.worst[0].source,
        "translation": evaluation.worst[0].translation,
        "references": evaluation.worst[0].references,
        "score": evaluation.worst[0].score,
    }


def test_a_sentence_without_a_word_is_in_no_group(
    pairs: Pairs, prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    # A model that keeps the letters a to z, and a corpus with others too.
    model = trained_for_an_epoch(prepared(pairs, text="tutorial"), tiny, tmp_path)
    others = prepared([*pairs, *((f"ß {n}", f"œ {n} {n + 1}") for n in range(200))])
    evaluation = evaluate(model, others, "test", breakdowns=True)
    assert evaluation.wordless > 0
    assert evaluation.breakdowns is not None
    assert len(evaluation.breakdowns.sentences) == 3
    for groups in evaluation.breakdowns.sentences.values():
        sentences = sum(group.sentences for group in groups)
        assert sentences == evaluation.sentences - evaluation.wordless
    # Its references are also compared as the model spells them.
    assert [score.references for score in evaluation.scores[::3]] == ["as read", "normalised"]


def test_a_split_without_a_word_for_the_model_is_bad_input(
    pairs: Pairs, prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    model = trained_for_an_epoch(prepared(pairs, text="tutorial"), tiny, tmp_path)
    others = prepared([(f"ß {n}", f"œ {n} {n + 1}") for n in range(200)])
    with pytest.raises(BadInput, match="no source of 'test' has a word that the model reads"):
        evaluate(model, others, "test")


def test_a_model_of_other_languages_and_an_absent_split_are_bad_input(
    model: ModelDirectory, corpus: Corpus
) -> None:
    german = replace(model, config=model.config.model_copy(update={"target_language": "de"}))
    with pytest.raises(BadInput, match=r"the model translates en-de, .* holds en-fr"):
        evaluate(german, corpus, "test")
    with pytest.raises(BadInput, match="'dev'"):
        evaluate(model, corpus, "dev")


def test_tokenised_text_is_scored_as_it_stands(
    pairs: Pairs, prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    corpus = prepared(pairs, text="tokenised")
    scores = evaluate(trained_for_an_epoch(corpus, tiny, tmp_path), corpus, "test").scores
    assert [(score.name, score.references) for score in scores] == [
        ("BLEU", "as read"),
        ("chrF2", "as read"),
        ("TER", "as read"),
    ]
    assert "tok:none" in scores[0].signature


def trained_for_an_epoch(corpus: Corpus, config: Config, path: Path) -> ModelDirectory:
    """Return a model of the text settings of a corpus."""
    changes = {"text": corpus.manifest.config.text, "train": TrainConfig(epochs=1)}
    train_model(corpus, config.model_copy(update=changes), path)
    return ModelDirectory.load(path)


def test_a_wider_beam_is_used_and_described(
    model: ModelDirectory, strange: Corpus, references: References, translator: Translator
) -> None:
    evaluation = evaluate(model, strange, "test", decode=model.config.decode.changed(beam=3))
    assert evaluation.decoding == "beam 3"
    wider = translator.with_settings(beam=3)
    assert evaluation.translations == wider.translate_rows(references.sources)


# ---- the command --------------------------------------------------------------------------------


def test_the_command_shows_groups_and_the_worst_and_saves_the_translations(
    model_dir: Path, corpus: Corpus, translator: Translator, capsys: Captured, tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    flags = ["--split", "test", "--worst", "2", "--intervals", "--output", str(out)]
    assert main(["evaluate", str(model_dir), "--corpus", str(corpus.path), *flags]) == 0
    printed = capsys.readouterr().out
    for expected in ("perplexity", "TER", "by source words", "by unknown", "by rarest", "<eos>"):
        assert expected in printed
    assert re.search(r"BLEU +│ +[\d.]+ \([\d.]+ to [\d.]+\)", printed)
    assert printed.count("translation:") == 2
    sources = References.of(corpus, "test").sources
    lines = [translation + "\n" for translation in translator.translate(sources)]
    assert out.read_text("utf-8") == "".join(lines)


def test_the_command_prints_the_evaluation_as_json(
    model: ModelDirectory, corpus: Corpus, model_dir: Path, capsys: Captured
) -> None:
    flags = ["--corpus", str(corpus.path), "--worst", "3", "--json", "--beam", "1", "--intervals"]
    assert main(["evaluate", str(model_dir), *flags]) == 0
    expected = evaluate(model, corpus, "valid", samples=1000, breakdowns=True, worst=3)
    assert capsys.readouterr().out == expected.to_json() + "\n"


def test_the_command_refuses_numbers_that_mean_nothing(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    for name, value in (("beam", "0"), ("worst", "-1")):
        flags = ["--corpus", str(corpus.path), f"--{name}", value]
        assert main(["evaluate", str(model_dir), *flags]) == 2
        assert name in capsys.readouterr().err
