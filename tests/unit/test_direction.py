"""The direction of translation: required, unless the sources state it, and always shown."""

from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from s2s.preparation.direction import stated_languages

TMX = """<?xml version="1.0"?><tmx version="1.4"><header srclang="{srclang}" segtype="sentence"/>
<body><tu><tuv xml:lang="fr-CA"><seg>Bonjour.</seg></tuv>
<tuv xml:lang="en"><seg>Hello.</seg></tuv>{more}</tu></body></tmx>"""


@pytest.mark.parametrize(
    ("srclang", "more", "expected"),
    [
        ("en", "", ("en", "fr-CA")),
        ("fr-CA", "", ("fr-CA", "en")),
        ("*all*", "", None),
        ("en", '<tuv xml:lang="de"><seg>Hallo.</seg></tuv>', None),
    ],
)
def test_a_tmx_file_states_its_source_language(
    srclang: str, more: str, expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    file = tmp_path / "memory.tmx"
    file.write_text(TMX.format(srclang=srclang, more=more), "utf-8")
    assert stated_languages([str(file)]) == expected


@pytest.mark.parametrize(
    ("files", "source", "expected"),
    [
        (["train.de", "train.en"], ["train.de"], ("de", "en")),
        (["train.de", "train.en"], ["train.en", "train.de"], ("en", "de")),
        (["train.en.gz", "train.pt-BR.gz"], ["train.en.gz"], ("en", "pt-BR")),
        (["train.de", "train.en", "train.fr"], ["train.de"], None),
        (["train.de", "train.bpe", "train.txt", "train.log"], ["train.de"], None),
        (["pairs.tsv", "pairs.en"], ["pairs.tsv"], None),
        (["a.de", "a.en", "b.de", "b.fr"], ["a.de", "b.de"], None),
        ([], ["demo"], ("en", "fr")),
        ([], ["hub:opus100:de-en"], ("de", "en")),
        ([], ["hub:opus100"], None),
        ([], ["no/such/file.tsv"], None),
    ],
)
def test_names_state_languages(
    files: list[str], source: list[str], expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text("Hallo.\n" * 5)
    names = [str(tmp_path / name) if name in files else name for name in source]
    assert stated_languages(names) == expected


def test_prepare_and_train_begin_with_the_direction(
    pairs_file: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = ["prepare", "demo", "--source", str(pairs_file), "--out", str(tmp_path / "c")]
    assert main(prepare) == 2
    assert "--languages is needed, as the source does not state" in capsys.readouterr().err
    assert main([*prepare, "--languages", "en:pt-BR", "--corpus.no-check-languages"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "from English to Portuguese (Brazil) (en:pt-BR)"
    small = ["--train.epochs", "1", "--model.hidden-size", "8", "--decode.max-length", "12"]
    out = ["--corpus", str(corpus.path), "--out", str(tmp_path / "m")]
    assert main(["train", "demo", *out, *small]) == 0
    assert capsys.readouterr().out.startswith("from English to French (en-fr)\n")


def test_vocabularies_state_the_languages_of_their_model(
    pairs_file: Path, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = ["prepare", "demo", "--source", str(pairs_file), "--out", str(tmp_path / "c")]
    assert main([*prepare, "--vocabularies", str(model_dir)]) == 0
    assert capsys.readouterr().out.startswith("from English to French (en-fr)\n")
