"""Words of training rows that are read with a typo, or as unknown."""

from collections import Counter
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.config import DataConfig
from s2s.corpus import Corpus
from s2s.text.vocabulary import UNK
from tests.support.corpora import prepare_file

NAMES = ("Ada", "Boris", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hugo")
PLACES = ("garden", "kitchen", "museum", "station", "harbour", "library")
LIEUX = ("jardin", "cuisine", "musée", "gare", "port", "bibliothèque")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pairs, each with a name that stays as it is."""
    path = tmp_path_factory.mktemp("noise") / "pairs.tsv"
    path.write_text(
        "".join(
            f"{name} is in the {place}.\t{name} est dans: {lieu}.\n"
            for name in NAMES
            for place, lieu in zip(PLACES, LIEUX, strict=True)
        )
    )
    return path


def corpus(file: Path, out: Path, **noise: float) -> Corpus:
    config = DataConfig.model_validate(
        {
            "text": {"source_normaliser": "simplified", "units": "bpe", "vocabulary_size": 90},
            "corpus": {"valid": 0.2, "test": 0.0, "split": "random", **noise},
        }
    )
    prepare_file(file, config, out)
    return Corpus.open(out)


def read_words(corpus: Corpus, split: str, side: str) -> list[list[str]]:
    """The words of a side as a model reads them, row by row."""
    vocabulary = corpus.source if side == "source" else corpus.target
    rows = corpus.split(split)[f"{side}_ids"][:]
    ends = [ids[:-1] if side == "target" else ids for ids in rows]
    return [vocabulary.decode(ids).replace(".", " .").split() for ids in ends]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_typo_changes_a_word_of_the_source_alone(
    share: float, file: Path, tmp_path: Path
) -> None:
    plain, noisy = corpus(file, tmp_path / "a"), corpus(file, tmp_path / "b", typos=share)
    changed = 0
    for row, (before, after) in enumerate(
        zip(read_words(plain, "train", "source"), read_words(noisy, "train", "source"), strict=True)
    ):
        pairs = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(pairs) <= 1, row
        for word, typo in pairs:
            assert word[0] == typo[0]
            assert abs(len(word) - len(typo)) <= 1
            assert sum((Counter(word) - Counter(typo)).values()) <= 1
        changed += bool(pairs)
    rows = noisy.manifest.rows["train"]
    assert share * 0.4 * rows < changed == noisy.manifest.noise["typos"] <= rows
    for split, column in (("train", "target_ids"), ("train", "source"), ("valid", "source_ids")):
        assert plain.split(split)[column][:] == noisy.split(split)[column][:]


def test_a_name_is_read_as_unknown_on_both_sides(file: Path, tmp_path: Path) -> None:
    noisy = corpus(file, tmp_path / "c", unknown_words=1.0)
    assert noisy.manifest.noise == {"unknown_words": noisy.manifest.rows["train"]}
    sides = (read_words(noisy, "train", "source"), read_words(noisy, "train", "target"))
    for source, target in zip(*sides, strict=True):
        assert source[:4] == ["<unk>", "is", "in", "the"]
        assert target[:2] == ["<unk>", "est"]
    assert not any(UNK in ids for ids in noisy.split("valid")["source_ids"][:])


def test_noise_is_drawn_from_the_seed(file: Path, tmp_path: Path) -> None:
    one, same, other = (
        corpus(file, tmp_path / name, typos=0.5, unknown_words=0.5, seed=seed)
        for name, seed in (("d", 0), ("e", 0), ("f", 1))
    )
    assert one.manifest.sha256 == same.manifest.sha256 != other.manifest.sha256
    # The two kinds are drawn independently.
    assert 0 < one.manifest.noise["unknown_words"] < one.manifest.rows["train"]
    assert 0 < one.manifest.noise["typos"] < one.manifest.rows["train"]


def test_a_word_that_occurs_twice_is_unknown_in_all_its_places(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    rows = [f"{name} and {name} again\t{name} et {name} encore\n" for name in NAMES]
    path.write_text("".join(rows * 2))
    noisy = corpus(path, tmp_path / "out", unknown_words=1.0)
    for words in read_words(noisy, "train", "source"):
        assert words == ["<unk>", "and", "<unk>", "again"]


def test_noise_is_told(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--source", str(file), "--languages", "en-fr", "--out", str(tmp_path / "g")]
    shares = ["--corpus.typos", "0.4", "--corpus.unknown-words", "0.2", "--corpus.valid", "0.2"]
    assert main(["prepare", "base", "--languages", "en-fr", *flags, *shares]) == 0
    said = capsys.readouterr()
    noise = Corpus.open(tmp_path / "g").manifest.noise
    assert noise["typos"] > noise["unknown_words"] > 0
    assert f"{noise['typos']} have a typo in the source" in said.out + said.err
    assert main(["inspect", str(tmp_path / "g")]) == 0
    assert "unknown_words" in capsys.readouterr().out
