"""Archives, compressed files and encodings: read, or refused by name; and what messages say."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from s2s.config import CorpusConfig, DataConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.preparation.discovery import describe_origins
from s2s.preparation.execution import SilentProgress
from tests.support.corpora import prepare_file
from tests.support.sources import origins_of, pairs_of, rows_of, source_of, splits_of

PAIRS = [(f"the {n} cats", f"les {n} chats, l'été « {n} »") for n in range(50)]
TSV = "".join(f"{s}\t{t}\n" for s, t in PAIRS)
MOSES = {"en": "".join(f"{s}\n" for s, _ in PAIRS), "fr": "".join(f"{t}\n" for _, t in PAIRS)}


def zstd(content: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(content)
    return buffer.getvalue().to_pybytes()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
    ".lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
}  # fmt: skip


def tar(members: dict[str, str | bytes], pack: Callable[[bytes], bytes] = bytes) -> bytes:
    box = io.BytesIO()
    with tarfile.open(fileobj=box, mode="w") as archive:
        for name, content in members.items():
            raw = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return pack(box.getvalue())


def zipped(members: dict[str, str | bytes]) -> bytes:
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return box.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---- compressed files and archives ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_files_are_read(suffix: str, tmp_path: Path) -> None:
    pack = COMPRESSIONS[suffix]
    assert pairs_of(write(tmp_path / f"p.tsv{suffix}", pack(TSV.encode()))) == PAIRS
    for language, text in MOSES.items():
        write(tmp_path / f"a.{language}{suffix}", pack(text.encode()))
    assert pairs_of(tmp_path / f"a.fr{suffix}") == PAIRS
    # They are told by their content: here the name says nothing.
    assert pairs_of(write(tmp_path / "unnamed", pack(TSV.encode()))) == PAIRS


README: dict[str, str | bytes] = {"x/README.txt": "a\tb\n", "x/LICENSE": "c", "x/.DS_Store": "d"}


@pytest.mark.parametrize(
    "name", ["a.tar", "a.tgz", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a"]
)
@pytest.mark.parametrize(
    "members",
    [
        {"x/p.tsv": TSV},
        {"./x/p.en": MOSES["en"], "./x/p.fr": MOSES["fr"]},
        {"x/source": MOSES["en"], "x/target": MOSES["fr"]},
        {"x/p.tsv.gz": gzip.compress(TSV.encode())},
    ],
)  # fmt: skip
def test_a_tar_is_read(name: str, members: dict[str, str | bytes], tmp_path: Path) -> None:
    pack = COMPRESSIONS.get(Path(name).suffix, gzip.compress if name == "a.tgz" else bytes)
    assert pairs_of(write(tmp_path / name, tar({**README, **members}, pack))) == PAIRS


@pytest.mark.parametrize("archive", [tar, zipped])
def test_an_archive_is_split_by_its_files(
    archive: Callable[[dict[str, str | bytes]], bytes], tmp_path: Path
) -> None:
    members: dict[str, str | bytes] = {"c/train.tsv": TSV, "c/dev.tsv": TSV, "c/test/x.tsv": TSV}
    path = write(tmp_path / "c.bin", archive(members))
    splits = {"c/train.tsv": "", "c/dev.tsv": "valid", "c/test/x.tsv": "test"}
    assert splits_of(path) == {f"c.bin/{name}": split for name, split in splits.items()}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "7z archive: unpack it"),
        ("a.tsv", b"Rar!\x1a\x07\x01\x00" + bytes(99), "RAR archive: unpack it"),
        ("a.tsv.lz4", b"\x04\x22\x4d\x18" + bytes(99), "lz4: unpack it"),
        ("a.xlsx", zipped({"[Content_Types].xml": "x", "xl/s.xml": "y"}), "Office document.*CSV"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Office document.*CSV"),
        ("a.zip", zipped({"p.zip": zipped({"p.tsv": TSV})}), "the archive p.zip: unpack it first"),
        ("a.tgz", tar({"p.tar": tar({"p.tsv": TSV})}, gzip.compress), "the archive p.tar: unpack"),
        ("a.tar", tar({"README": "x"}), "no file of a known format .* contains README"),
        ("a.tgz", tar({"p.tsv": TSV * 99}, gzip.compress)[:-900], "cannot be read"),
        ("a.tsv.bz2", bz2.compress(TSV.encode() * 9)[:-20], "cannot be read"),
        ("a.tsv.xz", lzma.compress(TSV.encode() * 9)[:-20], "cannot be read"),
        ("a.tsv.zst", zstd(TSV.encode() * 9)[:-1], "cannot be read"),
        ("a.arrow", b"ARROW1\0\0" + bytes(99), "save it as Parquet"),
        ("a.tar", tar({"p.en": "a\n"}), "does not contain p.fr"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=reason) as caught:
        rows_of(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# ---- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_utf_16_and_byte_order_marks_are_read(encoding: str, packed: bool, tmp_path: Path) -> None:
    pack = gzip.compress if packed else bytes
    csv = "fr,en\r\n" + "".join(f'"{t}","{s}"\r\n' for s, t in PAIRS)
    for name, text in [("p.tsv", TSV), ("p.csv", csv)]:
        assert pairs_of(write(tmp_path / name, pack(text.encode(encoding)))) == PAIRS
    for language, text in MOSES.items():
        write(tmp_path / f"a.{language}", pack(text.encode(encoding)))
    assert pairs_of(tmp_path / "a.en") == PAIRS


def test_utf_16_of_other_scripts_is_read(tmp_path: Path) -> None:
    rows = [("我们今天去学校吧。" * 3, "Мы идём в школу"), ("明天见。", "До завтра")]
    text = "".join(f"{s}\t{t}\r\n" for s, t in rows)
    for encoding in ("utf-16", "utf-16-be"):
        path = write(tmp_path / "p.tsv", b"" + text.encode(encoding))
        assert pairs_of(path, languages="zh ru") == rows


@pytest.mark.parametrize(
    ("encoding", "languages", "text", "name"),
    [
        ("cp1252", "en fr", "l'été “là”", "windows-1252"),
        ("iso-8859-1", "en fr", "l'été", "windows-1252"),
        ("cp1251", "en ru", "до завтра", "windows-1251"),
        ("cp1250", "pl en", "źdźbło", "windows-1250"),
        ("shift-jis", "ja en", "また明日", "shift-jis"),
        ("gb18030", "en zh", "明天见", "gb18030"),
    ],
)
def test_another_encoding_is_named(
    encoding: str, languages: str, text: str, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "p.tsv", f"{text}\t{text}\nplain\tplain\n".encode(encoding))
    source = source_of(path, languages=languages)
    (origin,) = origins_of(source)
    assert f"not UTF-8 but probably {name}; convert it with: iconv -f {name}" in origin.hint
    assert "\ufffd" in rows_of(path, languages=languages)[0][0]


@pytest.mark.parametrize("encoding", ["windows-1252", "iso-8859-1"])
def test_utf_8_that_was_encoded_twice_is_named(encoding: str, tmp_path: Path) -> None:
    rows = [("plain", "plain"), ("a", "l'été"), ("b", "œuf" if encoding == "iso-8859-1" else "là…")]
    text = "".join(f"{s}\t{t}\n" for s, t in rows)
    path = write(tmp_path / "p.tsv", text.encode().decode(encoding).encode())
    (origin,) = origins_of(source_of(path))
    assert f"iconv -f UTF-8 -t {encoding} FILE" in origin.hint
    assert origins_of(source_of(write(tmp_path / "q.tsv", text.encode())))[0].hint == ""


def test_utf_8_with_faults_is_utf_8(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", TSV.encode() + b"\xff\xfe\tcaf\xe9\n" + TSV.encode())
    assert origins_of(source_of(path))[0].hint == ""


# ---- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["en{0}n{0}fr\n", "", "sep={0}\nen{0}n{0}fr\n"])
def test_the_delimiter_of_a_csv_file_is_found(delimiter: str, header: str, tmp_path: Path) -> None:
    rows = [("Yes, you; me", "Oui"), ("a | b", "Toi\tmoi"), ("c", "d, e; f"), ("g", "h")]
    body = "".join(f'"{s}"{delimiter}1{delimiter}"{t}"\n' for s, t in rows)
    path = write(tmp_path / "p.csv", (header.format(delimiter) + body).encode())
    columns = None if header else ("1", "3")
    assert pairs_of(path, columns=columns) == rows


# ---- messages ------------------------------------------------------------------------------------


def test_the_format_is_named_with_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for n in range(7):
        write(tmp_path / "d" / f"{n}.tsv", TSV.encode())
    write(tmp_path / "d" / "test.csv", ("en,fr\n" + "a,b\n").encode("utf-16"))
    described = describe_origins(origins_of(source_of(tmp_path / "d")))
    assert f"{tmp_path}/d/4.tsv and 2 more (tab-separated), " in described
    assert described.endswith("test.csv (CSV, UTF-16, for test)")


def test_odd_files_are_told(tmp_path: Path) -> None:
    log: list[str] = []

    class Listening(SilentProgress):
        def log(self, text: str) -> None:
            log.append(text)

    lines = [f"the {n} cats\tles {n} été\n".encode("cp1252") for n in range(40)]
    lines += [f"a\r{n} b\tc {n}\n".encode() for n in range(60)]
    config = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
    manifest = prepare_file(
        write(tmp_path / "p.tsv", b"".join(lines)), config, tmp_path / "out", progress=Listening()
    )
    warnings = {warning.kind: warning.text for warning in manifest.warnings}
    assert "60 rows hold a carriage return" in warnings["carriage_returns"]
    assert "probably windows-1252" in warnings["encoding"]
    assert any(line.startswith("read 100 rows of") and "(tab-separated)" in line for line in log)


def test_a_carriage_return_in_csv_is_told(tmp_path: Path) -> None:
    rows = [f'the {n} cats,"les {n}, chats"\n' for n in range(60)]
    rows[7], rows[9] = "the seven\rcats,les sept chats\n", '"the nine\rcats",les neuf chats\n'
    file = write(tmp_path / "p.csv", "".join(["english,french\n", *rows]).encode())
    manifest = prepare_file(file, DataConfig(), tmp_path / "out")
    [told] = [each.text for each in manifest.warnings if each.kind == "carriage_returns"]
    assert told.startswith("2 rows hold a carriage return")
    corpus = Corpus.open(tmp_path / "out")
    sources = {text for split in manifest.rows for text in corpus.split(split)["source"][:]}
    assert {"the seven cats", "the nine cats"} < sources


@pytest.mark.parametrize("name", ["pairs.xlf", "pairs.xml"])
def test_xliff_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0"?>\n<xliff version="1.2"><file source-language="en"></file></xliff>\n'
    )
    file = write(tmp_path / name, text.encode())
    with pytest.raises(BadInput, match=r"XLIFF is not read; convert it to gettext.*xliff2po"):
        prepare_file(file, DataConfig(), tmp_path / "out")
