"""Corpus directories: what is read, what is left out and counted, how rows are split."""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import Config, CorpusConfig, DataConfig
from s2s.corpus import Corpus, Manifest
from s2s.errors import BadInput
from s2s.preparation.sentence_keys import sentence_key
from s2s.presets import PRESETS
from s2s.text.vocabulary import EOS
from s2s.training.run import run_config
from tests.support.corpora import Pairs, Prepare, prepare_file

GOOD = "".join(f"the cat {n} sleeps .\tle chat {n} dort .\n" for n in range(60)).encode()
CONFIG = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
REAL = Path(os.environ.get("S2S_DATA", "/nowhere")) / "fra-eng" / "fra-eng.zip"


def prepare_bytes(content: bytes, folder: Path, config: DataConfig = CONFIG) -> Manifest:
    """Prepare a file of this content into `folder/corpus`."""
    (folder / "pairs.txt").write_bytes(content)
    return prepare_file(folder / "pairs.txt", config, folder / "corpus")


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of these members."""
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return box.getvalue()


def all_pairs(folder: Path) -> Counter[tuple[str, str]]:
    """The sentence pairs of all splits."""
    corpus = Corpus.open(folder / "corpus")
    pairs: Counter[tuple[str, str]] = Counter()
    for split in corpus.manifest.rows:
        rows = corpus.split(split)
        pairs.update(zip(rows["source"], rows["target"], strict=True))
    return pairs


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD, id="two columns"),
        pytest.param(GOOD.replace(b" .\n", b" .\tCC-BY 2.0\n"), id="three columns"),
        pytest.param(GOOD.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="byte order mark"),
        pytest.param(GOOD.rstrip(b"\n"), id="no newline at the end"),
        pytest.param(GOOD.replace(b"\t", b" \t  "), id="spaces around cells"),
        pytest.param(zipped({"fra.txt": GOOD}), id="zip"),
        pytest.param(
            zipped(
                {
                    "fra/fra.txt": GOOD,
                    "fra/_about.txt": b"About\n",
                    "__MACOSX/fra/._fra.txt": b"\x00\x05\x16\x07junk",
                    "__MACOSX/._fra": b"junk",
                    ".DS_Store": b"junk",
                }
            ),
            id="zip with junk",
        ),
    ],
)
def test_every_form_of_a_source_gives_the_same_pairs(content: bytes, tmp_path: Path) -> None:
    manifest = prepare_bytes(content, tmp_path)
    wanted = {tuple(line.split("\t")) for line in GOOD.decode().splitlines()}
    assert manifest.read == 60
    assert manifest.drops == {}
    assert set(all_pairs(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"\t", "empty"),
        (b"\t\t", "empty"),
        (b"source without target\t", "empty"),
        (b"\tcible sans source", "empty"),
        (b"one column", "columns"),
        (b"a\tb\tc\td", "columns"),
        (b"caf\xe9\tcaf\xe9", "encoding"),
        (b"ok\t\xff\xfe", "encoding"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_by_its_reason(
    line: bytes, reason: str, tmp_path: Path
) -> None:
    manifest = prepare_bytes(line + b"\n" + GOOD + line + b"\n", tmp_path)
    assert manifest.drops == {reason: 2}
    assert manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())


def test_a_sentence_without_words_is_counted(tmp_path: Path) -> None:
    config = PRESETS["seed"]()
    manifest = prepare_bytes(GOOD + b"123\tcent\n" + b"ten\t10\n", tmp_path, config)
    assert manifest.drops == {"no_words": 2}
    assert sum(manifest.rows.values()) == 60


def test_a_mark_alone_is_no_sentence(tmp_path: Path) -> None:
    manifest = prepare_bytes(GOOD + b"?\t!\n", tmp_path, PRESETS["seed"]())
    assert manifest.drops == {"no_words": 1}


def test_only_the_first_rows_are_read_when_asked(tmp_path: Path) -> None:
    config = DataConfig(corpus=CorpusConfig(rows=40, valid=0.2, test=0.2))
    manifest = prepare_bytes(GOOD, tmp_path, config)
    assert manifest.read == 40
    assert set(all_pairs(tmp_path)) == {
        tuple(line.split("\t")) for line in GOOD.decode().splitlines()[:40]
    }


# Lines that the usual fault-free sources have, and what breaks readers.
byte_lines = st.lists(
    st.sampled_from([b"a\tb", b"", b"\xe9\tb", b"a", b"a\tb\tc\td", b"\xef\xbb\xbf", b"\x00\t\x00"])
    | st.binary(max_size=12),
    max_size=12,
)


@settings(max_examples=20)
@given(lines=byte_lines, good=st.booleans(), end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_bytes_are_accounted_for_or_refused(lines: list[bytes], good: bool, end: bytes) -> None:
    content = (GOOD if good else b"") + end.join(lines)
    with tempfile.TemporaryDirectory() as folder:
        try:
            manifest = prepare_bytes(content, Path(folder))
        except BadInput as error:
            assert not good
            assert len(str(error).splitlines()) == 1
            assert names(Path(folder)) == ["pairs.txt"]
        else:
            assert manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())
            assert sum(all_pairs(Path(folder)).values()) == sum(manifest.rows.values())


# ---- refusing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty", id="empty file"),
        pytest.param(b"\n\n\n", "no usable pair in 3 rows", id="blank lines"),
        pytest.param(b"a\nb\n", "2 columns", id="no tabs"),
        pytest.param(b"a\tb\n", "too few", id="one pair"),
        pytest.param(b"\xef\xbb\xbf", "no usable pair in 0 rows", id="byte order mark alone"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "no usable", id="an image"),
        pytest.param(zipped({}), "it contains nothing", id="empty zip"),
        pytest.param(zipped({"a.doc": GOOD}), "it contains a.doc", id="zip without text"),
        pytest.param(
            zipped({"a.txt": GOOD}).replace(b"sleeps", b"weeps!", 1),
            "cannot be read",
            id="zip bit rot",
        ),
        pytest.param(zipped({"a.txt": GOOD})[:-30], "not a readable zip", id="zip cut short"),
        pytest.param(zipped({"a.txt": GOOD})[200:], "cannot be read", id="zip without its head"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_in_a_line_and_leaves_nothing(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=reason) as caught:
        prepare_bytes(content, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert "pairs.txt" in str(caught.value)
    assert names(tmp_path) == ["pairs.txt"]


@pytest.mark.parametrize("sentence", ["one", "two", "three", "wrong"])
def test_one_sentence_again_and_again_cannot_be_split(sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"too few") as caught:
        prepare_bytes(f"{sentence}\tfaux\n".encode() * 60, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path) == ["pairs.txt"]


def test_a_broken_file_named_zip_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "pairs.zip").write_bytes(zipped({"a.txt": GOOD})[:-30])
    with pytest.raises(BadInput, match=r"pairs\.zip: not a readable zip"):
        prepare_file(tmp_path / "pairs.zip", CONFIG, tmp_path / "corpus")
    assert names(tmp_path) == ["pairs.zip"]


@pytest.mark.parametrize("source", ["nowhere.txt", ".", "no/such/folder/pairs.zip", ""])
def test_a_source_that_is_not_there_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such file|no file of a known format") as caught:
        prepare_file(tmp_path / source, CONFIG, tmp_path / "corpus")
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path) == []


def test_what_is_there_already_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "precious").write_text("mine")
    with pytest.raises(BadInput, match="exists already") as caught:
        prepare_bytes(GOOD, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "corpus" / "precious").read_text() == "mine"
    assert names(tmp_path) == ["corpus", "pairs.txt"]


@pytest.mark.parametrize("below", ["corpus", "folder/corpus"])
def test_a_place_below_a_file_is_bad_input(below: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(GOOD)
    with pytest.raises(BadInput, match=r"pairs\.txt"):
        prepare_file(tmp_path / "pairs.txt", CONFIG, tmp_path / "pairs.txt" / below)


def test_nothing_is_left_beside_a_corpus(tmp_path: Path) -> None:
    prepare_bytes(GOOD, tmp_path)
    assert names(tmp_path) == ["corpus", "pairs.txt"]


@pytest.mark.parametrize(
    "name", ["pairs [1].txt", "pairs*.txt", "a::b.txt", ".hidden.txt", "paires été.txt", "pairs"]
)
def test_a_source_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(GOOD)
    # What `name` would match as a pattern must not be read in its place, or beside it.
    (tmp_path / "pairs 1.txt").write_bytes(GOOD.replace(b"cat", b"dog"))
    manifest = prepare_file(tmp_path / name, CONFIG, tmp_path / "corpus")
    assert manifest.read == 60
    assert not any("dog" in source for source, _ in all_pairs(tmp_path))


# ---- splitting ----------------------------------------------------------------------------------


def placed(rows: Pairs, config: CorpusConfig, folder: Path) -> dict[str, Counter[tuple[str, str]]]:
    """The rows of each split of a corpus prepared from these, which begin with enough for all."""
    folder.mkdir()
    lines = "".join(f"{source}\t{target}\n" for source, target in [*FILLING, *rows])
    prepare_bytes(lines.encode(), folder, DataConfig(corpus=config))
    corpus = Corpus.open(folder / "corpus")
    return {
        split: Counter(
            zip(corpus.split(split)["source"], corpus.split(split)["target"], strict=True)
        )
        for split in corpus.manifest.rows
    }


FILLING = [(f"filling {n}", f"remplissage {n}") for n in range(80)]
# Keys of few different sentences, so that they meet often.
sentences = st.sampled_from(["Go!", "go", "GO .", "Stop", "stop?", "Run…", "É a", "é  A", "un x"])
rows = st.lists(st.tuples(sentences, sentences), max_size=40)
grouped = st.builds(
    CorpusConfig, valid=st.floats(0.15, 0.4), test=st.floats(0.15, 0.4), seed=st.integers(0, 99)
)


@settings(max_examples=25)
@given(rows, grouped)
def test_no_held_out_sentence_is_trained_on(rows: Pairs, config: CorpusConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        splits = placed(rows, config, Path(folder) / "one")
        manifest = Corpus.open(Path(folder) / "one" / "corpus").manifest
    for side in (0, 1):
        keys = {
            split: {sentence_key(row[side]) for row in members} for split, members in splits.items()
        }
        assert not keys["train"] & (keys["valid"] | keys["test"])
        assert not keys["valid"] & keys["test"]
    assert all(leak.shared_sources == leak.shared_targets == 0 for leak in manifest.leak.values())
    assert manifest.read == 80 + len(rows)
    assert manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())


@settings(max_examples=15)
@given(rows, rows, grouped)
def test_adding_rows_moves_none_to_another_split(
    rows: Pairs, more: Pairs, config: CorpusConfig
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = placed(rows, config, Path(folder) / "before")
        after = placed(rows + more, config, Path(folder) / "after")
    homes = {row: split for split, members in before.items() for row in members}
    for split, members in after.items():
        for row in members:
            assert homes.get(row, split) == split


def test_a_grouped_split_has_about_the_shares_asked_for(prepared: Prepare) -> None:
    numbers = [(f"sentence {n}", f"phrase {n}") for n in range(5_000)]
    corpus = prepared(numbers, valid=0.1, test=0.2)
    assert corpus.manifest.drops == {}
    assert corpus.manifest.rows["valid"] / 5_000 == pytest.approx(0.1, abs=0.02)
    assert corpus.manifest.rows["test"] / 5_000 == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("kind", ["grouped", "random"])
def test_another_seed_holds_out_other_rows(kind: str, prepared: Prepare) -> None:
    numbers = [(f"sentence {n}", f"phrase {n}") for n in range(500)]
    first, second = (prepared(numbers, split=kind, seed=seed).split("valid") for seed in (0, 1))
    assert first["source"][:] != second["source"][:]


@pytest.mark.parametrize(("valid", "test"), [(0.1, 0.0), (0.02, 0.3), (0.45, 0.45)])
def test_a_random_split_has_the_sizes_asked_for(
    valid: float, test: float, prepared: Prepare
) -> None:
    numbers = [(f"sentence {n}", f"phrase {n}") for n in range(300)]
    corpus = prepared(numbers, split="random", valid=valid, test=test)
    assert corpus.manifest.rows["valid"] == round(300 * valid)
    assert corpus.manifest.rows.get("test", 0) == round(300 * test)
    assert sum(corpus.manifest.rows.values()) == 300


def test_the_leak_of_a_random_split_is_reported(prepared: Prepare) -> None:
    pairs = [(f"Sentence {n // 2}!", f"phrase {n}") for n in range(400)]
    pairs += [(f"other {n}", f"Autre {n % 50}.") for n in range(400)]
    corpus = prepared(pairs, split="random", valid=0.2, test=0.1)
    train = [
        {sentence_key(s) for s in corpus.split("train")[side]} for side in ("source", "target")
    ]
    for split, leak in corpus.manifest.leak.items():
        rows = corpus.split(split)
        assert leak.shared_sources == sum(sentence_key(s) in train[0] for s in rows["source"]) > 0
        assert leak.shared_targets == sum(sentence_key(s) in train[1] for s in rows["target"]) > 0


def test_references_are_counted_by_source(prepared: Prepare) -> None:
    pairs = [(f"alone {n}", f"seul {n}") for n in range(100)]
    pairs += [(f"{word} {n}", f"deux {word} {n}") for n in range(100) for word in ("Two!", "two")]
    corpus = prepared(pairs)
    total: Counter[int] = Counter()
    for split, histogram in corpus.manifest.references.items():
        assert sum(n * rows for n, rows in histogram.items()) == corpus.manifest.rows[split]
        total.update(histogram)
    assert total == {1: 100, 2: 100}


def test_equal_rows_are_kept_once(prepared: Prepare) -> None:
    pairs = [(f"row {n % 100}", f"ligne {n % 100}") for n in range(250)]
    assert prepared(pairs).manifest.drops == {"duplicate": 150}
    kept = prepared(pairs, clean={"duplicate": False}).manifest
    assert kept.drops == {}
    assert sum(kept.rows.values()) == 250


@pytest.mark.parametrize("kind", ["grouped", "random"])
def test_no_share_for_test_makes_no_test_split(kind: str, pairs: Pairs, prepared: Prepare) -> None:
    corpus = prepared(pairs, split=kind, test=0)
    assert list(corpus.manifest.rows) == ["train", "valid"]
    assert not (corpus.path / "test").exists()


@pytest.mark.parametrize("whole", ["all", "train"])
def test_the_vocabulary_is_of_the_rows_asked_for(whole: str, prepared: Prepare) -> None:
    pairs = [(f"word{n}", f"mot{n}") for n in range(100)]
    corpus = prepared(pairs, vocabulary_from=whole)
    rows = 100 if whole == "all" else corpus.manifest.rows["train"]
    assert corpus.manifest.vocabulary == {"source": rows, "target": rows}


# ---- the directory ------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(prepare_bytes(GOOD, tmp_path / name))
    assert made[0].sha256 == made[1].sha256
    assert made[0].sha256


def test_the_manifest_hashes_what_is_in_the_directory(corpus: Corpus) -> None:
    files = {f.relative_to(corpus.path).as_posix() for f in corpus.path.rglob("*.arrow")}
    assert set(corpus.manifest.sha256) == {"source.json", "target.json", *files}
    for name, digest in corpus.manifest.sha256.items():
        assert hashlib.sha256((corpus.path / name).read_bytes()).hexdigest() == digest


def test_the_splits_open_with_datasets_alone(corpus: Corpus) -> None:
    for split, rows in corpus.manifest.rows.items():
        shard = datasets.load_from_disk(str(corpus.path / split))
        assert shard.column_names == ["source", "target", "source_ids", "target_ids"]
        assert len(shard) == rows


def test_the_columns_hold_what_the_model_sees_of_the_sentences(corpus: Corpus) -> None:
    for row in corpus.split("train"):
        assert corpus.source.decode(row["source_ids"]) == row["source"]
        assert corpus.target.decode(row["target_ids"][:-1]) == row["target"]
        assert row["target_ids"][-1] == EOS
        assert EOS not in row["target_ids"][:-1]


def test_the_longest_sentences_are_in_the_manifest(corpus: Corpus) -> None:
    lengths = {
        side: max(
            len(ids) for split in corpus.manifest.rows for ids in corpus.split(split)[f"{side}_ids"]
        )
        for side in ("source", "target")
    }
    assert corpus.manifest.longest == lengths


def test_a_model_of_passages_translates_them_whole(
    pairs: Pairs, prepared: Prepare, tiny: Config
) -> None:
    def share(passages: int) -> tuple[float, bool | None]:
        """The share of passages in a corpus, and how its model splits texts."""
        rows = [
            (f"{a} {c}", f"{b} {d}") if number < passages else (a, b)
            for number, ((a, b), (c, d)) in enumerate(pairwise(pairs))
        ]
        corpus = prepared(rows)
        counts, sizes = corpus.manifest.several_sentences, corpus.manifest.rows
        assert sum(counts.values()) == passages
        decode = run_config(corpus, tiny.model, tiny.train, tiny.decode).decode
        return counts["train"] / sizes["train"], decode.split_sentences

    few, many = share(40), share(150)
    assert few[0] < 1 / 2 < many[0]
    assert (few[1], many[1]) == (None, False)


def test_a_corpus_of_an_older_version_is_one_of_sentences(corpus: Corpus) -> None:
    manifest = json.loads((corpus.path / "corpus.json").read_text("utf-8"))
    del manifest["several_sentences"]
    older = Manifest.from_json(json.dumps(manifest), "corpus.json")
    assert older.several_sentences == {}
    assert not older.of_passages


def test_the_manifest_has_the_exact_settings(corpus: Corpus, pairs_file: Path) -> None:
    assert corpus.manifest.config == DataConfig(corpus=CorpusConfig(valid=0.1, test=0.1))
    assert corpus.manifest.sources == (str(pairs_file),)
    assert json.loads((corpus.path / "corpus.json").read_text())["format_version"] == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("corpus.json", None),
        ("corpus.json", b"{}"),
        ("corpus.json", b'{"format_version": 2}'),
        ("source.json", None),
        ("target.json", b"junk"),
    ],
)
def test_a_broken_directory_is_bad_input(file: str, content: bytes | None, tmp_path: Path) -> None:
    prepare_bytes(GOOD, tmp_path)
    broken = tmp_path / "corpus" / file
    broken.unlink() if content is None else broken.write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(file)) as caught:
        Corpus.open(tmp_path / "corpus")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("how", ["absent", "cut", "junk"])
def test_a_broken_split_is_bad_input(file: str, how: str, tmp_path: Path) -> None:
    prepare_bytes(GOOD, tmp_path)
    broken = tmp_path / "corpus" / "train" / file
    whole = broken.read_bytes()
    broken.unlink()
    if how != "absent":
        broken.write_bytes(whole[: len(whole) // 3] if how == "cut" else b"\xff" * len(whole))
    with pytest.raises(BadInput, match="/train cannot be read") as caught:
        Corpus.open(tmp_path / "corpus").split("train")
    assert len(str(caught.value).splitlines()) == 1


def test_a_split_that_is_not_there_is_bad_input(corpus: Corpus) -> None:
    with pytest.raises(BadInput, match="no split 'dev'; it has train, valid, test"):
        corpus.split("dev")


# ---- the real thing -----------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_file(), reason="S2S_DATA has no fra-eng/fra-eng.zip")
def test_the_tutorials_corpus_has_the_tutorials_facts(tmp_path: Path) -> None:
    manifest = prepare_file(REAL, PRESETS["seed"](), tmp_path / "corpus")
    assert manifest.read == 33_000
    assert manifest.rows == {"train": 29_700, "valid": 3_300}
    assert manifest.drops == {}
    assert manifest.vocabulary == {"source": 4_672, "target": 8_083}
    assert manifest.longest == {"source": 8, "target": 16}
