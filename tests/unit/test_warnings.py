"""Warnings of a corpus: each follows from its numbers, is kept in the manifest and shown."""

import json
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.config import DataConfig, DecodeConfig
from s2s.corpus import Corpus, Manifest
from s2s.corpus.rules import REMEDIES, RULES
from s2s.corpus.warnings import corpus_warnings, decoding_warnings, drops_in_words
from tests.support.corpora import Pairs

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def usual(corpus: Corpus) -> Manifest:
    """The manifest of a corpus without a fault."""
    rows = {"train": 90_000, "valid": 5_000, "test": 5_000}
    sizes = {"source": 5_000, "target": 6_000}
    return corpus.manifest.model_copy(
        update={"rows": rows, "read": 100_000, "drops": {}, "vocabulary": sizes}
    )


def changed(manifest: Manifest, **values: object) -> list[str]:
    """The kinds of the warnings of a manifest with other numbers."""
    tree = manifest.model_dump()
    for path, value in values.items():
        *folders, name = path.split("__")
        place = tree
        for folder in folders:
            place = place[folder]
        place[name] = value
    return [warning.kind for warning in corpus_warnings(Manifest.model_validate(tree))]


def test_a_usual_corpus_has_no_warning(usual: Manifest) -> None:
    assert corpus_warnings(usual) == ()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"rows__train": 999}, "few_pairs"),
        ({"rows__valid": 9}, "few_held_out"),
        ({"rows__test": 1}, "few_held_out"),
        ({"drops": {"markup": 40_000, "empty": 10_001}}, "left_out"),
        ({"drops": {"identical": 20_001}}, "sides_alike"),
        ({"drops": {"too_long": 5_001}}, "long_rows"),
        ({"several_sentences": {"train": 18_001}}, "several_sentences"),
        ({"several_sentences": {"train": 80_000}}, "several_sentences"),
        ({"vocabulary": {"source": 1, "target": 1}}, "small_vocabulary"),
        ({"vocabulary": {"source": 19, "target": 100}}, "small_vocabulary"),
        ({"config__text__vocabulary_size": 5_999}, "vocabulary_above_its_size"),
        ({"vocabulary": {"source": 2_000, "target": 25}}, "unequal_vocabularies"),
        ({"known__valid__source__unknown_rate": 0.21}, "unknown_words"),
        ({"known__valid__target__unknown_rate": 1.0}, "unknown_words"),
    ],
)
def test_a_warning_follows_from_the_numbers(
    values: dict[str, object], kind: str, usual: Manifest
) -> None:
    assert set(changed(usual, **values)) == {kind}


@pytest.mark.parametrize(
    "values",
    [
        {"rows__train": 1_000},
        {"rows__valid": 10},
        {"rows": {"train": 1_000, "valid": 10}},
        {"drops": {"markup": 50_000}},
        {"drops": {"identical": 20_000}},
        {"drops": {"too_long": 5_000}},
        {"several_sentences": {"train": 18_000}},
        {"vocabulary": {"source": 20, "target": 100}},
        {"config__text__vocabulary_size": 6_000},
        {"known__valid__source__unknown_rate": 0.2},
        {"known__test__source__unknown_rate": 0.9},
        {"sources": ("train.tsv", "valid: v.tsv"), "rows__valid": 2},
    ],
)
def test_what_is_usual_gives_no_warning(values: dict[str, object], usual: Manifest) -> None:
    assert changed(usual, **values) == []


def test_words_that_occur_once_are_told(usual: Manifest) -> None:
    known = {"known__train__source__distinct": 1_000}
    assert changed(usual, **known, known__train__source__words=1_299) == ["words_that_occur_once"]
    assert changed(usual, **known, known__train__source__words=1_300) == []


def test_targets_longer_than_what_a_model_may_write_are_told(usual: Manifest) -> None:
    lengths = {"valid": {"source": {5: 100}, "target": {5: 98, 16: 1, 17: 2}}}
    manifest = usual.model_copy(update={"lengths": lengths})
    assert decoding_warnings(manifest, DecodeConfig(max_length=17)) == ()
    assert decoding_warnings(manifest, DecodeConfig(max_length=16))[0].text == (
        "2% of the targets of valid are longer than --decode.max-length 16: such translations "
        "will be cut"
    )


def test_every_rule_has_a_remedy() -> None:
    assert list(REMEDIES) == list(RULES)
    assert drops_in_words({"markup": 3, "empty": 2_000, "control": 0}).startswith(
        "2,000 empty, 3 markup; a row must be: source, tab, target; "
    )
    assert drops_in_words({}) == ""


# ---- where they are shown -----------------------------------------------------------------------


def test_warnings_are_kept_and_shown(pairs_file: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "corpus"
    flags = ["--text.min-frequency", "60", "--corpus.valid", "0.1"]
    assert (
        main(
            [
                "prepare",
                "demo",
                "--languages",
                "en-fr",
                "--source",
                str(pairs_file),
                "--out",
                str(out),
                *flags,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out.splitlines()
    warnings = Corpus.open(out).manifest.warnings
    assert {"few_pairs", "unknown_words"} <= {warning.kind for warning in warnings}
    assert said[-1 - len(warnings) : -1] == [f"warning: {warning.text}" for warning in warnings]
    assert "--text.units bpe" in next(w.text for w in warnings if w.kind == "unknown_words")

    assert main(["inspect", str(out), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["Warnings"] == [{"warning": w.kind, "text": w.text} for w in warnings]
    assert [row["part"] for row in content["Sources of several sentences"]] == [
        "train", "valid", "test",
    ]  # fmt: skip
    assert main(["inspect", str(out)]) == 0
    assert "few_pairs" in capsys.readouterr().out
    assert main(["inspect", str(out), "--html", str(tmp_path / "page.html")]) == 0
    assert "to train on: enough to try the commands" in (tmp_path / "page.html").read_text("utf-8")


# ---- vocabularies -------------------------------------------------------------------------------


def prepare_flags(pairs: Pairs, folder: Path, *flags: str) -> int:
    lines = "".join(f"{one}\t{two}\n" for one, two in pairs)
    (folder / "pairs.tsv").write_text(lines, "utf-8")
    names = ["--source", str(folder / "pairs.tsv"), "--out", str(folder / "corpus")]
    return main(["prepare", "demo", "--languages", "en-fr", *names, *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--text.min-frequency", "10000"], "no word occurs 10,000 times"),
        (["--text.vocabulary-size", "1"], "raise --text.vocabulary-size 1"),
    ],
)
def test_a_vocabulary_without_a_word_is_refused(
    flags: list[str], said: str, pairs: Pairs, tmp_path: Path, capsys: Captured
) -> None:
    rows = [(one.replace("I", ".").replace("?", "."), f". . {two}") for one, two in pairs]
    assert prepare_flags(rows, tmp_path, *flags, "--corpus.valid", "0.1") == 2
    error = capsys.readouterr().err
    assert said in error
    assert "vocabulary has no word, only" in error or "vocabulary is empty" in error
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.tsv"]


def test_fewer_subwords_than_characters_are_told(
    pairs: Pairs, tmp_path: Path, capsys: Captured
) -> None:
    flags = ["--text.units", "bpe", "--text.vocabulary-size", "10", "--corpus.valid", "0.1"]
    assert prepare_flags(pairs, tmp_path, *flags) == 0
    manifest = Corpus.open(tmp_path / "corpus").manifest
    said = capsys.readouterr().out
    for side, size in manifest.vocabulary.items():
        assert size > 10
        assert f"less than the {size} characters of the {side}" in said


@pytest.mark.parametrize("text", ["lossless", "tokenised"])
@pytest.mark.parametrize("units", ["word", "bpe", "unigram"])
def test_specials_in_a_text_are_words_or_unknown(
    text: str, units: str, pairs: Pairs, tmp_path: Path
) -> None:
    marks = ["<unk>", "<eos>", "<pad>", "<sos>", "<s>", "</s>"]
    rows = [
        (f"{marks[n % 6]} {one} {marks[n % 5]}", f"{two} {marks[n % 6]}")
        for n, (one, two) in enumerate(pairs)
    ]
    flags = ["--text.normaliser", text, "--text.units", units, "--corpus.valid", "0.1"]
    flags += ["--corpus.clean.no-markup", "--corpus.no-check-languages"]
    assert prepare_flags(rows, tmp_path, *flags, "--text.vocabulary-size", "90") == 0
    corpus = Corpus.open(tmp_path / "corpus")
    for row in corpus.split("train"):
        assert not {0, 2, 3} & set(row["source_ids"])
        assert row["target_ids"].index(3) == len(row["target_ids"]) - 1
    # Nor does any spelling that a normaliser makes one of them.
    written = ["<eos>", "a<eos>b", "＜eos＞", "＜pad＞ x", "<\u200beos>", "<e\u00ados>", "<EOS>"]
    for vocabulary in (corpus.source, corpus.target):
        assert not {0, 2, 3} & {i for ids in vocabulary.encode(written) for i in ids}


def test_the_settings_of_an_older_corpus_are_read() -> None:
    tree = DataConfig().model_dump()
    del tree["corpus"]["check_languages"]
    assert DataConfig.model_validate(tree).corpus.check_languages
