"""Languages that a normaliser cannot spell, rows without letters, and scripts without spaces."""

import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest

from s2s.cli.main import main
from s2s.config import CleanConfig, CorpusConfig, DataConfig, TextConfig
from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import SIDES
from s2s.errors import BadInput
from s2s.preparation import Source, prepare
from s2s.preparation.execution import SilentProgress
from s2s.preparation.file_names import ParallelFiles
from s2s.preparation.spelling import LOSSY, find_lost_letters
from s2s.presets import PRESETS
from s2s.text.normalise import WordSplitter
from s2s.text.units import fit_units
from tests.support.corpora import Pairs

RUSSIAN = [(f"the cat number {'x' * n}", f"Кошка номер {'ж' * n}.") for n in range(1, 40)]
GERMAN = [(f"the cat {'x' * n}", f"die süße Maus {'y' * n}") for n in range(1, 40)]
FRENCH = [(f"the cat {'x' * n}", f"le cœur {'y' * n}") for n in range(1, 40)]


class Listening(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def prepared(
    rows: Pairs, target: str, config: DataConfig, folder: Path, test: Pairs | None = None
) -> tuple[Manifest, list[str]]:
    """The manifest of a corpus of rows, and what was said as it was made."""
    files = []
    for name, content in (("rows.tsv", rows), ("test.tsv", test or [])):
        if content:
            (folder / name).write_text("".join(f"{s}\t{t}\n" for s, t in content), "utf-8")
            files.append(str(folder / name))
    languages = {"source_language": "en", "target_language": target}
    source = Source(source=tuple(files[:1]), test=tuple(files[1:]), **languages)
    progress = Listening()
    config = config.model_copy(update=languages)
    manifest = prepare(source, config, folder / "corpus", progress)
    assert manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())
    return manifest, progress.lines


# ---- lost letters --------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "language"), [(RUSSIAN, "ru"), ([("a cat", "猫")] * 9, "zh")])
def test_a_language_that_a_normaliser_cannot_spell_is_refused(
    rows: Pairs, language: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"loses 100 %.*--text\.normaliser lossless"):
        prepared(rows, language, PRESETS["seed"](), tmp_path)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(("rows", "language", "lost"), [(GERMAN, "de", "ß"), (FRENCH, "fr", "œ")])
def test_letters_that_a_normaliser_loses_are_told(
    rows: Pairs, language: str, lost: str, tmp_path: Path
) -> None:
    manifest, _ = prepared(rows, language, PRESETS["seed"](), tmp_path)
    letters = manifest.lost_letters["target"]
    assert letters.lost == {lost: len(rows)}
    assert letters.letters == sum(map(str.isalpha, "".join(target for _, target in rows)))
    [warning] = [each.text for each in manifest.warnings if each.kind == "lost_letters"]
    assert f"({lost})" in warning
    assert f"{100 * letters.share:.3g} %" in warning
    assert not manifest.lost_letters["source"].lost


def test_all_other_normalisers_keep_every_letter() -> None:
    # Without most ideographs and syllables, which are alike, and forms of vowel signs.
    codes = [*range(0x3500), *range(0xA000, 0xAD00), *range(0xF900, 0x17000)]
    letters = [
        character
        for character in map(chr, codes)
        if unicodedata.category(unicodedata.normalize("NFKC", character)[-1])[0] == "L"
    ]
    texts = pa.array([" ".join(letters[n : n + 100]) for n in range(0, len(letters), 100)])
    for config in (
        TextConfig(normaliser="lossless", source_normaliser="simplified"),
        TextConfig(normaliser="tokenised"),
    ):
        for side in SIDES:
            assert config.normaliser_of(side) not in LOSSY
            found = find_lost_letters(texts, WordSplitter(config, side).split)
            assert not found.lost, (config, side)
            assert found.letters > 10_000


def test_russian_is_spelled_by_lossless_text(tmp_path: Path) -> None:
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    manifest, _ = prepared(RUSSIAN, "ru", config, tmp_path)
    assert (manifest.drops, manifest.lost_letters) == ({}, {})
    assert not any(warning.kind == "lost_letters" for warning in manifest.warnings)


# ---- rows without letters ------------------------------------------------------------------------


@pytest.mark.parametrize("normaliser", ["lossless", "tutorial", "tokenised"])
def test_rows_without_a_letter_are_no_pairs(normaliser: str, tmp_path: Path) -> None:
    config = DataConfig(
        corpus=CorpusConfig(valid=0.2, test=0.2, clean=CleanConfig(identical=False)),
        text=TextConfig(normaliser=normaliser),
    )
    odd = [("?!", "..."), ("10:30", "22 h 30"), ("twelve", "12"), ("🙂", "☺ ♥")]
    manifest, _ = prepared([*FRENCH, *odd], "fr", config, tmp_path)
    assert manifest.drops["no_words"] == len(odd)


def test_rows_of_a_given_split_are_kept_if_they_have_any_token(tmp_path: Path) -> None:
    config = DataConfig(corpus=CorpusConfig(valid=0.2))
    test = [("?!", "..."), ("12", "12"), ("a cat", "un chat")]
    manifest, _ = prepared(FRENCH, "fr", config, tmp_path, test)
    assert manifest.rows["test"] == 3


# ---- scripts without spaces ----------------------------------------------------------------------

CHINESE = [
    (f"The {en} cat sees {n} dogs.", f"那只{zh}的猫看见了{n}只狗。")
    for n in range(2, 40)
    for en, zh in [("red", "红色"), ("green", "绿色"), ("small", "小"), ("old", "老")]
]


@pytest.mark.parametrize(
    ("flags", "units"),
    [([], "bpe"), (["--text.units", "word"], "word"), (["--text.units=word"], "word")],
)
def test_a_script_without_spaces_gets_subwords_unless_the_user_wants_words(
    flags: list[str], units: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("".join(f"{s}\t{t}\n" for s, t in CHINESE), "utf-8")
    out = ["--out", str(tmp_path / "corpus"), "--corpus.valid", "0.1", "--corpus.test", "0.1"]
    arguments = ["prepare", "demo", "--source", str(file), "--languages", "en-zh", *out, *flags]
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    manifest = Corpus.open(tmp_path / "corpus").manifest
    assert manifest.config.text.units == units
    assert ("Chinese has no spaces between words" in said) == (units == "bpe")
    unknown = manifest.known["valid"]["target"].unknown_rate
    assert unknown < 0.02 if units == "bpe" else unknown > 0.4


def test_subwords_of_chinese_are_no_phrases_that_occur_a_few_times() -> None:
    preset = PRESETS["base"]().text
    for text in (preset, preset.model_copy(update={"units": "bpe"})):
        fitting, why = fit_units(text, ("en", "zh-Hant"))
        assert (fitting.units, fitting.min_frequency) == ("bpe", 50)
        assert "Chinese has no spaces between words" in why
        assert fit_units(fitting, ("en", "zh")) == (fitting, "")
    for languages in (("en", "fr"), ("en", "ko"), ("en", "hi")):
        assert fit_units(preset, languages) == (preset, "")
    tokenised = TextConfig(normaliser="tokenised")
    assert fit_units(tokenised, ("zh", "en")) == (tokenised, "")


# ---- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("languages", "files", "named", "stored"),
    [
        ("en-pt_BR", ("train.en", "train.pt-BR"), "train.pt-BR", ("en", "pt-BR")),
        ("en-pt-BR", ("train.eng", "train.pt_br"), "train.eng", ("en", "pt-BR")),
        ("en:pt-BR", ("train.en", "train.pt"), "", ("en", "pt-BR")),
        ("eng-fra", ("Train.EN", "Train.FR"), "Train.FR", ("en", "fr")),
        ("sr_Latn-en", ("train.sr-Latn", "train.en-GB"), "", ("sr-Latn", "en")),
    ],
)
def test_files_are_found_by_any_spelling_of_a_code(
    languages: str,
    files: tuple[str, str],
    named: str,
    stored: tuple[str, str],
    tmp_path: Path,
) -> None:
    for name, word in zip(files, ("cat", "macska"), strict=True):
        lines = [f"{word} {'x' * n}\n" for n in range(1, 60)]
        (tmp_path / name).write_text("".join(lines), "utf-8")
    out = tmp_path / "corpus"
    flags = ["--languages", languages, "--out", str(out)]
    flags += ["--corpus.valid", "0.2", "--corpus.test", "0.2"]
    assert (
        main(["prepare", "demo", "--languages", "en-fr", "--source", str(tmp_path / named), *flags])
        == 0
    )
    manifest = Corpus.open(out).manifest
    config = manifest.config
    assert (config.source_language, config.target_language) == stored
    assert (manifest.read, manifest.drops) == (59, {})
    assert Corpus.open(out).split("train")["source"][0].startswith("cat")


def test_the_file_of_the_same_case_is_the_other_one() -> None:
    names = ["Train.EN", "Train.FR", "train.en", "train.pt-BR"]
    portuguese, french = ParallelFiles(names, ("en", "pt-BR")), ParallelFiles(names, ("en", "fr"))
    assert portuguese.pair("train.en") == ("train.en", "train.pt-BR")
    assert portuguese.pair("train.pt-BR") == ("train.en", "train.pt-BR")
    assert french.pair("Train.EN") == french.pair("Train.FR") == ("Train.EN", "Train.FR")


@pytest.mark.parametrize("keys", [("pt-BR", "EN"), ("pt_br", "eng"), ("pt", "en-US")])
def test_columns_are_found_by_any_spelling_of_a_code(keys: tuple[str, str], tmp_path: Path) -> None:
    rows = "".join(f'"um gato {n}","a cat {n}"\n' for n in range(80))
    (tmp_path / "rows.csv").write_text(f'"{keys[0]}","{keys[1]}"\n{rows}', "utf-8")
    flags = ["--source", str(tmp_path / "rows.csv"), "--languages", "en-pt-BR"]
    flags += ["--out", str(tmp_path / "c"), "--corpus.valid", "0.2", "--corpus.test", "0.2"]
    assert main(["prepare", "demo", "--languages", "en-fr", *flags]) == 0
    assert Corpus.open(tmp_path / "c").split("train")["source"][0].startswith("a cat")
