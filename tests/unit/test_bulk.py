"""Translation of files: every format, blocks, parts that are continued, rows that are left out."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector

from s2s.bulk.blocks import ReadOptions
from s2s.bulk.execution import Executor, Work, in_process
from s2s.bulk.files import codec_of, joined, whole_output
from s2s.bulk.inputs import find_inputs, refuse_nested
from s2s.bulk.parts import BlockKey, Parts, Translated
from s2s.bulk.run import BulkTranslation, FileReport
from s2s.bulk.tables import read_parquet as read_parquet_blocks
from s2s.bulk.translation import BlockTranslator
from s2s.cli.main import main
from s2s.cli.translate import _hash as hash_of
from s2s.config import DecodeConfig
from s2s.decoding.shortlist import SHORTLIST
from s2s.decoding.translator import Translator
from s2s.errors import BadInput, Failed, Stopped
from s2s.runs import locked
from s2s.storage import filesystem

TEXTS = ["I see bread.", "you want trees?", "they see Paris!", "12:30", "I want trees. You see me."]
Captured = pytest.CaptureFixture[str]


# ---- formats ------------------------------------------------------------------------------------


def write_text(path: Path, texts: list[str]) -> None:
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")


def write_gz(path: Path, texts: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{text}\r\n" for text in texts).encode()))


def write_jsonl(path: Path, texts: list[str]) -> None:
    lines = [f'{{"n": {n}.50, "text": {json.dumps(text)} }}\n' for n, text in enumerate(texts)]
    path.write_text("".join(lines), "utf-8")


def write_parquet(path: Path, texts: list[str]) -> None:
    pairs = [{"en": text, "de": "?"} for text in texts]
    table = pa.table({"n": range(len(texts)), "pair": pairs})
    pq.write_table(table, path, row_group_size=3)


def write_tmx(path: Path, texts: list[str]) -> None:
    units = "".join(
        f'<tu tuid="{n}">\n<note>&lt;tuv&gt;</note><tuv xml:lang="en-US"><seg>{text}</seg></tuv>\n'
        + ('<tuv xml:lang="FR"><seg>old</seg></tuv>\n' if n % 2 else "")
        + "</tu>\n"
        for n, text in enumerate(texts)
    )
    header = '<?xml version="1.0" encoding="utf-8"?>\n<tmx version="1.4"><header srclang="en"/>\n'
    path.write_text(f"{header}<body><!-- <tu> -->{units}</body></tmx>\n", "utf-8")


def write_saved(path: Path, texts: list[str]) -> None:
    split = datasets.Dataset.from_dict({"n": range(len(texts)), "en": texts})
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(path)


def read_text(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def read_gz(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def read_jsonl(path: Path) -> list[str]:
    lines = read_text(path)
    assert [line[: line.index(".50")] for line in lines] == [f'{{"n": {n}' for n in range(5)]
    return [json.loads(line)["translation"] for line in lines]


def read_parquet(path: Path) -> list[str]:
    table = pq.read_table(path)
    assert table.column_names == ["n", "pair", "translation"]
    assert table["n"].to_pylist() == list(range(table.num_rows))
    return list(table["translation"].to_pylist())


def read_tmx(path: Path) -> list[str]:
    from s2s.preparation.tmx import pieces, variants_of_unit

    with path.open("rb") as file:
        read = list(pieces(file))
    units = [variants_of_unit(text, "") for kind, text in read if kind == "unit"]
    assert [[code for code, _ in unit] for unit in units] == [["en-US", "fr"]] * len(units)
    assert "".join(text for kind, text in read if kind == "between").count("<!-- <tu> -->") == 1
    assert "old" not in path.read_text("utf-8")
    return [text for unit in units for code, text in unit if code == "fr"]


def read_saved(path: Path) -> list[str]:
    saved = datasets.load_from_disk(path)
    assert saved["test"].to_dict() == saved["train"].to_dict()
    assert saved["train"].column_names == ["n", "en", "translation"]
    assert str(saved["train"].features["translation"].dtype) == "string"
    return list(saved["train"]["translation"])


@dataclass(frozen=True)
class Kind:
    """Files of a format, for tests."""

    name: str
    write: Callable[[Path, list[str]], None]
    read: Callable[[Path], list[str]]
    flags: tuple[str, ...] = ()


FILES = (
    Kind("in.txt", write_text, read_text),
    Kind("in.en.gz", write_gz, read_gz),
    Kind("in.jsonl", write_jsonl, read_jsonl),
    Kind("in.parquet", write_parquet, read_parquet, ("--column", "pair.en")),
    Kind("in.tmx", write_tmx, read_tmx),
    Kind("saved", write_saved, read_saved),
)


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.name)
def test_every_row_of_a_file_is_translated_in_its_place(
    kind: Kind, model_dir: Path, translator: Translator, tmp_path: Path, capsys: Captured
) -> None:
    kind.write(tmp_path / kind.name, TEXTS)
    out = tmp_path / "out" / kind.name
    flags = ["--input", str(tmp_path / kind.name), "--output", str(out), *kind.flags]
    assert main(["translate", str(model_dir), *flags]) == 0, capsys.readouterr().err
    assert kind.read(out) == translator.translate(TEXTS)
    assert [path.name for path in out.parent.iterdir()] == [kind.name]
    assert capsys.readouterr() == ("", "")


def test_folders_patterns_and_uris_give_outputs_of_the_same_names(
    model_dir: Path, translator: Translator, tmp_path: Path
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    names = ["a.txt", "b.jsonl", "sub/c.txt.gz"]
    writers = (write_text, write_jsonl, write_gz)
    for name, write in zip(names, writers, strict=True):
        write(tmp_path / "in" / name, TEXTS)
    (tmp_path / "in" / ".hidden").write_text("no")
    wanted = {
        "folder": (names, [str(tmp_path / "in")]),
        "pattern": (["a.txt", "sub/c.txt.gz"], [f"{tmp_path}/in/**/*.txt*"]),
        "uris": (["a.txt", "c.txt.gz"], [f"file://{tmp_path}/in/{one}" for one in names[::2]]),
        "folder-uri": (names, [f"file://{tmp_path}/in"]),
        "pattern-uri": (["sub/c.txt.gz"], [f"file://{tmp_path}/in/s*/*.gz"]),
    }
    for out, (expected, inputs) in wanted.items():
        output = f"file://{tmp_path}/{out}" if "uri" in out else str(tmp_path / out)
        assert main(["translate", str(model_dir), "--input", *inputs, "--output", output]) == 0
        found = [path for path in (tmp_path / out).rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(tmp_path / out)) for path in found) == expected, out
        for path in found:
            read = {".txt": read_text, ".gz": read_gz, ".jsonl": read_jsonl}[path.suffix]
            assert read(path) == translator.translate(TEXTS)
    assert not list(tmp_path.glob("*.run"))


STORE = os.environ.get("S2S_TEST_STORE", "memory://bulk")
"""URI of an empty folder of an object store, such as s3://bucket/bulk?endpoint_override=…"""


def test_a_translation_in_an_object_store_continues_there(
    folder: Path, translator: Translator
) -> None:
    names = ("in/a.txt", "in/b.jsonl")
    system, root = filesystem(STORE)
    for name in names:
        with system.open_output_stream(f"{root}/{name}") as file:
            file.write((folder / name).read_bytes())
    inputs = find_inputs([joined(STORE, "in"), joined(STORE, "in/a.*")])
    assert [file.name for file in inputs.files] == ["a.txt", "b.jsonl"]
    options = ReadOptions(("en", "fr"), rows=2)
    bulk = BulkTranslation(inputs, joined(STORE, "out"), options, {"model": "m"})
    stopped, rest = Counting(translator, stop_after=3), Counting(translator)
    with pytest.raises(Stopped):
        bulk.carry_out(stopped.entered(), Shown())
    with pytest.raises(BadInput, match="holds another run"):
        replace(bulk, description={"model": "n"}).carry_out(rest.entered(), Shown())
    bulk.carry_out(rest.entered(), Shown())
    assert len(rest.done) == 5
    found = system.get_file_info(FileSelector(root, recursive=True))
    assert {info.path.removeprefix(f"{root}/") for info in found if info.is_file} == {
        *names, "out/a.txt", "out/b.jsonl",
    }  # fmt: skip
    with system.open_input_stream(f"{root}/out/a.txt") as file:
        assert file.read().decode().splitlines() == translator.translate(TEXTS) * 2


def test_the_name_of_a_link_states_the_format(
    model_dir: Path, translator: Translator, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, write in (("in.en.gz", write_gz), ("in.jsonl", write_jsonl)):
        write(tmp_path / "blob", TEXTS)
        (tmp_path / "blob").rename(tmp_path / f"sha256-{name.removeprefix('in.')[:2]}")
        (tmp_path / "in" / name).symlink_to(f"../sha256-{name.removeprefix('in.')[:2]}")
    one, several = str(tmp_path / "in" / "in.en.gz"), str(tmp_path / "in")
    command = ["translate", str(model_dir)]
    assert main([*command, "--input", one, "--output", str(tmp_path / "out.gz")]) == 0
    assert read_gz(tmp_path / "out.gz") == translator.translate(TEXTS)
    assert main([*command, "--input", several, "--output", str(tmp_path / "out")]) == 0
    assert read_gz(tmp_path / "out" / "in.en.gz") == translator.translate(TEXTS)
    assert read_jsonl(tmp_path / "out" / "in.jsonl") == translator.translate(TEXTS)


@pytest.mark.parametrize("name", ["a b.txt", "a%3Ab.txt", "a?b=c.txt", "a#b.txt"])
def test_any_name_is_found_below_a_uri(name: str, tmp_path: Path) -> None:
    (tmp_path / "in put").mkdir()
    write_text(tmp_path / "in put" / name, TEXTS)
    for text in (f"file://{tmp_path}/in%20put", f"file://{tmp_path}/in%20put/*.txt"):
        [file] = find_inputs([text]).files
        assert file.name == name
        assert filesystem(file.location)[1] == str(tmp_path / "in put" / name)


@pytest.mark.parametrize(
    ("location", "codec"),
    [
        ("a.gz", "gzip"),
        ("http://h/a.zst?download=true", "zstd"),
        ("s3://b/a.gz?endpoint_override=http://h:1", "gzip"),
        ("s3://b/a?region=x.gz", None),
    ],
)
def test_a_query_is_no_part_of_a_name(location: str, codec: str | None) -> None:
    assert codec_of(location) == codec


def test_a_file_of_the_name_of_a_state_is_read_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "state.json").write_text('{"en": "I see."}')
    for name in (str(tmp_path / "in"), str(tmp_path / "*" / "*")):
        assert [file.format for file in find_inputs([name]).files] == ["jsonl"]
    with pytest.raises(BadInput, match="no file matches"):
        find_inputs([str(tmp_path / "i*")])


def test_files_of_text_go_to_standard_output_without_an_output(
    model_dir: Path, translator: Translator, tmp_path: Path, capsys: Captured
) -> None:
    write_jsonl(tmp_path / "in.jsonl", TEXTS)
    write_text(tmp_path / "in.txt", TEXTS)
    inputs = [str(tmp_path / name) for name in ("in.jsonl", "in.txt")]
    assert main(["translate", str(model_dir), "--input", *inputs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["translation"] for line in lines[:5]] == lines[5:]
    assert lines[5:] == translator.translate(TEXTS)


# ---- rows without a translation -----------------------------------------------------------------


def test_rows_that_cannot_be_translated_are_told_and_keep_their_place(
    model_dir: Path, tmp_path: Path, capsys: Captured
) -> None:
    lines = [
        b'{"en": "I see."}',
        b"[1]",
        b'{"en": 3}',
        b"",
        b'{"en": "\xff"}',
        b'{"en": "\\ud800"}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    flags = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert main(["translate", str(model_dir), *flags]) == 0
    written = read_text(tmp_path / "out.jsonl")
    assert len(written) == len(lines)
    assert written[1:5] == ["", '{"en": 3, "translation": null}', "", ""]
    assert written[5] == '{"en": "\\ud800", "translation": null}'
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    assert told[0].endswith("in.jsonl: 1 line has no translation, as it is no JSON object; line: 2")
    assert "has no text in the field en; line: 3" in told[1]
    assert "is not UTF-8" in told[2]
    assert told[2].endswith("; line: 5")
    assert "half a surrogate pair in the field en; line: 6" in told[3]


def test_a_column_may_hold_what_is_not_utf8(
    model_dir: Path, translator: Translator, tmp_path: Path, capsys: Captured
) -> None:
    rows = pa.array([b"I see bread.", b"\xff", None, b"they see Paris!"], pa.binary())
    pq.write_table(pa.table({"en": rows.view(pa.string())}), tmp_path / "in.parquet")
    flags = ["--input", f"{tmp_path}/in.parquet", "--output", f"{tmp_path}/out.parquet"]
    assert main(["translate", str(model_dir), *flags]) == 0
    first, last = translator.translate(["I see bread.", "they see Paris!"])
    written = pq.read_table(tmp_path / "out.parquet")
    assert written["translation"].to_pylist() == [first, None, None, last]
    assert written["en"].cast(pa.binary()).to_pylist() == rows.to_pylist()
    told = capsys.readouterr().err
    assert "is not UTF-8 in the column en; line: 2" in told
    assert "has no text in the column en; line: 3" in told


@pytest.mark.parametrize(
    ("name", "content", "flags", "told"),
    [
        ("in.jsonl", b'{"a": "b"}\n', [], "no column or field en or source"),
        ("in.jsonl", b'{"a": "b"}\n', ["--column", "c"], "line 1 has no text in the field c"),
        ("in.jsonl", b'{"en": "b", "translation": 1}\n', [], "name another one with --output-col"),
        ("in.jsonl", b'{"en": "b"}\n', ["--json"], "only for files of text"),
        ("in.parquet", b"PAR1", [], "cannot be read"),
        ("in.parquet.gz", b"", [], "decompress it first"),
        ("in.txt.gz", gzip.compress(b"I see trees.\n" * 99, mtime=0)[:-9], [], "cannot be read"),
        ("in.tmx", b"<tmx><body><tu>", [], "it breaks off after unit 0"),
        ("in.tmx", "<tmx><body></body></tmx>".encode("utf-16"), [], "but probably utf-16"),
        ("in.txt", b"I see.\n\xff\n\xfe\n", [], "line 2 is not UTF-8"),
    ],
)
def test_files_that_cannot_be_translated_are_bad_input(
    name: str,
    content: bytes,
    flags: list[str],
    told: str,
    model_dir: Path,
    tmp_path: Path,
    capsys: Captured,
) -> None:
    (tmp_path / name).write_bytes(content)
    files = ["--input", str(tmp_path / name), "--output", str(tmp_path / "out")]
    assert main(["translate", str(model_dir), *files, *flags]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_in_the_folder_of_inputs_is_bad_input(
    model_dir: Path, tmp_path: Path, capsys: Captured
) -> None:
    write_text(tmp_path / "in.txt", TEXTS)
    for out in (tmp_path, tmp_path / "out"):
        flags = ["--input", str(tmp_path), "--output", str(out)]
        assert main(["translate", str(model_dir), *flags]) == 2
        assert "in the folder of inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "out", "told"),
    [
        ("**/*.txt", "translated", "translated/c/in.txt would be found by --input"),
        ("c/**/*", "c/out", "c/out/in.txt would be found by --input"),
        ("*/*", "out", "out.run/run.json would be found by --input"),
        ("[c]/*", "c/", "where the translation is written"),
        ("file://c/**/*.txt", "c/out/", "c/out/in.txt would be found by --input"),
        ("c/in.txt", "file://c/in.txt", "is the input"),
        ("file://c/in.txt", "c/in.txt", "is the input"),
    ],
)
def test_an_output_that_would_be_an_input_later_is_bad_input(
    pattern: str, out: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    write_text(tmp_path / "c" / "in.txt", TEXTS)

    def placed(name: str) -> str:
        scheme = "file://" if "://" in name else ""
        return f"{scheme}{tmp_path}/{name.removeprefix('file://')}"

    with pytest.raises(BadInput, match=told):
        refuse_nested([placed(pattern)], find_inputs([placed(pattern)]), placed(out))


@pytest.mark.parametrize("holder", ["out", "out.run"])
def test_an_input_among_the_outputs_is_bad_input(holder: str, tmp_path: Path) -> None:
    for name in ("in.txt", f"{holder}/old.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_text(tmp_path / name, TEXTS)
    names = [str(tmp_path / "in.txt"), str(tmp_path / holder / "old.txt")]
    with pytest.raises(BadInput, match=r"is the input|where the translation is written"):
        refuse_nested(names, find_inputs(names), f"{tmp_path}/out")


# ---- blocks and parts ---------------------------------------------------------------------------


@dataclass
class Shown:
    """Progress that is kept."""

    lines: list[str] = field(default_factory=list)
    rows: int = 0
    share: float = 0.0

    def log(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, rows: int, share: float) -> None:
        self.rows, self.share = rows, share

    def add_rows(self, rows: int) -> None:
        self.rows += rows

    def set_share(self, share: float) -> None:
        assert share >= self.share
        self.share = share


@dataclass
class Counting:
    """Runs blocks in this process, counts them, and stops after some."""

    translator: Translator
    stop_after: int = 1000
    done: list[BlockKey] = field(default_factory=list)

    @contextmanager
    def entered(self) -> Iterator[Executor]:
        yield self

    def __call__(
        self, work: Work, on_rows: Callable[[int], None]
    ) -> Iterator[tuple[BlockKey, Translated]]:
        for key, translated in in_process(BlockTranslator(self.translator))(work, on_rows):
            if len(self.done) == self.stop_after:
                raise Stopped("stopped")
            self.done.append(key)
            yield key, translated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of five blocks of text, of two rows each, and three of JSON Lines."""
    (tmp_path / "in").mkdir()
    write_text(tmp_path / "in" / "a.txt", [*TEXTS, *TEXTS])
    write_jsonl(tmp_path / "in" / "b.jsonl", TEXTS)
    return tmp_path


def translation(folder: Path, out: str = "out", model: str = "m", **more: bool) -> BulkTranslation:
    options = ReadOptions(("en", "fr"), rows=2)
    inputs = find_inputs([str(folder / "in")])
    return BulkTranslation(inputs, str(folder / out), options, {"model": model}, **more)


def outcome(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("a.txt", "b.jsonl")]


def test_a_translation_that_was_stopped_continues_with_what_is_left(
    folder: Path, translator: Translator
) -> None:
    whole = Counting(translator)
    reports = translation(folder, "whole").carry_out(whole.entered(), Shown())
    assert len(whole.done) == 8
    assert [report.rows for report in reports] == [10, 5]
    stopped = Counting(translator, stop_after=3)
    with pytest.raises(Stopped):
        translation(folder).carry_out(stopped.entered(), Shown())
    assert not (folder / "out").exists()
    rest, shown = Counting(translator), Shown()
    translation(folder).carry_out(rest.entered(), shown)
    assert sorted(map(str, stopped.done + rest.done)) == sorted(map(str, whole.done))
    assert outcome(folder / "out") == outcome(folder / "whole")
    assert shown.lines == ["continuing after 6 rows that are translated already"]
    assert (shown.rows, shown.share) == (15, 1.0)
    assert not (folder / "out.run").exists()


def test_damaged_parts_are_translated_again(folder: Path, translator: Translator) -> None:
    with pytest.raises(Stopped):
        translation(folder).carry_out(Counting(translator, stop_after=4).entered(), Shown())
    parts = sorted((folder / "out.run").rglob("*.part"))
    parts[0].write_bytes(parts[0].read_bytes()[:-3])
    parts[1].write_bytes(b"")
    parts[2].rename(parts[2].with_suffix(".part.new"))  # as a killed process leaves it
    rest = Counting(translator)
    translation(folder).carry_out(rest.entered(), Shown())
    assert len(rest.done) == 7
    assert outcome(folder / "out")[0].decode().splitlines() == translator.translate(TEXTS) * 2


def test_a_translation_that_lacks_its_outputs_alone_runs_nothing(
    folder: Path, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> FileReport:
        raise Failed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(BulkTranslation, "_write", break_off)
        with pytest.raises(Failed):
            translation(folder).carry_out(Counting(translator).entered(), Shown())
    nothing = Counting(translator, stop_after=0)
    translation(folder).carry_out(nothing.entered(), Shown())
    assert nothing.done == []
    assert outcome(folder / "out")[0].decode().splitlines() == translator.translate(TEXTS) * 2


def test_an_input_that_changes_meanwhile_fails(folder: Path, translator: Translator) -> None:
    class Changing(Counting):
        """Changes an input without its number of lines while it is translated."""

        @contextmanager
        def entered(self) -> Iterator[Executor]:
            write_text(folder / "in" / "a.txt", [*TEXTS, *reversed(TEXTS)])
            os.utime(folder / "in" / "a.txt", ns=(1, 1))
            yield self

    with pytest.raises(Failed, match="has changed since the translation began; --restart"):
        translation(folder).carry_out(Changing(translator).entered(), Shown())
    assert not list((folder / "out").iterdir())
    translation(folder, restart=True).carry_out(Counting(translator).entered(), Shown())
    assert outcome(folder / "out")[0].decode().splitlines() == translator.translate(
        [*TEXTS, *reversed(TEXTS)]
    )


def test_a_failed_write_leaves_an_object_as_it_was() -> None:
    location = "memory://whole/out.gz"
    system, path = filesystem(location)
    with whole_output(location, "gzip") as file:
        file.write(b"before")
    with pytest.raises(BadInput, match="part cannot be read"), whole_output(location) as file:
        file.write(b"after")
        raise BadInput("part cannot be read")
    with system.open_input_stream(path, compression=None) as file:
        assert gzip.decompress(file.read()) == b"before"


def test_another_translation_in_the_same_place_is_refused(
    folder: Path, translator: Translator
) -> None:
    with pytest.raises(Stopped):
        translation(folder).carry_out(Counting(translator, stop_after=1).entered(), Shown())
    with pytest.raises(BadInput, match="holds another run: it has another model; --restart"):
        translation(folder, model="n").carry_out(nullcontext(Counting(translator)), Shown())
    with (folder / "in" / "a.txt").open("a") as file:
        file.write("I see you.\n")
    with pytest.raises(BadInput, match="the inputs have changed"):
        translation(folder).carry_out(nullcontext(Counting(translator)), Shown())
    with (
        locked(folder / "out.run"),
        pytest.raises(BadInput, match="another command is working there"),
    ):
        translation(folder, restart=True).carry_out(nullcontext(Counting(translator)), Shown())
    again = Counting(translator)
    translation(folder, restart=True).carry_out(again.entered(), Shown())
    assert len(again.done) == 9


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["run.json", "notes/mine.txt"])
def test_a_run_folder_of_something_else_is_refused_and_stays(
    folder: Path, translator: Translator, name: str, restart: bool
) -> None:
    file = folder / "out.run" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"corpus": "c"}')
    with pytest.raises(BadInput, match="run exists already, and no translation made it"):
        translation(folder, restart=restart).carry_out(nullcontext(Counting(translator)), Shown())
    assert [path for path in (folder / "out.run").rglob("*") if path.is_file()] == [file]
    assert not (folder / "out").exists()


def test_only_the_files_of_a_translation_are_removed_at_its_end(
    folder: Path, translator: Translator
) -> None:
    with pytest.raises(Stopped):
        translation(folder).carry_out(Counting(translator, stop_after=1).entered(), Shown())
    (folder / "out.run" / "notes").write_text("mine")
    translation(folder).carry_out(Counting(translator).entered(), Shown())
    assert (folder / "out" / "a.txt").exists()
    assert [path.name for path in (folder / "out.run").iterdir()] == ["notes"]


def test_a_refused_input_leaves_the_run_folder_of_an_earlier_command(
    folder: Path, translator: Translator
) -> None:
    with pytest.raises(Stopped):
        translation(folder).carry_out(Counting(translator, stop_after=0).entered(), Shown())
    write_text(folder / "in" / "b.jsonl", ["no object"])
    with pytest.raises(BadInput, match="no JSON object"):
        translation(folder, restart=True).carry_out(Counting(translator).entered(), Shown())
    assert (folder / "out.run" / "run.json").exists()


def test_the_run_folder_is_removed_after_its_lock_is_closed(
    folder: Path, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_folder = Parts.remove_folder

    def remove_unlocked(parts: Parts) -> None:
        with locked(folder / "out.run"):  # NFS would keep the file of an open lock
            pass
        (folder / "out.run" / "lock").unlink()
        remove_folder(parts)

    monkeypatch.setattr(Parts, "remove_folder", remove_unlocked)
    translation(folder).carry_out(Counting(translator).entered(), Shown())
    assert not (folder / "out.run").exists()


def test_a_block_ends_where_its_texts_are_long(
    tmp_path: Path, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2s.bulk.blocks.BYTES", 30)
    (tmp_path / "in").mkdir()
    write_text(tmp_path / "in" / "a.txt", ["I see trees here.", "I see."] * 3 + ["I" * 40])
    counting = Counting(translator)
    [report] = translation(tmp_path).carry_out(counting.entered(), Shown())
    assert isinstance(report, FileReport)
    assert report.rows == 7
    # Of two rows at most: the last one is longer than a block.
    assert [key.block for key in counting.done] == [0, 1, 2, 3]


def test_blocks_of_parquet_are_the_same_without_the_other_columns(tmp_path: Path) -> None:
    texts = [*TEXTS, *TEXTS, "x" * 2_000_000, *TEXTS]
    groups = [[text] * (place + 1) for place, text in enumerate("abc" * 6)]
    kinds = [kind for group in groups for kind in group][: len(texts)]
    table = pa.table(
        {
            "kind": pa.array(kinds).dictionary_encode(),
            "pair": [{"en": text, "de": text * 2} for text in texts],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    for column in ("pair.en", "kind"):
        options = ReadOptions(("en", "fr"), column, rows=4)
        only = replace(options, texts_only=True)
        name = str(tmp_path / "in.parquet")
        whole, alone = (
            list(read_parquet_blocks(name, options)),
            list(read_parquet_blocks(name, only)),
        )
        assert [block.texts for block in whole] == [block.texts for block in alone]
        assert [text for block in whole for text in block.texts] == (
            texts if column == "pair.en" else kinds
        )
        assert {tuple(block.table.column_names) for block in whole} == {("kind", "pair")}
        assert {tuple(block.table.column_names) for block in alone} == {(column.split(".")[0],)}


def test_another_shortlist_makes_another_model_where_it_is_used(
    model_dir: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(model_dir, model)
    without, with_it = DecodeConfig(), DecodeConfig(shortlist=10)
    hashes = []
    for content in (b"one", b"two"):
        (model / SHORTLIST).write_bytes(content)
        hashes.append((hash_of(model, without), hash_of(model, with_it)))
    (first, first_with), (second, second_with) = hashes
    assert first == second
    assert first_with != second_with
