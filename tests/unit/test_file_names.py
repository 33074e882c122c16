"""What names of files say: their split, their language, and what is no data."""

from pathlib import Path

import datasets
import pytest

from s2s.errors import BadInput
from s2s.preparation.file_names import ParallelFiles, is_data, split_of_name
from tests.support.sources import origins_of, pairs_of, source_of, splits_of

EN_FR = ("en", "fr")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.en", "train"),
        ("train-00000-of-00001.parquet", "train"),
        ("validation-00000-of-00002.parquet", "valid"),
        ("val.lc.norm.tok.en.gz", "valid"),
        ("DEV.TSV", "valid"),
        ("dev2010.en", "valid"),
        ("src-val.txt", "valid"),
        ("test_2016_flickr.fr.gz", "test"),
        ("newstest2014-src.en", "test"),
        ("opus.en-fr-dev.en", "valid"),
        ("Tatoeba-test.eng-fra.tsv", "test"),
        ("corpus.test.bpe.en", "test"),
        ("test_set.csv", "test"),
        ("test/pairs.tsv", "test"),
        ("data/valid/x.jsonl", "valid"),
        ("fra.txt", ""),
        ("latest.tsv", ""),
        ("unit-test-strings.po", ""),
        ("train-test.tsv", ""),
        ("contest.en", ""),
    ],
)
def test_a_name_says_which_split_a_file_holds(name: str, split: str) -> None:
    assert split_of_name(name, EN_FR) == split


@pytest.mark.parametrize(
    ("names", "languages"),
    [
        ("train.en train.fr", "en fr"),
        ("train.en.gz train.fr.gz", "en fr"),
        ("train.EN train.FR", "en fr"),
        ("train.en-US train.fr_CA", "en fr"),
        ("train.eng train.fra", "en fr"),
        ("news.pt-BR news.EN", "pt en"),
        ("news.pt_BR.txt news.pt_PT.txt", "pt_BR pt_PT"),
        ("a.zh-Hans a.en", "zh en"),
        ("train.en.txt train.fr.txt", "en fr"),
        ("train-en.txt train-fr.txt", "en fr"),
        ("src-train.txt tgt-train.txt", "en fr"),
        ("train.src train.trg", "en fr"),
        ("val.source val.target", "en fr"),
        ("source target", "en fr"),
        ("en fr", "en fr"),
        ("dev/eng_Latn.dev dev/fra_Latn.dev", "en fr"),
        ("x/b.en-fr.en x/b.en-fr.fr", "en fr"),
    ],
)
def test_two_files_whose_names_differ_in_the_language_are_parallel(
    names: str, languages: str
) -> None:
    one, two = names.split()
    source, target = languages.split()
    parallel = ParallelFiles([*names.split(), "README", "pairs.tsv"], (source, target))
    assert parallel.pair(one) == parallel.pair(two) == (one, two)
    assert parallel.missing(one) is None


@pytest.mark.parametrize(
    "names", ["en.po fr.po", "en.json fr.json", "a.en.tsv a.fr.tsv", "a.en b.fr", "a.en a.fr.gz"]
)
def test_other_files_are_not_parallel(names: str) -> None:
    one, two = names.split()
    parallel = ParallelFiles([one, two], EN_FR)
    assert parallel.pair(one) is None
    assert parallel.pair(two) is None


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("train.en", "train.fr"), ("train.fr.txt", "train.en.txt"), ("source", "target"),
        ("tgt-train.txt", "src-train.txt"), ("pairs.tsv", None),
    ],
)  # fmt: skip
def test_the_file_of_the_other_language_has_a_name(name: str, missing: str | None) -> None:
    assert ParallelFiles([name], EN_FR).missing(name) == missing


def test_readmes_and_licences_are_no_data() -> None:
    others = ["README", "readme.txt", "x/LICENSE-2.0.txt", "metadata.json", "__MACOSX/a.tsv"]
    assert [name for name in [*others, "_about.txt", ".a.tsv"] if is_data(name)] == []
    assert all(map(is_data, ["fra.txt", "notices.tsv", "licensed.en", "x/train.en"]))


# ---- folders that come with their splits ---------------------------------------------------------


def fill(folder: Path, *names: str) -> Path:
    """A folder with files of two rows each, in which the name of the file stands."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            datasets.Dataset.from_dict({"en": [name], "fr": [name]}).to_parquet(path)
        elif name.endswith(".jsonl"):
            path.write_text(f'{{"en": "{name}", "fr": "{name}"}}\n')
        else:
            path.write_text(f"{name}\t{name}\n" if name.endswith(".tsv") else f"{name}\n")
    return folder


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            "train.en train.fr val.en val.fr test.en test.fr",
            {
                "train.en and train.fr": "",
                "val.en and val.fr": "valid",
                "test.en and test.fr": "test",
            },
        ),
        (
            "src-train.txt tgt-train.txt src-val.txt tgt-val.txt",
            {"src-train.txt and tgt-train.txt": "", "src-val.txt and tgt-val.txt": "valid"},
        ),
        ("train.tsv extra.tsv dev.tsv", {"train.tsv": "", "extra.tsv": "", "dev.tsv": "valid"}),
        ("corpus.jsonl test.jsonl", {"corpus.jsonl": "", "test.jsonl": "test"}),
        (
            "train-00000-of-00001.parquet validation-00000-of-00001.parquet",
            {
                "train-00000-of-00001.parquet": "",
                "validation-00000-of-00001.parquet": "valid",
            },
        ),
        ("train/a.tsv test/a.tsv", {"train/a.tsv": "", "test/a.tsv": "test"}),
        ("a.tsv b.tsv README.txt", {"a.tsv": "", "b.tsv": ""}),
        ("test.tsv", {"test.tsv": ""}),
    ],
)
def test_a_folder_is_split_by_its_files(names: str, splits: dict[str, str], tmp_path: Path) -> None:
    assert splits_of(fill(tmp_path, *names.split())) == splits


def test_named_files_and_patterns_are_split_by_their_names_too(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "test.tsv")
    for paths in ([folder / "train.tsv", folder / "test.tsv"], [folder / "*.tsv"]):
        assert splits_of(*paths) == {"train.tsv": "", "test.tsv": "test"}
    assert splits_of(folder / "test.tsv") == {"test.tsv": ""}


def test_a_folder_with_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, "dev.tsv", "test.tsv")
    with pytest.raises(BadInput, match="none is to train on"):
        splits_of(folder)
    assert splits_of(folder / "dev.tsv", folder / "test.tsv") == {"dev.tsv": "", "test.tsv": ""}


def test_a_split_may_be_taken_from_a_folder_that_has_others(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "dev.tsv", "test.tsv", "test-2.tsv")
    source = source_of(folder / "train.tsv", valid=(str(folder),), test=(f"{folder}/test*",))
    found = [(Path(origin.label).name, origin.split) for origin in origins_of(source)]
    assert found == [
        ("train.tsv", ""), ("dev.tsv", "valid"), ("test-2.tsv", "test"), ("test.tsv", "test")
    ]  # fmt: skip
    named = source_of(folder / "train.tsv", valid=(str(folder / "test.tsv"),))
    assert [origin.split for origin in origins_of(named)] == ["", "valid"]
    other = fill(tmp_path / "other", "test-3.tsv") / "test-3.tsv"
    both = source_of(folder / "train.tsv", valid=(str(folder), str(other)))
    assert [Path(origin.label).name for origin in origins_of(both)] == [
        "train.tsv", "dev.tsv", "test-3.tsv"
    ]  # fmt: skip


def test_variants_of_a_language_in_a_folder_are_all_read(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.en", "train.fr", "train.fr-CA")
    assert pairs_of(folder) == [("train.en", "train.fr"), ("train.en", "train.fr-CA")]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("train.EN", "train.fr"),
        ("src-train.txt", "tgt-train.txt"),
        ("train.en.txt", "train.fr.txt"),
        ("source", "target"),
    ],
)
def test_the_file_that_is_missing_is_named(name: str, missing: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=missing):
        origins_of(source_of(fill(tmp_path, name) / name))


def test_a_file_of_tabs_is_no_half_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "fra.txt").write_text("Go.\tVa !\n")
    (tmp_path / "eng.txt").write_text("Va !\tGo.\n")
    assert pairs_of(tmp_path / "fra.txt") == [("Go.", "Va !")]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    for name in ("-", "/dev/null"):
        with pytest.raises(BadInput, match="save what it gives to a file"):
            origins_of(source_of(name))
