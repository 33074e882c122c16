"""The `s2s` command in process: exit codes, one line of complaint, lines in and lines out."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU
from safetensors.torch import load_file, save_file

from s2s import __version__
from s2s.cli.main import main, run
from s2s.cli.verbs import VERBS
from s2s.config import Config, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.evaluation.references import References
from s2s.presets import PRESETS
from tests.support.corpora import Pairs, Prepare, train_model

Captured = pytest.CaptureFixture[str]


def complaint(capsys: Captured) -> str:
    """The one line on standard error; nothing else was said anywhere, but for a direction."""
    said = capsys.readouterr()
    assert re.fullmatch(r"(from \w+ to \w+ \(..-..\)\n)?", said.out)
    [line] = said.err.splitlines()
    assert line.startswith("s2s: ")
    return line


@pytest.fixture
def broken(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model directory, to be broken."""
    return Path(shutil.copytree(model_dir, tmp_path / "broken"))


# ---- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dance"], "unknown verb 'dance'; expected one of"),
        (["trian"], "unknown verb 'trian'; did you mean train?"),
        (["--colour"], "unknown verb '--colour'"),
        (["prepare"], "a preset comes first: base for a corpus of your own; seed for the tutorial"),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--train.epochs", "0"],
            "--train.epochs: must be greater than 0",
        ),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--model.cell", "lst"],
            "--model.cell: expected one of lstm, gru, rnn, not 'lst'",
        ),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--train.schedule", "inverse_sqrt"],
            "train: schedule inverse_sqrt needs warmup_steps",
        ),
        (["prepare", "huge"], "unknown preset 'huge'; expected one of base, demo"),
        (["train", "bsae", "--corpus", "c"], "unknown preset 'bsae'; did you mean base?"),
        (["train", "demo"], "missing: --corpus, --out (see s2s train demo --help)"),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--train.lr", "3"],
            "did you mean --train.learning-rate?",
        ),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--epochs", "3"],
            "option --epochs; did you mean --train.epochs?",
        ),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--model.hidden", "3"],
            "did you mean --model.hidden-size?",
        ),
        (["evaluate", "m", "--corpus", "c", "--splt", "test"], "did you mean --split?"),
        (["translate", "m", "a", "--beam", "five"], "--beam: a whole number is needed, not 'five'"),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--train.learning-rate", "x"],
            "a number is needed, not 'x'",
        ),
        (
            ["train", "demo", "--corpus", "c", "--out", "m", "--track", "wandb", "--track=mlflow"],
            "--track is given twice; all values follow one --track",
        ),
        (["translate", "m", "a", "b"], "unexpected 'b'; text with spaces must be in quotation"),
        (["train", "--corpus", "c", "--out", "m"], "a preset comes first"),
        (["tune", "--out", "m"], "a preset comes first"),
        (["prepare", "demo", "--source", "demo"], "--out"),
        (["prepare", "demo", "--source", "demo", "--out", "c", "--colour", "red"], "--colour"),
        (["train", "demo", "--corpus", "c", "--out", "m", "--model.hidden-units", "3"], "hidden"),
        (["train", "demo", "--corpus", "c", "--out", "m", "--train.epochs", "many"], "epochs"),
        (["train", "demo", "--corpus", "c", "--out", "m", "--train.epochs", "0"], "epochs"),
        (["train", "demo", "--corpus", "c", "--out", "m", "--model.cell", "cnn"], "cell"),
        (["prepare", "demo", "--source", "demo", "--out", "c", "--corpus.valid", "0.9"], "valid"),
        (["prepare", "demo", "--source", "demo", "--out", "c", "--languages", "french"], "en-fr"),
        (
            [
                "prepare",
                "demo",
                "--languages",
                "en-fr",
                "--source",
                "/no/such/file",
                "--out",
                "/no/c",
            ],
            "no such file",
        ),
        (
            ["tune", "demo", "--corpus", "c", "--out", "m", "--gpu", "--gpu-share", "0"],
            "more than 0",
        ),
        (["tune", "demo", "--corpus", "c", "--out", "m", "--gpu-share", "0.5"], "--gpu and one"),
        (["translate"], "missing: model directory"),
        (["translate", "/no/such/model", "a", "--device", "tpu"], "tpu"),
        (["translate", "/no/such/model"], "not a model directory"),
        (["translate", "/no/such/model", "a", "b"], "b"),
        (["evaluate", "/no/such/model", "--corpus", "/no/such/corpus"], "not a model directory"),
        (["evaluate", "m", "--corpus", "c", "--split", "dev"], "dev"),
        (["serve", "/no/such/model"], "not a model directory"),
        (["serve", "/no/such/model", "--port", "http"], "port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_are_told_in_one_line(
    arguments: list[str],
    said: str,
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [arg.replace("/no/c", str(tmp_path / "c")) for arg in arguments]
    assert main(arguments) == 2
    assert said in complaint(capsys)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["help"], ["help", "train"], ["completion", "bash"]]
)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "s2s.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_the_version_is_told(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"s2s {__version__}\n"


@pytest.mark.parametrize("arguments", [["help"], ["help", "train"], ["help", "prepare", "base"]])
def test_help_is_a_verb_too(arguments: list[str], capsys: Captured) -> None:
    with suppress(SystemExit):
        main(arguments)
    said = capsys.readouterr().out
    with suppress(SystemExit):
        main([*arguments[1:], "--help"])
    assert said == capsys.readouterr().out
    assert "usage: s2s" in said


def test_a_directory_of_the_wrong_kind_is_called_by_its_name(
    model_dir: Path, corpus: Corpus, tmp_path: Path, capsys: Captured
) -> None:
    for model, reason in (
        (corpus.path, "it is a corpus directory"),
        (tmp_path, "it has no config.json"),
        (tmp_path / "absent", "it does not exist"),
        (model_dir / "config.json", "it is a file"),
    ):
        assert main(["translate", str(model), "hello"]) == 2
        assert complaint(capsys) == f"s2s: {model} is not a model directory: {reason}"
    flags = ["--corpus", str(model_dir), "--out", str(tmp_path / "out")]
    assert main(["train", "demo", *flags]) == 2
    assert "is not a corpus directory: it is a model directory" in complaint(capsys)


def test_the_output_is_not_written_over_the_input(
    model_dir: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "in.txt"
    file.write_text("I see trees.\n")
    assert main(["translate", str(model_dir), "--input", str(file), "--output", str(file)]) == 2
    assert "is the input; name another file" in complaint(capsys)
    assert file.read_text() == "I see trees.\n"


def test_no_verb_at_all_shows_the_usage_and_is_bad_input(capsys: Captured) -> None:
    assert main([]) == 2
    assert "usage: s2s VERB" in capsys.readouterr().out


def test_help_names_every_verb(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"s2s {verb}" in said for verb in VERBS)
    assert all(preset in said for preset in PRESETS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert not stop.value.code
    said = capsys.readouterr()
    assert said.out
    assert said.err == ""


def test_help_of_a_preset_has_the_settings_own_words_and_values(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        run("train", ["demo", "--help"])
    assert not stop.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for section, field in ((ModelConfig, "hidden_size"), (TrainConfig, "learning_rate")):
        described = section.model_fields[field].description
        assert described is not None
        assert " ".join(described.split()) in said
    assert f"default: {PRESETS['demo']().train.learning_rate}" in said


def test_serve_needs_a_file_of_suggestions_that_can_be_written(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    file = tmp_path / "nowhere" / "suggestions.jsonl"
    assert main(["serve", str(model_dir), "--suggestions", str(file)]) == 2
    assert f"{file}: No such file or directory" in complaint(capsys)


# ---- prepare ------------------------------------------------------------------------------------


def test_prepare_makes_a_corpus_and_says_what_was_left_out(
    pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes(pairs_file.read_bytes() + b"one column\n")
    out = tmp_path / "corpus"
    flags = ["--languages", "fr-de", "--corpus.valid", "0.1", "--text.min-frequency", "2"]
    flags += ["--corpus.no-check-languages"]
    assert (
        main(
            [
                "prepare",
                "demo",
                "--languages",
                "en-fr",
                "--source",
                str(source),
                "--out",
                str(out),
                *flags,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "read 193 rows" in said
    assert "left out 1 rows: columns" in said
    assert str(out) in said
    config = Corpus.open(out).manifest.config
    assert (config.source_language, config.target_language) == ("fr", "de")
    assert (config.corpus.valid, config.text.min_frequency) == (0.1, 2)
    assert config.corpus.test == PRESETS["demo"]().corpus.test


def test_prepare_refuses_to_write_over_a_corpus(
    pairs_file: Path, corpus: Corpus, capsys: Captured
) -> None:
    before = corpus.sha256
    flags = ["--source", str(pairs_file), "--out", str(corpus.path)]
    assert main(["prepare", "demo", "--languages", "en-fr", *flags]) == 2
    assert "exists already" in complaint(capsys)
    assert corpus.sha256 == before


def test_a_dry_run_shows_what_each_rule_leaves_out_and_writes_nothing(
    pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    source = tmp_path / "source.txt"
    broken = [f"<b>bold {n}</b>\tgras {n}\n" for n in range(12)]
    source.write_text(pairs_file.read_text("utf-8") + "".join(broken), "utf-8")
    assert (
        main(["prepare", "base", "--languages", "en-fr", "--source", str(source), "--dry-run"]) == 0
    )
    said = capsys.readouterr().out
    assert "nothing is written" in said
    assert "12 │ markup" in said
    assert sum(line in said for line in broken) == 10
    assert [file.name for file in tmp_path.iterdir()] == ["source.txt"]


def test_several_sources_and_named_columns_are_given_on_the_command_line(
    capsys: Captured, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        rows = "".join(f'"{name} {n}, sentence","phrase {name} {n}"\n' for n in range(100))
        (tmp_path / f"{name}.csv").write_text(f"English,French\n{rows}", "utf-8")
    (tmp_path / "test.csv").write_text("English,French\na test,un test\n", "utf-8")
    sources = [str(tmp_path / f"{name}.csv") for name in ("one", "two")]
    flags = ["--columns", "English", "French", "--test-source", str(tmp_path / "test.csv")]
    out = ["--out", str(tmp_path / "corpus")]
    assert (
        main(["prepare", "base", "--languages", "en-fr", "--source", *sources, *flags, *out]) == 0
    )
    assert Corpus.open(tmp_path / "corpus").manifest.rows["test"] == 1
    assert "read 201 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "--out must name the corpus directory"),
        (["--out", "o", "--tasks", "0"], "at least 1"),
        (["--out", "o", "--languages", "english"], "two codes"),
        (["--out", "o", "--text.units", "bpe"], "vocabulary_size"),
        (["--out", "o", "--corpus.clean.max-ratio", "0.5"], "max"),
    ],
)
def test_bad_flags_of_prepare_are_told_in_one_line(
    flags: list[str],
    reason: str,
    pairs_file: Path,
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["prepare", "demo", "--languages", "en-fr", "--source", str(pairs_file), *flags]) == 2
    )
    assert reason in complaint(capsys)
    assert not list(tmp_path.iterdir())


# ---- translate ----------------------------------------------------------------------------------


def test_a_sentence_on_the_command_line_is_translated(
    model_dir: Path, translator: Translator, capsys: Captured
) -> None:
    assert main(["translate", str(model_dir), "I see trees."]) == 0
    assert capsys.readouterr().out.splitlines() == translator.translate(["I see trees."])


def test_each_sentence_of_a_line_is_translated(
    model_dir: Path, translator: Translator, capsys: Captured
) -> None:
    text = "I see trees. you want bread? 12:30."
    assert main(["translate", str(model_dir), text]) == 0
    one, two = translator.translate(["I see trees.", "you want bread?"])
    assert capsys.readouterr().out == f"{one} {two} 12:30.\n"
    assert main(["translate", str(model_dir), text, "--split-sentences", "False"]) == 0
    assert capsys.readouterr().out == f"{translator.hypotheses([text])[0][0].text}\n"


def test_translations_that_are_cut_are_told(
    model_dir: Path, corpus: Corpus, capsys: Captured, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    shutil.copytree(model_dir, short)
    tree = json.loads((short / "config.json").read_text())
    tree["decode"]["max_length"] = 2
    del tree["decode"]["split_sentences"]  # as in a model of an older version
    (short / "config.json").write_text(json.dumps(tree))
    (tmp_path / "in.txt").write_text("I see trees.\n12:30\nyou want bread!\n")
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")]
    for more in ([], ["--json"], ["--beam", "2", "--n-best", "2"]):
        assert main(["translate", str(short), *flags, *more]) == 0
        told = complaint(capsys)
        assert "2 translations were cut off, at 2 tokens (decode.max_length)" in told
        assert told.endswith("lines: 1, 3")
    assert main(["evaluate", str(short), "--corpus", str(corpus.path)]) == 0
    number = len(References.of(corpus, "valid").sources)
    assert f"s2s: {number} translations were cut off" in capsys.readouterr().err
    assert main(["translate", str(short), "I see trees.", "--json"]) == 0
    [record] = map(json.loads, capsys.readouterr().out.splitlines())
    assert record["sentences"][0]["translations"][0]["finish_reason"] == "length"
    assert main(["translate", str(model_dir), "I see trees."]) == 0
    assert capsys.readouterr().err == ""


def test_each_line_of_a_file_gives_a_line(
    model_dir: Path, translator: Translator, capsys: Captured, tmp_path: Path
) -> None:
    lines = ["I see bread.", "", "you want trees?", "   ", "unheard-of words", "they see Paris!"]
    wanted = [translator.translate([line])[0] if line.strip() else "" for line in lines]
    (tmp_path / "in.txt").write_text("\n".join(lines), "utf-8")
    out = tmp_path / "out.txt"
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(out)]
    assert main(["translate", str(model_dir), *flags]) == 0
    assert out.read_text("utf-8") == "".join(translation + "\n" for translation in wanted)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\n\n\nI see trees."])
def test_blank_lines_are_kept(content: bytes, model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    out = tmp_path / "out.txt"
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(out)]
    assert main(["translate", str(model_dir), *flags]) == 0
    lines = content.splitlines()
    translated = out.read_text("utf-8").splitlines()
    assert [not line for line in translated] == [not line for line in lines]


def test_a_file_longer_than_a_chunk_keeps_its_order(
    model_dir: Path, translator: Translator, pairs: Pairs, tmp_path: Path
) -> None:
    sentences = [source for source, _ in pairs]
    count = 4096 // len(sentences) + 1
    (tmp_path / "in.txt").write_text("\n".join(sentences * count), "utf-8")
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")]
    assert main(["translate", str(model_dir), *flags]) == 0
    translated = (tmp_path / "out.txt").read_text("utf-8").splitlines()
    assert translated == translator.translate(sentences) * count


def test_a_line_that_is_not_utf8_is_named(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")]
    (tmp_path / "in.txt").write_bytes(b"I see trees.\n\ncaf\xe9\nyou see trees.\n")
    assert main(["translate", str(model_dir), *flags]) == 0
    said = complaint(capsys)
    assert "1 line has no translation, as it is not UTF-8 but probably windows-1252" in said
    assert said.endswith("iconv -f windows-1252 -t UTF-8 FILE > NEW; line: 3")
    assert [not line for line in (tmp_path / "out.txt").read_text().splitlines()] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("I see trees.\nyou see trees.\n".encode("utf-16"), "utf-16"),
        (b"caf\xe9\n\xe9t\xe9\n", "windows-1252"),
    ],
)
def test_a_file_of_another_encoding_is_bad_input(
    text: bytes, encoding: str, model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_bytes(text)
    flags = ["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")]
    assert main(["translate", str(model_dir), *flags]) == 2
    said = complaint(capsys)
    assert "line 1 is not UTF-8" in said
    assert f"iconv -f {encoding} -t UTF-8" in said
    assert [file.name for file in tmp_path.iterdir()] == ["in.txt"]


def test_input_that_is_not_there_is_bad_input_and_spares_the_output(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "out.txt").write_text("precious")
    flags = ["--input", str(tmp_path / "absent.txt"), "--output", str(tmp_path / "out.txt")]
    assert main(["translate", str(model_dir), *flags]) == 2
    assert "absent.txt" in complaint(capsys)
    assert (tmp_path / "out.txt").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_bad_input(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["I see trees.", "--output", str(tmp_path / "no" / "out.txt")]
    assert main(["translate", str(model_dir), *flags]) == 2
    assert "out.txt" in complaint(capsys)


def test_a_sentence_and_a_file_are_too_much(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["I see trees.", "--input", str(tmp_path / "in.txt")]
    assert main(["translate", str(model_dir), *flags]) == 2
    assert "not both" in complaint(capsys)


# ---- broken model directories -------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "source.json", "target.json"])
@pytest.mark.parametrize("content", [None, b"", b"junk", b"\xff\xfe\x00"])
def test_a_model_with_a_missing_or_broken_file_is_bad_input(
    file: str, content: bytes | None, broken: Path, capsys: Captured
) -> None:
    (broken / file).unlink()
    if content is not None:
        (broken / file).write_bytes(content)
    assert main(["translate", str(broken), "I see trees."]) == 2
    assert file in complaint(capsys)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_weights_are_bad_input(share: float, broken: Path, capsys: Captured) -> None:
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: int(len(weights) * share)])
    assert main(["translate", str(broken), "I see trees."]) == 2
    assert "model.safetensors" in complaint(capsys)


def test_several_translations_are_written_with_numbers_and_scores(
    model_dir: Path, translator: Translator, tmp_path: Path, capsys: Captured
) -> None:
    lines = ["I see trees.", "", "you want bread! We see Paris."]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
    asked = [str(model_dir), "--input", str(tmp_path / "in.txt"), "--beam", "3", "--n-best", "2"]
    assert main(["translate", *asked]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    sentences = ["I see trees.", "you want bread!", "We see Paris."]
    one, two, three = translator.with_settings(beam=3, n_best=2).hypotheses(sentences)
    assert rows == [
        *(["1", f"{t.score:.4f}", t.text] for t in one),
        ["2", "0.0000", ""],
        *(
            ["3", f"{a.score + b.score:.4f}", f"{a.text} {b.text}"]
            for a, b in zip(two, three, strict=True)
        ),
    ]
    assert len(rows) == 5


def test_all_that_is_known_of_a_translation_is_json(
    model_dir: Path, translator: Translator, capsys: Captured
) -> None:
    assert main(["translate", str(model_dir), "I see trees. 12:30 You want bread!", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    sentences = ["I see trees.", "12:30 You want bread!"]
    found = translator.hypotheses(sentences)
    assert told == {
        "line": 1,
        "source": " ".join(sentences),
        "translation": translator.translate([" ".join(sentences)])[0],
        "sentences": [
            {"source": source, "translations": [asdict(best)]}
            for source, [best] in zip(sentences, found, strict=True)
        ],
    }


def test_what_stays_as_it_is_has_its_place_in_json(
    model_dir: Path, translator: Translator, capsys: Captured
) -> None:
    assert main(["translate", str(model_dir), "12:30", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["translation"] == "12:30"
    [sentence] = told["sentences"]
    assert sentence["translations"][0]["text"] == "12:30"


def test_words_are_drawn_by_the_seed(model_dir: Path, capsys: Captured) -> None:
    def drawn(seed: int) -> str:
        options = ["--temperature", "3", "--n-best", "8", "--seed", str(seed)]
        assert main(["translate", str(model_dir), "I see trees.", *options]) == 0
        return capsys.readouterr().out

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--n-best", "3"], "n_best 3 needs a beam"),
        (["--beam", "0"], "beam: "),
        (["--top-k", "2"], "need a temperature"),
        (["--temperature", "1", "--beam", "2"], "beam 1"),
    ],
)
def test_ways_of_decoding_that_do_not_go_together_are_bad_input(
    options: list[str], told: str, model_dir: Path, capsys: Captured
) -> None:
    assert main(["translate", str(model_dir), "I see trees.", *options]) == 2
    assert told in complaint(capsys)


def test_weights_with_a_tensor_missing_are_bad_input(broken: Path, capsys: Captured) -> None:
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("decoder.output.bias")
    save_file(tensors, broken / "model.safetensors")
    assert main(["translate", str(broken), "I see trees."]) == 2
    assert "model.safetensors" in complaint(capsys)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "flavour", "vanilla"),
        (None, "format_version", 1),
        ("model", "heads", 8),
        ("model", "hidden_size", 0),
        ("model", "cell", "transformer"),
    ],
)
def test_a_model_config_with_a_wrong_key_or_value_is_bad_input(
    section: str | None, key: str, value: object, broken: Path, capsys: Captured
) -> None:
    tree = json.loads((broken / "config.json").read_text())
    (tree[section] if section else tree)[key] = value
    (broken / "config.json").write_text(json.dumps(tree))
    assert main(["translate", str(broken), "I see trees."]) == 2
    assert key in complaint(capsys)


def test_a_config_of_another_size_than_the_weights_is_bad_input(
    broken: Path, capsys: Captured
) -> None:
    tree = json.loads((broken / "config.json").read_text())
    tree["model"]["hidden_size"] *= 2
    (broken / "config.json").write_text(json.dumps(tree))
    assert main(["translate", str(broken), "I see trees."]) == 2
    assert "model.safetensors" in complaint(capsys)


def test_a_corpus_is_no_model(corpus: Corpus, capsys: Captured) -> None:
    assert main(["translate", str(corpus.path), "I see trees."]) == 2
    assert "not a model directory" in complaint(capsys)


# ---- evaluate -----------------------------------------------------------------------------------


def test_evaluate_prints_json_with_both_accuracies_and_signed_scores(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    flags = ["--corpus", str(corpus.path), "--split", "test", "--json"]
    assert main(["evaluate", str(model_dir), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["part"] == "test"
    assert result["pairs"] == corpus.manifest.rows["test"]
    assert result["loss"] > 0
    assert 0 < result["token_accuracy"] <= result["padded_accuracy"] <= 1
    assert [score["name"] for score in result["scores"]] == ["BLEU", "chrF2", "TER"]
    for score in result["scores"]:
        assert 0 <= score["score"] <= 100
        assert "version:" in score["signature"]


def test_evaluate_finds_what_training_found(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    assert main(["evaluate", str(model_dir), "--corpus", str(corpus.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    best = json.loads((model_dir / "metrics.json").read_text())["best"]
    assert result["loss"] == pytest.approx(best["valid_loss"], rel=1e-5)
    assert result["token_accuracy"] == pytest.approx(best["valid_token_accuracy"])
    assert result["padded_accuracy"] == pytest.approx(best["valid_padded_accuracy"])


def test_evaluate_scores_against_all_references_of_a_sentence(
    model_dir: Path, pairs: Pairs, prepared: Prepare, translator: Translator, capsys: Captured
) -> None:
    more = [(source, f"{target} vraiment") for source, target in pairs[::2]]
    corpus = prepared([*pairs, *more])
    assert main(["evaluate", str(model_dir), "--corpus", str(corpus.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = corpus.split("valid")
    references: dict[str, list[str]] = {}
    for source, target in zip(rows["source"], rows["target"], strict=True):
        references.setdefault(source, []).append(target)
    assert told["sentences"] == len(references) < told["pairs"] == len(rows)
    first = [group[0] for group in references.values()]
    second = [group[1] if len(group) > 1 else None for group in references.values()]
    direct = BLEU(force=True).corpus_score(translator.translate(list(references)), [first, second])
    assert told["scores"][0]["score"] == pytest.approx(direct.score)
    assert "nrefs:var" in told["scores"][0]["signature"]


def test_evaluate_prints_a_table_for_people(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    assert main(["evaluate", str(model_dir), "--corpus", str(corpus.path)]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("token accuracy", "padded accuracy", "BLEU", "chrF2"))


def test_evaluate_on_a_broken_corpus_is_bad_input(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    assert main(["evaluate", str(model_dir), "--corpus", str(tmp_path)]) == 2
    assert "not a corpus directory" in complaint(capsys)


def test_evaluate_of_a_part_that_is_not_there_is_bad_input(
    model_dir: Path, pairs: Pairs, prepared: Prepare, capsys: Captured
) -> None:
    corpus = prepared(pairs, test=0)
    flags = ["--corpus", str(corpus.path), "--split", "test"]
    assert main(["evaluate", str(model_dir), *flags]) == 2
    assert "no split 'test'" in complaint(capsys)


def test_evaluate_between_other_languages_is_bad_input(
    model_dir: Path, pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["--source", str(pairs_file), "--out", str(tmp_path / "c"), "--languages", "de-nl"]
    flags += ["--corpus.valid", "0.2", "--corpus.test", "0.2", "--corpus.no-check-languages"]
    assert main(["prepare", "demo", "--languages", "en-fr", *flags]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(model_dir), "--corpus", str(tmp_path / "c")]) == 2
    assert "en-fr" in complaint(capsys)


def test_evaluate_counts_sentences_that_the_model_has_no_word_of(
    pairs: Pairs, prepared: Prepare, tiny: Config, capsys: Captured, tmp_path: Path
) -> None:
    # A model that keeps only letters, and a corpus with numbers prepared for one that keeps all.
    tutorial = prepared(pairs, text="tutorial")
    config = tiny.model_copy(
        update={"text": tutorial.manifest.config.text, "train": TrainConfig(epochs=1)}
    )
    train_model(tutorial, config, tmp_path)
    numbers = prepared([*pairs, *((f"{n}", f"{n} mots") for n in range(200))])
    assert main(["evaluate", str(tmp_path), "--corpus", str(numbers.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == numbers.manifest.rows["valid"]


def test_evaluate_scores_a_normalising_model_on_both_kinds_of_references(
    pairs: Pairs, prepared: Prepare, tiny: Config, capsys: Captured, tmp_path: Path
) -> None:
    corpus = prepared(pairs, text="tutorial")
    config = tiny.model_copy(
        update={"text": corpus.manifest.config.text, "train": TrainConfig(epochs=1)}
    )
    train_model(corpus, config, tmp_path)
    assert main(["evaluate", str(tmp_path), "--corpus", str(corpus.path), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [(score["name"], score["references"]) for score in scores] == [
        ("BLEU", "as read"),
        ("chrF2", "as read"),
        ("TER", "as read"),
        ("BLEU", "normalised"),
        ("chrF2", "normalised"),
        ("TER", "normalised"),
    ]
