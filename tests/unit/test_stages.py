"""The stages of a preparation against plain Python, and interrupted at every point."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import CleanConfig, CorpusConfig, DataConfig, TextConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.preparation import selection, tables, writing
from s2s.preparation.sentence_keys import hash_texts, held_out_bounds, sentence_key
from s2s.preparation.tables import rechunk
from s2s.text.vocabulary import EOS, UNK, Vocabulary

import pyarrow as pa  # isort: skip
from tests.support.corpora import Pairs, prepare_file

FILLING = [(f"Filling {n} is n° {n // 3}.", f"Remplissage {n}, l'été !") for n in range(90)]


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "BUCKET_ROWS", 40)


def write(rows: Pairs, folder: Path) -> Path:
    path = folder / "rows.tsv"
    path.write_text("".join(f"{s}\t{t}\n" for s, t in rows), "utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def naive(rows: Pairs, config: CorpusConfig) -> tuple[dict[str, Pairs], Counter[str]]:
    """Cleaning of duplicates, grouped split and removal of leaks, row by row."""
    test, valid = held_out_bounds(config.test, config.valid)
    splits: dict[str, Pairs] = {"train": [], "valid": [], "test": []}
    drops: Counter[str] = Counter()
    seen = set()
    for row in rows:
        if row in seen:
            drops["duplicate"] += 1
            continue
        seen.add(row)
        (place,) = hash_texts(pa.array([sentence_key(row[0])]), config.seed)
        splits["test" if place < test else "valid" if place < valid else "train"].append(row)
    held: set[str] = set()
    for split in ("test", "valid", "train"):
        remaining = [row for row in splits[split] if sentence_key(row[1]) not in held]
        drops["target_leak"] += len(splits[split]) - len(remaining)
        held |= {sentence_key(target) for _, target in splits[split]}
        splits[split] = remaining
    return splits, drops


few = st.sampled_from(["Go!", "go", "GO .", "stop", "Stop?", "été", "É T É", "Ünï", "x y", "X  y"])


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(few, few), max_size=60), seed=st.integers(0, 50))
def test_the_stages_do_what_plain_python_does(
    rows: Pairs, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    clean = CleanConfig(identical=False)
    config = CorpusConfig(valid=0.3, test=0.2, seed=seed, clean=clean)
    rows = [*FILLING, *rows]
    splits, drops = naive(rows, config)
    manifest = prepare_file(
        write(rows, folder), DataConfig(corpus=config), folder / "out", chunk_rows=16
    )
    corpus = Corpus.open(folder / "out")
    for split, wanted in splits.items():
        got = corpus.split(split)
        assert list(zip(got["source"], got["target"], strict=True)) == wanted
    assert Counter(manifest.drops) == +drops


def test_a_chunk_without_a_usable_row_is_only_counted(tmp_path: Path) -> None:
    rows = [*FILLING[:40], *[("<b>", "x")] * 20, *FILLING[40:]]
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    manifest = prepare_file(write(rows, tmp_path), config, tmp_path / "out", chunk_rows=10)
    assert manifest.drops["markup"] == 20
    assert manifest.read == 110 == sum(manifest.rows.values()) + sum(manifest.drops.values())


@pytest.mark.parametrize(
    ("normaliser", "source_normaliser"),
    [("lossless", "same"), ("tutorial", "same"), ("lossless", "simplified")],
)
@pytest.mark.parametrize("units", ["word", "bpe", "unigram"])
@pytest.mark.parametrize("shared", [False, True])
def test_ids_are_those_of_the_saved_tokenizer(
    normaliser: str, source_normaliser: str, units: str, shared: bool, pairs: Pairs, tmp_path: Path
) -> None:
    text = TextConfig(
        normaliser=normaliser,
        source_normaliser=source_normaliser,
        units=units,
        shared=shared,
        vocabulary_size=60,
    )
    config = DataConfig(text=text, corpus=CorpusConfig(valid=0.2, test=0.2))
    manifest = prepare_file(write(pairs, tmp_path), config, tmp_path / "out", chunk_rows=25)
    corpus = Corpus.open(tmp_path / "out")
    for split in manifest.rows:
        rows = corpus.split(split)
        assert rows["source_ids"][:] == corpus.source.encode(rows["source"][:])
        ends = [[*ids, EOS] for ids in corpus.target.encode(rows["target"][:])]
        assert rows["target_ids"][:] == ends
        for side, ids in (("source", rows["source_ids"]), ("target", rows["target_ids"])):
            known, lengths = manifest.known[split][side], Counter(map(len, ids))
            tokens = sum(map(len, ids)) - (len(rows) if side == "target" else 0)
            assert known.tokens == tokens
            assert manifest.lengths[split][side] == lengths
            assert (known.unknown_rate > 0) == any(UNK in row for row in ids)
    if shared:
        assert corpus.source.tokens == corpus.target.tokens
        files = [(tmp_path / "out" / f"{side}.json").read_bytes() for side in ("source", "target")]
        assert (files[0] == files[1]) == (source_normaliser == "same")


@pytest.mark.parametrize("source_normaliser", ["same", "simplified"])
def test_the_vocabulary_is_that_of_the_training_sentences(
    source_normaliser: str, pairs: Pairs, tmp_path: Path
) -> None:
    text = TextConfig(source_normaliser=source_normaliser)
    config = DataConfig(text=text, corpus=CorpusConfig(valid=0.2, test=0.2))
    prepare_file(write(pairs, tmp_path), config, tmp_path / "out", chunk_rows=25)
    corpus = Corpus.open(tmp_path / "out")
    for side in ("source", "target"):
        vocabulary = Vocabulary.learn(corpus.split("train")[side], config.text, side)
        vocabulary.save(tmp_path / "naive.json")
        assert (tmp_path / "out" / f"{side}.json").read_bytes() == (
            tmp_path / "naive.json"
        ).read_bytes()


def backwards(function: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
    for item in reversed(items):
        function(item)
        yield item


class Cut:
    """Runs some items and then no more, as a killed process does."""

    def __init__(self, items: int) -> None:
        self.left = items

    def __call__(self, function: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            function(item)
            yield item


def test_an_interruption_at_any_point_leaves_no_trace(tmp_path: Path) -> None:
    rows = write([*FILLING, *FILLING[:9], ("<b>", "x")], tmp_path)
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    wanted = prepare_file(rows, config, tmp_path / "whole", chunk_rows=30)
    whole = contents(tmp_path / "whole")
    prepare_file(rows, config, tmp_path / "back", chunk_rows=30, execute=backwards)
    assert contents(tmp_path / "back") == whole
    every = Cut(1_000)
    prepare_file(rows, config, tmp_path / "counted", chunk_rows=30, execute=every)
    items = 1_000 - every.left
    assert items > 15
    for point in range(items):
        out = tmp_path / f"cut{point}"
        rest = Cut(items - point)  # enough only if no item is done again
        with pytest.raises(KeyboardInterrupt):
            prepare_file(rows, config, out, chunk_rows=30, execute=Cut(point))
        assert not out.exists()
        assert prepare_file(rows, config, out, chunk_rows=30, execute=rest) == wanted
        assert contents(out) == whole


def test_a_run_whose_sources_have_changed_is_refused_and_kept(tmp_path: Path) -> None:
    rows = write(FILLING, tmp_path)
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    with pytest.raises(KeyboardInterrupt):
        prepare_file(rows, config, tmp_path / "out", execute=Cut(3))
    before = contents(tmp_path / "out.run")
    write(FILLING[1:], tmp_path)
    with pytest.raises(BadInput, match="have changed since"):
        prepare_file(rows, config, tmp_path / "out")
    assert contents(tmp_path / "out.run") == before
    manifest = prepare_file(rows, config, tmp_path / "out", restart=True)
    assert manifest.read == len(FILLING) - 1


@pytest.mark.parametrize("layout", [None, 1])
def test_a_run_of_an_older_version_is_refused_and_kept(layout: int | None, tmp_path: Path) -> None:
    rows = write(FILLING, tmp_path)
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    with pytest.raises(KeyboardInterrupt):
        prepare_file(rows, config, tmp_path / "out", execute=Cut(3))
    file = tmp_path / "out.run" / "run.json"
    run = json.loads(file.read_bytes())
    del run["layout"]
    file.write_text(json.dumps({**run, **({"layout": layout} if layout else {})}), "utf-8")
    before = contents(tmp_path / "out.run")
    with pytest.raises(BadInput, match=r"another version of s2s .*--restart") as caught:
        prepare_file(rows, config, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert contents(tmp_path / "out.run") == before
    assert prepare_file(rows, config, tmp_path / "out", restart=True).read == len(FILLING)


@pytest.mark.parametrize("content", ["", "{}", '{"rows": [90]}', '{"chunk_rows": "many"}'])
def test_a_broken_outcome_is_refused_in_a_line(content: str, tmp_path: Path) -> None:
    rows = write(FILLING, tmp_path)
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    with pytest.raises(KeyboardInterrupt):
        prepare_file(rows, config, tmp_path / "out", execute=Cut(1))
    (tmp_path / "out.run" / "read" / "000000.json").write_text(content, "utf-8")
    with pytest.raises(BadInput, match=r"read/000000\.json: ") as caught:
        prepare_file(rows, config, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1


def test_shards_are_bounded_and_keep_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 6_000)
    config = DataConfig(corpus=CorpusConfig(valid=0.1, test=0.1))
    prepare_file(write(FILLING, tmp_path), config, tmp_path / "out", chunk_rows=10)
    shards = sorted((tmp_path / "out" / "train").glob("*.arrow"))
    assert len(shards) > 1
    assert [shard.name for shard in shards] == [
        f"data-{n:05}-of-{len(shards):05}.arrow" for n in range(len(shards))
    ]
    assert all(shard.stat().st_size <= 6_000 for shard in shards)
    train = Corpus.open(tmp_path / "out").split("train")
    got = list(zip(train["source"], train["target"], strict=True))
    assert got == [row for row in FILLING if row in set(got)]


def test_chunks_are_bounded_by_rows_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    short = pa.table({"source": ["x"] * 100})
    long = pa.table({"source": ["x" * 1_000] * 100})
    assert [chunk.num_rows for chunk in rechunk([short, short, short], 128)] == [128, 128, 44]
    monkeypatch.setattr(tables, "CHUNK_BYTES", 100_000)
    assert [chunk.num_rows for chunk in rechunk([short, long, long], 10_000)] == [200, 100]
