"""The layout of a table: which columns are text, how wide it is, what a header names."""

import random
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.config import Config, CorpusConfig, DataConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.preparation import Source
from s2s.preparation.columns import named_columns
from s2s.preparation.table_layout import TableLayout, find_layout
from tests.support.corpora import Pairs, prepare_file, train_model

EN_FR = Source(source=("x",), source_language="en", target_language="fr")
PAIRS = [(f"the cat sees {n} dogs .", f"le chat voit {n} chiens .") for n in range(60)]
CONFIG = DataConfig(corpus=CorpusConfig(valid=0.2, test=0.2))
CELLS = {
    "score": lambda n: f"{1.25 - n / 1000:.6f}",
    "id": lambda n: str(10_000 + n),
    "negative": lambda n: f"-{n},{n % 7}e-05",
    "name": lambda n: f"sent-{n}",
    "uuid": lambda n: f"{n:08x}-1234-4abc-8def-0123456789ab",
    "hash": lambda n: f"{n:032x}",
    "long name": lambda n: f"en-fr-{n:06}",
    "url": lambda n: f"https://example.org/{n}?q=a",
    "date": lambda n: f"2024-05-{n % 28 + 1:02}",
    "code": lambda n: ("en", "fr-FR")[n % 2],
    "nothing": lambda n: "",
    "en": lambda n: PAIRS[n][0],
    "fr": lambda n: PAIRS[n][1],
    "attribution": lambda n: f"CC-BY 2.0 (France) by CK #{n}",
}


def rows(*columns: str) -> list[str]:
    return ["\t".join(CELLS[column](n) for column in columns) + "\n" for n in range(60)]


def of(lines: list[str], *columns: str, languages: tuple[str, str] = ("en", "fr")) -> TableLayout:
    one, two = languages
    source = Source(
        source=("x",), source_language=one, target_language=two, columns=columns or None
    )  # type: ignore[arg-type]
    return find_layout(lines, source, "x.tsv")


@pytest.mark.parametrize(
    ("columns", "positions"),
    [
        (("en", "fr"), (0, 1)), (("en", "fr", "attribution"), (0, 1)),
        (("en", "fr", "score"), (0, 1)), (("score", "en", "fr"), (1, 2)),
        (("id", "en", "fr"), (1, 2)), (("negative", "en", "fr"), (1, 2)),
        (("name", "en", "fr"), (1, 2)), (("uuid", "en", "fr"), (1, 2)),
        (("en", "score", "fr"), (0, 2)), (("nothing", "en", "fr"), (1, 2)),
        (("url", "url", "en", "fr", "score"), (2, 3)), (("url", "en", "url", "fr"), (1, 3)),
        (("id", "code", "en", "id", "code", "fr"), (2, 5)), (("date", "en", "fr"), (1, 2)),
        (("hash", "en", "fr"), (1, 2)), (("long name", "en", "fr"), (1, 2)),
    ],
)  # fmt: skip
def test_the_columns_of_text_are_found(
    columns: tuple[str, ...], positions: tuple[int, int]
) -> None:
    layout = of(rows(*columns))
    assert (layout.positions, layout.width) == (positions, len(columns))
    assert bool(layout.note) == (positions != (0, 1))
    numbers = " and ".join(str(each + 1) for each in positions)
    assert not layout.note or f"columns {numbers}" in layout.note
    assert layout.columns == tuple(str(each + 1) for each in positions)


def test_what_may_be_any_two_columns_is_refused() -> None:
    with pytest.raises(BadInput, match=r"x\.tsv: rows of 4 columns; .*: --columns 2 3"):
        of(rows("id", "en", "fr", "attribution"))
    assert of(rows("id", "en", "fr", "attribution"), "3", "2").positions == (2, 1)


@pytest.mark.parametrize("columns", [("id", "fr"), ("en", "id"), ("id", "score")])
def test_numbers_may_be_half_of_a_pair(columns: tuple[str, str]) -> None:
    layout = of(rows(*columns))
    assert layout.positions == (0, 1)
    assert "holds numbers, ids or codes: are these the sentences?" in layout.note


@pytest.mark.parametrize(
    ("header", "positions"),
    [
        ("en\tfr", (0, 1)), ("FR\tEN", (1, 0)), ("English\tFrench", (0, 1)),
        ("French\tEnglish", (1, 0)), ("id\tfrançais\tanglais\tEnglish", (3, 1)),
        ("source\ttarget", (0, 1)), ("tgt\tSRC", (1, 0)), ("eng\tfra", (0, 1)),
        ("score\ten\tfr", (1, 2)), ("\ten\tfr", (1, 2)),
    ],
)  # fmt: skip
def test_a_header_names_the_columns(header: str, positions: tuple[int, int]) -> None:
    width = header.count("\t") + 1
    lines = [f"{header}\n", *("\t".join(["a b"] * width) + "\n" for _ in range(9))]
    layout = of(lines)
    assert (layout.has_header, layout.positions, layout.width) == (True, positions, width)
    one, two = layout.columns
    assert header.split("\t")[positions[0]] == one
    assert of(lines, one, two).positions == positions
    numbers = [str(each + 1) for each in positions]
    assert of(lines, *numbers) == layout  # a header is no row, either way


@pytest.mark.parametrize(
    "line",
    ["English.\tFrench words", "I speak English\tJe parle français", "target\tcible", "a\tb"],
)
def test_a_pair_is_no_header(line: str) -> None:
    assert not of([f"{line}\n"] * 9).has_header


@pytest.mark.parametrize(
    ("names", "languages", "positions"),
    [
        (["text_en", "text_fr"], ("en", "fr"), (0, 1)),
        (["French text", "English text"], ("en", "fr"), (1, 0)),
        (["pt_BR", "en"], ("en", "pt-BR"), (1, 0)),
        (["Deutsch", "Russian"], ("ru", "de"), (1, 0)),
        (["source_text", "target_text"], ("en", "fr"), (0, 1)),
        (["中文", "English"], ("en", "zh"), (1, 0)),
        (["zh-Hans", "zh-Hant"], ("zh-Hant", "zh-Hans"), (1, 0)),
    ],
)
def test_columns_are_called_by_codes_and_names_of_languages(
    names: list[str], languages: tuple[str, str], positions: tuple[int, int]
) -> None:
    one, two = languages
    source = Source(source=("x",), source_language=one, target_language=two)
    assert named_columns(names, source, "x") == positions


@pytest.mark.parametrize("names", [["text_en", "more_en", "fr"], ["a", "b"], ["en"], []])
def test_names_that_say_too_little_are_refused(names: list[str]) -> None:
    with pytest.raises(BadInput, match=r"no columns en and fr among .*--columns, or number them"):
        named_columns(names, EN_FR, "x")


# ---- the rows that are read ----------------------------------------------------------------------


def rows_of(folder: Path) -> Pairs:
    corpus = Corpus.open(folder)
    splits = [corpus.split(split) for split in corpus.manifest.rows]
    return [pair for p in splits for pair in zip(p["source"], p["target"], strict=True)]


def test_rows_of_another_width_are_counted(tmp_path: Path) -> None:
    lines = rows("en", "fr", "attribution")
    lines[20:20] = ["one\tdeux\n", "a\tb\tc\td\n", "alone\n", "\n", "\t\t\t\n"]
    (tmp_path / "pairs.tsv").write_text("".join(lines), "utf-8")
    manifest = prepare_file(tmp_path / "pairs.tsv", CONFIG, tmp_path / "corpus")
    assert manifest.drops == {"columns": 3, "empty": 2}
    assert sorted(rows_of(tmp_path / "corpus")) == sorted(PAIRS)
    assert manifest.warnings[0].kind != "columns_found"


def test_the_columns_that_were_found_are_told(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("".join(rows("score", "en", "fr")), "utf-8")
    manifest = prepare_file(tmp_path / "pairs.tsv", CONFIG, tmp_path / "corpus")
    assert sorted(rows_of(tmp_path / "corpus")) == sorted(PAIRS)
    assert manifest.warnings[0].kind == "columns_found"
    assert "columns 2 and 3, as column 1 holds numbers" in manifest.warnings[0].text


QUOTED = [
    ('He said "hi" to me .', 'Il m\'a dit " salut " .'), ('"Hi," he said .', '" Salut ", dit-il .'),
    ("no marks here .", "aucun signe ici ."), ('an inch is " .', 'un pouce est " .'),
]  # fmt: skip


def as_csv(cell: str, always: bool) -> str:
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if always or '"' in cell else cell


@pytest.mark.parametrize("header", ["", "en\tfr\n"])
@pytest.mark.parametrize("always", [False, True])
def test_cells_quoted_by_pandas_are_read_as_they_were(
    always: bool, header: str, tmp_path: Path
) -> None:
    pairs = [*PAIRS, *QUOTED]
    random.Random(1).shuffle(pairs)
    lines = "".join(f"{as_csv(a, always)}\t{as_csv(b, always)}\n" for a, b in pairs)
    head = header.replace("en", '"en"').replace("fr", '"fr"') if always else header
    (tmp_path / "pairs.tsv").write_text(head + lines, "utf-8")
    manifest = prepare_file(tmp_path / "pairs.tsv", CONFIG, tmp_path / "corpus")
    assert manifest.drops == {}
    assert sorted(rows_of(tmp_path / "corpus")) == sorted(pairs)


def test_marks_of_a_plain_table_are_kept(tmp_path: Path) -> None:
    pairs = [*PAIRS, *QUOTED, ('"Hello."', '"Bonjour."'), ('""Hi""', "''Salut''"), ('"', "«")]
    pairs = [(one, two) for one, two in pairs if one != '"'] + [('say "" .', "dis « » .")]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), "utf-8")
    prepare_file(tmp_path / "pairs.tsv", CONFIG, tmp_path / "corpus")
    assert sorted(rows_of(tmp_path / "corpus")) == sorted(pairs)


# ---- few rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["base", "demo", "seed"])
@pytest.mark.parametrize("rows", [3, 10, 50])
def test_a_few_rows_make_a_corpus(
    rows: int, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{one}\t{two}\n" for one, two in PAIRS[:rows])
    (tmp_path / "few.tsv").write_text(lines, "utf-8")
    flags = ["--source", str(tmp_path / "few.tsv"), "--out", str(tmp_path / "corpus")]
    assert main(["prepare", preset, "--languages", "en-fr", *flags]) == 0
    manifest = Corpus.open(tmp_path / "corpus").manifest
    assert all(manifest.rows.values())
    assert sum(manifest.rows.values()) == rows
    kinds = {warning.kind for warning in manifest.warnings}
    assert {"few_pairs", "few_held_out"} <= kinds
    said = capsys.readouterr().out
    assert f"{manifest.rows['train']} pairs to train on" in said or manifest.rows["train"] == 1
    assert "--corpus.valid 0.1" in said or preset == "seed"


def test_ten_pairs_can_be_trained_and_scored(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{one}\t{two}\n" for one, two in PAIRS[:10])
    (tmp_path / "ten.tsv").write_text(lines, "utf-8")
    prepare_file(tmp_path / "ten.tsv", DataConfig(), tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.manifest.rows == {"train": 8, "valid": 1, "test": 1}
    config = Config(
        **dict(corpus.manifest.config),
        model=tiny.model,
        train=tiny.train.model_copy(update={"epochs": 1}),
        decode=tiny.decode,
    )
    train_model(corpus, config, tmp_path / "model")
    flags = ["--corpus", str(corpus.path), "--split", "test"]
    assert main(["evaluate", str(tmp_path / "model"), *flags]) == 0
    assert "on 1 pairs" in " ".join(capsys.readouterr().out.split())


def test_a_held_out_target_is_no_row_of_valid(tmp_path: Path) -> None:
    lines = "".join(f"{one}\t{PAIRS[n // 2][1]}\n" for n, (one, _) in enumerate(PAIRS[:8]))
    (tmp_path / "few.tsv").write_text(lines, "utf-8")
    manifest = prepare_file(tmp_path / "few.tsv", DataConfig(), tmp_path / "corpus")
    assert all(manifest.rows.values())
    assert manifest.read == sum(manifest.rows.values()) + sum(manifest.drops.values())
    assert all(leak.shared_targets == 0 for leak in manifest.leak.values())


def test_the_split_of_a_corpus_that_has_enough_rows_follows_from_the_shares(
    tmp_path: Path,
) -> None:
    lines = "".join(f"sentence {n}\tphrase {n}\n" for n in range(2_000))
    (tmp_path / "many.tsv").write_text(lines, "utf-8")
    first = prepare_file(tmp_path / "many.tsv", CONFIG, tmp_path / "one")
    (tmp_path / "many.tsv").write_text("more of it\tplus\n" + lines, "utf-8")
    second = prepare_file(tmp_path / "many.tsv", CONFIG, tmp_path / "two")
    assert sum(second.rows.values()) == sum(first.rows.values()) + 1
    for split in first.rows:
        one, two = (Corpus.open(tmp_path / name).split(split) for name in ("one", "two"))
        assert set(one["source"]) <= set(two["source"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<b>a</b>\tb\n" * 30, "no usable pair in 30 rows (30 markup; --corpus.clean.no-markup"),
        ("a b\tc d\n" * 30, "30 usable pairs are too few (29 duplicate; "),
        ("one\tun\ntwo\tdeux\n" + "<b>\tx\n" * 9, "too few (9 markup; --corpus.clean.no-markup"),
        ("just\na\ntext\n", "(3 columns; a row must be: source, tab, target; --columns"),
    ],
)
def test_a_corpus_of_hardly_any_row_is_refused_with_the_rules_and_a_remedy(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.tsv").write_text(content, "utf-8")
    flags = ["--source", str(tmp_path / "few.tsv")]
    assert (
        main(["prepare", "base", "--languages", "en-fr", *flags, "--out", str(tmp_path / "corpus")])
        == 2
    )
    [error] = capsys.readouterr().err.splitlines()
    assert said in error
    assert main(["prepare", "base", "--languages", "en-fr", *flags, "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [error]
    assert "rows read; nothing is written" in shown.out
    assert [file.name for file in tmp_path.iterdir()] == ["few.tsv"]
