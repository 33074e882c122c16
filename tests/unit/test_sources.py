"""Every kind of source gives its pairs, and every row of a broken one is accounted for."""

import csv
import gzip
import io
import json
import os
import random
import re
import shutil
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from html import escape
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import CleanConfig, CorpusConfig, DataConfig
from s2s.corpus import Corpus, Manifest
from s2s.errors import BadInput
from s2s.preparation import Source, discovery, prepare
from s2s.preparation.execution import SilentProgress
from s2s.preparation.readers import FORMATS, read_origin
from tests.support.corpora import Pairs, prepare_file

DATA = Path(os.environ.get("S2S_DATA", "/nowhere"))
ALL = CleanConfig(
    encoding=False, control=False, markup=False, script=False, identical=False,
    max_characters=None, max_ratio=None, duplicate=False,
)  # fmt: skip
KEEP_ALL = DataConfig(corpus=CorpusConfig(split="random", valid=0.1, test=0.1, clean=ALL))


def tatoeba() -> Pairs:
    """Real sentences with every kind of mark; made ones where there are none."""
    path = DATA / "fra-eng" / "fra-eng.zip"
    if not path.is_file():
        return [(f'He said: "{n}, & < 5".', f"« {n} »\u202f; l'été, c’est…") for n in range(300)]
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/fra.txt") and "MACOSX" not in n)
        lines = archive.read(name).decode().splitlines()[::557]
    return [tuple(line.split("\t")[:2]) for line in lines]  # type: ignore[misc]


PAIRS = tatoeba()


def write(path: Path, content: str | bytes) -> Path:
    """A file of this content, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def tsv(folder: Path, name: str = "pairs.tsv", rows: Pairs = PAIRS) -> Path:
    return write(folder / name, "".join(f"{s}\t{t}\n" for s, t in rows))


def csv_of(rows: Pairs, *header: str) -> str:
    box = io.StringIO(newline="")
    writer = csv.writer(box)
    writer.writerow(header)
    writer.writerows([n, t, s] for n, (s, t) in enumerate(rows))
    return box.getvalue()


def jsonl(rows: Pairs) -> str:
    return "".join(json.dumps({"id": 1, "en": s, "fr": t}) + "\n" for s, t in rows)


def translation(rows: Pairs) -> str:
    pairs = [{"translation": {"en": s, "fr": t}} for s, t in rows]
    return "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)


def dataset(rows: Pairs) -> datasets.Dataset:
    features = datasets.Features(
        {"id": datasets.Value("string"), "translation": datasets.Translation(["en", "fr"])}
    )
    lines = [{"id": str(n), "translation": {"en": s, "fr": t}} for n, (s, t) in enumerate(rows)]
    return datasets.Dataset.from_list(lines, features=features)


def parquet(folder: Path) -> Path:
    dataset(PAIRS).to_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def saved(folder: Path) -> Path:
    dataset(PAIRS).save_to_disk(folder / "saved")
    return folder / "saved"


def moses(folder: Path, packed: str = "", rows: Pairs = PAIRS, stem: str = "train") -> Path:
    write(folder / f"{stem}.fr{packed}", "".join(f"{t}\n" for _, t in rows))
    return write(folder / f"{stem}.en{packed}", "".join(f"{s}\n" for s, _ in rows))


def tmx(rows: Pairs) -> str:
    units = "".join(
        f'<tu><tuv xml:lang="FR-fr"><seg>{escape(t, quote=False)}</seg></tuv><prop>x</prop>'
        f'<tuv xml:lang="en"><seg><bpt i="1"/>{escape(s, quote=False)}</seg></tuv></tu>\n'
        for s, t in rows
    )
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
        f'<tmx version="1.4"><header srclang="en"/><body>{units}</body></tmx>'
    )


def po(rows: Pairs) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    head = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    unique = dict(rows)
    return head + "".join(f"msgid {quoted(s)}\nmsgstr {quoted(t)}\n\n" for s, t in unique.items())


def zipped(folder: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(folder / "corpus.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "corpus.zip"


JUNK: dict[str, str | bytes] = {
    "__MACOSX/x/._fra.txt": b"\x00\x05\x16\x07", "x/_about.txt": "About\n", "README": "Hi\n"
}  # fmt: skip


def en_fr(suffix: str, content: Callable[[Pairs], str]) -> Callable[[Path], Path]:
    return lambda folder: write(folder / f"pairs{suffix}", content(PAIRS))


def moses_zip(folder: Path) -> Path:
    sides = {".en": 0, ".fr": 1}
    members = {f"b.en-fr{end}": "".join(f"{p[i]}\n" for p in PAIRS) for end, i in sides.items()}
    return zipfile_of(folder, members)


def zipfile_of(folder: Path, members: dict[str, str]) -> Path:
    return zipped(folder, {**JUNK, **members})


FORMS: dict[str, Callable[[Path], Path]] = {
    "tsv": tsv,
    "tsv with attribution": lambda f: write(
        f / "p.txt", "".join(f"{s}\t{t}\tCC\n" for s, t in PAIRS)
    ),
    "tsv with a header": lambda f: write(
        f / "p.tsv", "id\tFR\tEN\tx\n" + "".join(f"1\t{t}\t{s}\t\n" for s, t in PAIRS)
    ),
    "tsv.gz": lambda f: tsv(f, "p.tsv.gz"),
    "tsv without a name": lambda f: tsv(f, "pairs"),
    "tsv in CRLF with BOM": lambda f: write(
        f / "p.tsv", "\ufeff" + "".join(f"{s}\t{t}\r\n" for s, t in PAIRS)
    ),
    "csv": en_fr(".csv", lambda rows: csv_of(rows, "id", "fr", "en")),
    "csv.gz": en_fr(".csv.gz", lambda rows: csv_of(rows, "n", "target", "Source")),
    "jsonl": en_fr(".jsonl", jsonl),
    "jsonl of translations": en_fr(".jsonl.gz", translation),
    "jsonl named txt": en_fr(".txt", translation),
    "json array": en_fr(".json", lambda rows: json.dumps([{"en": s, "fr": t} for s, t in rows])),
    "parquet": parquet,
    "saved by datasets": saved,
    "moses": moses,
    "moses.gz": lambda f: moses(f, ".gz"),
    "tmx": en_fr(".tmx", tmx),
    "tmx.gz": en_fr(".tmx.gz", tmx),
    "zip of tsv": lambda f: zipfile_of(f, {"x/fra.txt": "".join(f"{s}\t{t}\n" for s, t in PAIRS)}),
    "zip of moses": moses_zip,
    "zip of jsonl": lambda f: zipfile_of(
        f, {"a.jsonl": jsonl(PAIRS[:50]), "b.jsonl": jsonl(PAIRS[50:])}
    ),
    "zip of tmx": lambda f: zipfile_of(f, {"en-fr.tmx": tmx(PAIRS)}),
    "a folder of two": lambda f: (
        tsv(tsv(f / "d", "a.tsv", PAIRS[:9]).parent, "b.tsv", PAIRS[9:]).parent
    ),
    "a pattern of two": lambda f: (
        tsv(tsv(f / "d", "a.tsv", PAIRS[:9]).parent, "b.tsv", PAIRS[9:]).parent / "?.t*v"
    ),
}


def rows_of(folder: Path) -> Pairs:
    corpus = Corpus.open(folder)
    splits = [corpus.split(split) for split in corpus.manifest.rows]
    return [pair for p in splits for pair in zip(p["source"], p["target"], strict=True)]


def accounted(manifest: Manifest) -> bool:
    return manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    manifest = prepare_file(path, KEEP_ALL, tmp_path / "out")
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS)
    assert manifest.read == len(PAIRS)
    assert manifest.drops == {}


def test_the_documentation_names_every_suffix() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text("utf-8")
    suffixes = [suffix for known in FORMATS.values() for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes)) > 0
    assert [suffix for suffix in suffixes if f"{suffix}`" not in page] == []


def test_tmx_may_have_a_namespace(tmp_path: Path) -> None:
    content = tmx(PAIRS).replace('<tmx version="1.4">', '<tmx version="1.4" xmlns="http://x.org">')
    prepare_file(write(tmp_path / "p.tmx", content), KEEP_ALL, tmp_path / "out")
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS)


@pytest.mark.parametrize("span", [1, 40, 1_000])
@pytest.mark.parametrize("header", ["", "en\tfr\n", "\ufeffen\tfr\n"])
def test_a_file_read_in_ranges_gives_the_same_rows(
    span: int, header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "RANGE_BYTES", span)
    rows = PAIRS[:60]
    body = "".join(f"{s}\t{t}\r\n" for s, t in rows).removesuffix("\r\n")
    manifest = prepare_file(write(tmp_path / "p.tsv", header + body), KEEP_ALL, tmp_path / "out")
    assert manifest.read == 60
    assert sorted(rows_of(tmp_path / "out")) == sorted(rows)
    assert manifest.sources == (str(tmp_path / "p.tsv"),)


def test_the_memory_of_reading_tmx_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(units: int) -> int:
        path = write(tmp_path / f"{units}.tmx", tmx([("a sentence", "une phrase")] * units))
        source = Source(source=(str(path),), source_language="en", target_language="fr")
        (origin,) = discovery.find_origins(source, tmp_path)
        (tmp_path / f"folder{units}").mkdir()
        tracemalloc.start()
        for _ in read_origin(origin, source, tmp_path / f"folder{units}"):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(15_000) < 1.5 * peak(6_000)


def test_gettext_gives_its_messages(tmp_path: Path) -> None:
    more = (
        '#, fuzzy\nmsgid "unsure"\nmsgstr "incertain"\n\n'
        'msgid "untranslated"\nmsgstr ""\n\n'
        'msgid "%d file"\nmsgid_plural "%d files"\n'
        'msgstr[0] "%d fichier"\nmsgstr[1] "%d fichiers"\n\n'
        '#~ msgid "gone"\n#~ msgstr "parti"\n'
    )
    path = write(tmp_path / "fr.po", po(PAIRS) + more)
    manifest = prepare_file(path, KEEP_ALL, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert set(PAIRS) & set(rows) == set(dict(PAIRS).items())
    assert {("%d file", "%d fichier"), ("%d files", "%d fichiers")} <= set(rows)
    assert manifest.drops == {"empty": 1, "fuzzy": 1}
    assert accounted(manifest)


def test_columns_can_be_named_or_numbered(tmp_path: Path) -> None:
    named = write(tmp_path / "p.csv", csv_of(PAIRS, "id", "French text", "English text"))
    plain = write(tmp_path / "p.tsv", "".join(f"{t}\tx\t{s}\n" for s, t in PAIRS))
    for path, columns in [(named, ("English text", "french text")), (plain, ("3", "1"))]:
        out = tmp_path / f"out-{path.suffix}"
        source = Source(
            source=(str(path),), source_language="en", target_language="fr", columns=columns
        )
        prepare(source, KEEP_ALL, out)
        assert sorted(rows_of(out)) == sorted(PAIRS)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (("a", "b"), "no columns a and b among id, fr, en; name two with --columns"),
        (("1", "9"), "no columns 1 and 9 in a file of 3 columns"),
    ],
)
def test_columns_that_are_not_there_are_reported(
    columns: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "p.csv", csv_of(PAIRS, "id", "fr", "en"))
    source = Source(
        source=(str(path),), source_language="en", target_language="fr", columns=columns
    )
    with pytest.raises(BadInput, match=reason):
        prepare(source, KEEP_ALL, tmp_path / "out")


def test_several_sources_follow_each_other(tmp_path: Path) -> None:
    paths = (tsv(tmp_path, "a.tsv", PAIRS[:100]), moses(tmp_path, rows=PAIRS[100:]))
    source = Source(source=tuple(map(str, paths)), source_language="en", target_language="fr")
    assert prepare(source, KEEP_ALL, tmp_path / "out").read == len(PAIRS)
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS)


def test_a_source_without_rows_is_reported(tmp_path: Path) -> None:
    log: list[str] = []

    class Listening(SilentProgress):
        def log(self, text: str) -> None:
            log.append(text)

    paths = tsv(tmp_path), write(tmp_path / "none.tmx", tmx([]))
    source = Source(source=tuple(map(str, paths)), source_language="en", target_language="fr")
    assert prepare(source, KEEP_ALL, tmp_path / "out", Listening()).read == len(PAIRS)
    assert f"no rows in {paths[1]}" in log


def test_a_uri_is_read_through_fsspec(tmp_path: Path) -> None:
    moses(tmp_path / "store", ".gz")
    uri = (tmp_path / "store").as_uri() + "/train.*"
    assert prepare_file(uri, KEEP_ALL, tmp_path / "out").read == len(PAIRS)
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS)


@pytest.mark.parametrize("uri", ["file:///nowhere/at/all.tsv", "nostore://bucket/x.tsv"])
def test_a_uri_that_leads_nowhere_is_bad_input(uri: str, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=f"{re.escape(uri)}.*(no such file|cannot be read|nostore)"
    ) as caught:
        prepare_file(uri, KEEP_ALL, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


# ---- splits that the user brings -----------------------------------------------------------------


def test_splits_in_files_of_their_own_are_taken_as_they_are(tmp_path: Path) -> None:
    train, valid, test = PAIRS[:200], PAIRS[200:250], PAIRS[250:]
    valid = [*valid, train[0], ("<b>", "<i>")]  # a leak, and what cleaning would leave out
    source = Source(
        source=(str(moses(tmp_path, rows=train)),),
        valid=(str(moses(tmp_path, ".gz", valid, "valid")),),
        test=(str(tsv(tmp_path, "test.tsv", test)),),
        source_language="en",
        target_language="fr",
    )
    config = DataConfig(corpus=CorpusConfig(clean=ALL.model_copy(update={"markup": True})))
    manifest = prepare(source, config, tmp_path / "out")
    corpus = Corpus.open(tmp_path / "out")
    for split, rows in {"train": train, "valid": valid, "test": test}.items():
        assert (
            list(zip(corpus.split(split)["source"], corpus.split(split)["target"], strict=True))
            == rows
        )
    assert manifest.leak["valid"].shared_sources == 1
    assert manifest.leak["valid"].shared_targets == 1


def test_only_a_test_file_leaves_valid_to_be_split_off(tmp_path: Path) -> None:
    source = Source(
        source=(str(tsv(tmp_path, rows=PAIRS[:250])),),
        test=(str(tsv(tmp_path, "test.tsv", PAIRS[250:])),),
        source_language="en",
        target_language="fr",
    )
    config = DataConfig(corpus=CorpusConfig(valid=0.1, test=0.1))
    manifest = prepare(source, config, tmp_path / "out")
    assert manifest.rows["test"] == len(PAIRS) - 250
    assert 0 < manifest.rows["valid"] < 60
    assert accounted(manifest)


def test_the_splits_of_a_saved_dataset_are_parts(tmp_path: Path) -> None:
    splits = {"train": PAIRS[:200], "validation": PAIRS[200:230], "test": PAIRS[230:]}
    whole = datasets.DatasetDict({name: dataset(rows) for name, rows in splits.items()})
    whole.save_to_disk(tmp_path / "saved")
    config = DataConfig(corpus=CorpusConfig(clean=ALL))
    manifest = prepare_file(tmp_path / "saved", config, tmp_path / "out")
    assert manifest.rows == {"train": 200, "valid": 30, "test": len(PAIRS) - 230}


# ---- hub ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with the shape of a repository of the Hub: a card, and Parquet by configuration."""
    folder = tmp_path / "opus_books"
    for config, rows in {"en-fr": PAIRS[:200], "en-de": PAIRS[:5]}.items():
        (folder / config).mkdir(parents=True)
        dataset(rows).to_parquet(folder / config / "train-00000-of-00001.parquet")
    card = "".join(
        f"- config_name: {c}\n  data_files:\n  - split: train\n    path: {c}/train-*\n"
        for c in ("en-fr", "en-de")
    )
    write(folder / "README.md", f"---\nconfigs:\n{card}---\n# Books\n")
    return folder


def test_a_dataset_of_the_hub_is_read_by_name_and_configuration(hub: Path, tmp_path: Path) -> None:
    manifest = prepare_file(f"hub:{hub}:en-fr", KEEP_ALL, tmp_path / "out")
    assert manifest.read == 200
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS[:200])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hub:{hub}:en-xx", "no such dataset, configuration or split"),
        ("hub:{hub}:en-fr:nosplit", "no such dataset, configuration or split"),
        ("hub:nobody/nothing:en-fr", "no such dataset, configuration or split"),
        ("hub:", "expected hub:NAME:CONFIG"),
        ("hub:a:b:c:d", "expected hub:NAME:CONFIG"),
    ],
)
def test_a_hub_dataset_that_cannot_be_had_is_reported(
    name: str, reason: str, hub: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=f"hub:.*{reason}") as caught:
        prepare_file(name.format(hub=hub), KEEP_ALL, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1


# ---- what is broken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.tsv.gz", gzip.compress(b"a b\tc d\n" * 9_000)[:-20], "cannot be read"),
        ("a.csv", "x,y\n1,2\n", "no columns en and fr among x, y"),
        ("a.tmx", tmx(PAIRS)[:-40], "cannot be read"),
        ("a.tmx", "<tmx><body><tu>&bomb;</tu></body></tmx>", "unit 1: undefined entity"),
        ("a.po", 'msgid "a"\nmsgstr "b"\nmsgid no quotes\n', "a.po"),
        ("a.parquet", b"PAR1 no parquet", "cannot be read"),
        ("a.en", "one\ntwo\n", "the other language"),
        ("a.json", '[{"en": "a", "fr": "b"},', "cannot be read"),
        ("a.jsonl", "[1]\n" * 5, "no usable pair in 5 rows .5 malformed"),
        ("a.zip", b"PK\x03\x04 no zip", "not a readable zip"),
    ],
)
def test_a_file_that_cannot_be_read_to_its_end_is_refused(
    name: str, content: bytes | str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadInput, match=reason) as caught:
        prepare_file(path, KEEP_ALL, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_quotation_mark_that_never_closes_is_reported(tmp_path: Path) -> None:
    rows = "".join(f"a {n},b {n}\n" for n in range(50))
    (tmp_path / "a.csv").write_text(f'en,fr\n{rows}"cut here,x\n{rows}', "utf-8")
    with pytest.raises(BadInput, match="row 52 never closes"):
        prepare_file(tmp_path / "a.csv", KEEP_ALL, tmp_path / "out")


@pytest.mark.parametrize("name", ["pairs.json", "pairs.JSON"])
def test_an_array_of_objects_is_read_element_by_element(name: str, tmp_path: Path) -> None:
    rows: list[object] = [{"en": s, "fr": t} for s, t in PAIRS]
    rows[5:5] = [None, {"en": 7, "fr": "x"}, {"en": 'She said "hi".', "fr": "b"}]
    (tmp_path / name).write_text(json.dumps(rows, indent=2), "utf-8")
    manifest = prepare_file(tmp_path / name, KEEP_ALL, tmp_path / "out")
    assert manifest.drops == {"columns": 1, "malformed": 1}
    assert set(rows_of(tmp_path / "out")) == {*PAIRS, ('She said "hi".', "b")}


def test_a_folder_of_mixed_files_gives_all_of_them(tmp_path: Path) -> None:
    moses(tmp_path / "d", rows=PAIRS[:50])
    tsv(tmp_path / "d", "p.tsv", PAIRS[50:100])
    (tmp_path / "d" / "notes.md").write_text("no data")
    zipfile_of(tmp_path / "d", {"a.tsv": "".join(f"{s}\t{t}\n" for s, t in PAIRS[100:])})
    prepare_file(tmp_path / "d", KEEP_ALL, tmp_path / "out")
    assert sorted(rows_of(tmp_path / "out")) == sorted(PAIRS)


@pytest.mark.parametrize("folder", ["v[2]", "a*b", "what?"])
def test_the_place_of_the_corpus_may_have_any_name(folder: str, tmp_path: Path) -> None:
    prepare_file(tsv(tmp_path), KEEP_ALL, tmp_path / folder / "out")
    assert sorted(rows_of(tmp_path / folder / "out")) == sorted(PAIRS)


def test_a_split_that_its_source_does_not_have_is_reported(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": dataset(PAIRS)}).save_to_disk(tmp_path / "saved")
    source = Source(
        source=(str(tsv(tmp_path)),), valid=(str(tmp_path / "saved"),),
        source_language="en", target_language="fr",
    )  # fmt: skip
    with pytest.raises(BadInput, match="no rows for the split 'valid'"):
        prepare(source, KEEP_ALL, tmp_path / "out")


def test_a_folder_of_the_users_own_is_never_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "out.run").mkdir()
    (tmp_path / "out.run" / "thesis.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(BadInput, match="no run made it"):
            prepare_file(tsv(tmp_path), KEEP_ALL, tmp_path / "out", restart=restart)
    assert (tmp_path / "out.run" / "thesis.txt").read_text() == "mine"


def test_moses_files_of_different_length_are_refused(tmp_path: Path) -> None:
    path = moses(tmp_path)
    with (tmp_path / "train.fr").open("a") as file:
        file.write("une de trop\n")
    with pytest.raises(BadInput, match=f"{len(PAIRS):,} and {len(PAIRS) + 1:,} lines"):
        prepare_file(path, KEEP_ALL, tmp_path / "out")


LINES = {
    ".tsv": b"good row %d\tbonne ligne %d\n",
    ".csv": b"good row %d,bonne ligne %d\n",
    ".jsonl": b'{"en": "good row %d", "fr": "bonne ligne %d"}\n',
}
NASTY = st.sampled_from(
    [
        b"", b"\x00", b"\xff\xfe\xfd", b"\xef\xbb\xbf", b"a\tb\tc\td\te", b"a\tb", b"a,b,c",
        b'"open', b"{", b'{"en": 1}', b'{"en": "\\ud800", "fr": "x"}', b"&lt;\t<b>", b"\xc3",
        b"\x1a",        b"\xe2\x80\x8f\xe2\x80\xae\t\xe2\x80\xac", b"\r", b"x" * 1_000_000,
        b"y" * 500_000 + b"\t" + b"z" * 500_000, "Привет\tbonjour".encode(), "😀\t😀".encode(),
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(LINES)),
    lines=st.lists(NASTY | st.binary(max_size=30), max_size=12),
    end=st.sampled_from([b"\n", b"\r\n"]),
    packed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_row_of_a_fuzzed_file_is_accounted_for(
    kind: str, lines: list[bytes], end: bytes, packed: bool, seed: int
) -> None:
    body = [LINES[kind] % (n, n) for n in range(60)] + [line + end for line in lines]
    random.Random(seed).shuffle(body)
    raw = (b"en,fr\n" if kind == ".csv" else b"") + b"".join(body)
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / f"pairs{kind}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(raw) if packed else raw)
        config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
        try:
            manifest = prepare_file(path, config, folder / "out")
        except BadInput as error:  # an open quote may swallow the rest of a CSV file
            assert kind == ".csv"
            assert len(str(error).splitlines()) == 1
        else:
            assert accounted(manifest)
            if kind != ".csv":
                assert manifest.read >= 60
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(not DATA.is_dir(), reason="S2S_DATA is not there")
@pytest.mark.parametrize("text", ["", ".lc.norm.tok"])
def test_multi30k_comes_with_its_own_parts(text: str, tmp_path: Path) -> None:
    folder = DATA / "multi30k"
    source = Source(
        source=(str(folder / f"train{text}.en.gz"),),
        valid=(str(folder / f"val{text}.en.gz"),),
        test=(str(folder / f"test_2016_flickr{text}.en.gz"),),
        source_language="en",
        target_language="fr",
    )
    config = DataConfig(corpus=CorpusConfig(clean=ALL))
    manifest = prepare(source, config, tmp_path / "out")
    assert manifest.rows == {"train": 29_000, "valid": 1_014, "test": 1_000}
    assert manifest.drops == {}
    with gzip.open(folder / f"val{text}.fr.gz", "rt", encoding="utf-8") as file:
        wanted = [line.strip() for line in file]
    assert Corpus.open(tmp_path / "out").split("valid")["target"][:] == wanted
