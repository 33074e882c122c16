"""Comparisons of two systems, which are models or files of translations."""

import json
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.config import DataConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.compare import Comparison, System, compare, open_system
from s2s.evaluation.references import References
from s2s.evaluation.scores import score
from s2s.preparation import Source, prepare
from tests.support.corpora import Pairs, Prepare

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def several(pairs: Pairs, prepared: Prepare) -> Corpus:
    """A corpus some of whose sources have two targets, so that it has fewer sources than rows."""
    return prepared([*pairs, *((source, f"{target} vraiment") for source, target in pairs[::2])])


@pytest.fixture(scope="module")
def references(several: Corpus) -> References:
    references = References.of(several, "test")
    assert len(references.sources) < len(references.source_of_row)
    return references


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="")
    return path


def compare_paths(a: Path, b: Path, corpus: Corpus, samples: int = 10) -> Comparison:
    """Compare models or files on `test`."""
    references = References.of(corpus, "test")
    first, second = (open_system(path, corpus, references) for path in (a, b))
    return compare(first, second, references, samples=samples)


def test_a_model_does_not_differ_from_itself(model_dir: Path, corpus: Corpus) -> None:
    references = References.of(corpus, "test")
    system = open_system(model_dir, corpus, references)
    batches: list[int] = []
    result = compare(system, system, references, samples=100, on_batch=batches.append)
    assert result.different == 0
    assert sum(batches) == 2 * result.sentences == 2 * len(references.sources)
    assert [row.name for row in result.differences] == ["BLEU", "chrF2", "TER"]
    for row in result.differences:
        assert (row.difference, row.p_value, row.better) == (0, 1, None)


def test_a_model_is_compared_with_its_own_translations(
    model_dir: Path, several: Corpus, references: References, translator: Translator, tmp_path: Path
) -> None:
    translations = translator.translate(references.sources)
    file = written(tmp_path / "translations.txt", translations)
    result = compare_paths(model_dir, file, several)
    assert result.different == 0
    assert (result.a, result.b) == (str(model_dir), str(file))
    alone = {s.name: s.score for s in score(translations, references.targets, "")}
    for row in result.differences:
        assert row.a == row.b == pytest.approx(alone[row.name])


def test_the_better_translations_win_whichever_side_they_are_on(references: References) -> None:
    good = System("good", [group[-1] for group in references.targets])
    bad = System("bad", ["rien du tout"] * len(references.sources))
    for sides, winner in (((good, bad), "a"), ((bad, good), "b")):
        result = compare(*sides, references, samples=100)
        assert result.different == result.sentences == len(references.sources)
        assert {row.better for row in result.differences} == {winner}


def test_a_line_for_each_row_gives_the_first_of_each_source(
    several: Corpus, references: References, tmp_path: Path
) -> None:
    seen: set[int] = set()
    rows = []
    for source in references.source_of_row:
        rows.append("later" if source in seen else f"first {source}")
        seen.add(source)
    by_row = written(tmp_path / "rows.txt", rows)
    by_source = written(
        tmp_path / "sources.txt", [f"first {n}" for n in range(len(references.sources))]
    )
    assert compare_paths(by_row, by_source, several).different == 0


def test_only_a_line_feed_ends_a_line(
    several: Corpus, references: References, tmp_path: Path
) -> None:
    lines = [f"a\u2028b {n}" for n in range(len(references.sources))]
    lines[1] = ""
    unix = written(tmp_path / "unix.txt", lines)
    windows = tmp_path / "windows.txt"
    windows.write_bytes("\r\n".join(lines).encode())  # and no end of the last line
    assert compare_paths(unix, windows, several).different == 0


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_length_is_bad_input(
    more: int, several: Corpus, references: References, tmp_path: Path
) -> None:
    file = written(tmp_path / "file.txt", ["a"] * (len(references.sources) + more))
    with pytest.raises(BadInput) as error:
        compare_paths(file, file, several)
    for number in (
        len(references.sources) + more,
        len(references.sources),
        len(references.source_of_row),
    ):
        assert str(number) in str(error.value)


def test_a_list_of_another_length_is_bad_input(references: References) -> None:
    right, short = (System("s", ["a"] * (len(references.sources) - n)) for n in (0, 1))
    for a, b in ((right, short), (short, right)):
        with pytest.raises(BadInput, match=f"{len(references.sources) - 1} translations of"):
            compare(a, b, references)


def test_an_empty_file_is_bad_input(several: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="0 lines"):
        compare_paths(written(tmp_path / "none.txt", []), tmp_path, several)


def test_a_file_that_is_not_utf_8_is_bad_input(
    several: Corpus, references: References, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes("été\n".encode("latin-1") * len(references.sources))
    with pytest.raises(BadInput, match="UTF-8"):
        compare_paths(tmp_path / "latin.txt", tmp_path / "latin.txt", several)


def test_a_path_of_neither_a_model_nor_a_file_is_bad_input(
    model_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="no such"):
        compare_paths(model_dir, tmp_path / "absent", corpus)
    with pytest.raises(BadInput, match="not a model directory"):
        compare_paths(model_dir, tmp_path, corpus)


def test_a_model_of_other_languages_is_bad_input(
    model_dir: Path, pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["--source", str(pairs_file), "--out", str(tmp_path / "c"), "--languages", "de-nl"]
    flags += ["--corpus.valid", "0.2", "--corpus.test", "0.2", "--corpus.no-check-languages"]
    assert main(["prepare", "demo", "--languages", "en-fr", *flags]) == 0
    with pytest.raises(BadInput, match=rf"{model_dir} translates en-fr, .* holds de-nl"):
        compare_paths(model_dir, model_dir, Corpus.open(tmp_path / "c"))


# ---- the command --------------------------------------------------------------------------------


def test_the_command_prints_a_table_or_json(
    model_dir: Path, several: Corpus, references: References, capsys: Captured, tmp_path: Path
) -> None:
    bad = written(tmp_path / "bad.txt", ["rien"] * len(references.sources))
    flags = ["--corpus", str(several.path), "--split", "test", "--samples", "100"]
    assert main(["compare", str(model_dir), str(bad), *flags, "--json"]) == 0
    expected = compare_paths(model_dir, bad, several, samples=100)
    printed = capsys.readouterr().out
    assert printed == expected.to_json() + "\n"
    content = json.loads(printed)
    assert list(content) == ["a", "b", "part", "sentences", "different", "samples", "scores"]
    assert content["part"] == "test"
    assert content["scores"][2] == {
        "name": "TER",
        "a": expected.differences[2].a,
        "b": expected.differences[2].b,
        "difference": expected.differences[2].difference,
        "p_value": expected.differences[2].p_value,
        "better": "a",
        "signature": expected.differences[2].signature,
    }
    assert main(["compare", str(model_dir), str(bad), *flags]) == 0
    printed = capsys.readouterr().out
    assert f"{len(references.sources)} of {len(references.sources)} sentences" in printed
    for expected_text in ("BLEU", "chrF2", "TER", "0.0099", str(model_dir), str(bad)):
        assert expected_text in printed


def test_the_command_refuses_numbers_that_mean_nothing(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    for name in ("samples", "beam"):
        flags = ["--corpus", str(corpus.path), f"--{name}", "0"]
        assert main(["compare", str(model_dir), str(model_dir), *flags]) == 2
        assert name in capsys.readouterr().err


def test_the_command_refuses_what_is_no_corpus(model_dir: Path, capsys: Captured) -> None:
    flags = ["--corpus", str(model_dir)]
    assert main(["compare", str(model_dir), str(model_dir), *flags]) == 2
    assert "is not a corpus directory" in capsys.readouterr().err


# ---- lines of the user's own test file ----------------------------------------------------------


@pytest.fixture(scope="module")
def given_files(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Path]:
    """A corpus whose test files have 14 lines, three of them blank and one repeated, and these."""
    folder = tmp_path_factory.mktemp("given")
    sources = [f"I see trees {n}." for n in range(10)]
    sources = ["", *sources[:4], " ", *sources[4:], sources[2], "\t"]
    for side, line in (("en", "{}"), ("fr", "{} vraiment")):
        lines = "".join(line.format(s) * bool(s.strip()) + "\n" for s in sources)
        (folder / f"test.{side}").write_text(lines, "utf-8")
    out, test = folder / "corpus", str(folder / "test.en")
    flags = ["--source", str(pairs_file), "--test-source", test, "--out", str(out)]
    assert main(["prepare", "base", "--languages", "en-fr", *flags]) == 0
    return Corpus.open(out), folder


def test_a_line_for_each_line_of_the_test_file_is_accepted(
    given_files: tuple[Corpus, Path], tmp_path: Path
) -> None:
    corpus, folder = given_files
    assert corpus.manifest.left_out == {"test": (1, 6, 14)}
    whole = (folder / "test.fr").read_text("utf-8").split("\n")[:-1]
    assert len(whole) == 14
    by_line = written(tmp_path / "whole.txt", whole)
    by_row = written(tmp_path / "rows.txt", [line for line in whole if line.strip()])
    by_source = written(tmp_path / "sources.txt", [f"I see trees {n}. vraiment" for n in range(10)])
    result = compare_paths(by_line, by_row, corpus)
    assert result.different == 0
    assert result.differences[0].a > 99
    assert compare_paths(by_line, by_source, corpus).different == 0
    windows = tmp_path / "windows.txt"
    windows.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*whole, ""]).encode())
    assert compare_paths(windows, by_source, corpus).different == 0


def test_another_number_of_lines_is_told_with_those_that_were_left_out(
    given_files: tuple[Corpus, Path], tmp_path: Path
) -> None:
    file = written(tmp_path / "short.txt", ["a"] * 13)
    with pytest.raises(BadInput) as error:
        compare_paths(file, file, given_files[0])
    for expected in ("has 13 lines", "10 distinct", "11 rows", "14 with", "rows 1, 6, 14 of test"):
        assert expected in str(error.value)


def test_the_rows_left_out_of_several_chunks_and_files_are_numbered(
    pairs: Pairs, tmp_path: Path
) -> None:
    for name, skipped in (("one", {1, 4}), ("two", {0, 5})):
        lines = ["" if n in skipped else f"I see {n}\tje vois {n}" for n in range(6)]
        written(tmp_path / f"{name}.tsv", lines)
    written(tmp_path / "train.tsv", [f"{s}\t{t}" for s, t in pairs])
    source = Source(
        source=(str(tmp_path / "train.tsv"),),
        valid=(str(tmp_path / "one.tsv"), str(tmp_path / "two.tsv")),
        source_language="en",
        target_language="fr",
    )
    manifest = prepare(source, DataConfig(), tmp_path / "corpus", chunk_rows=4)
    assert manifest.left_out == {"valid": (2, 5, 7, 12)}


def test_a_translation_of_several_lines_is_one_line_of_evaluate(
    model_dir: Path, tmp_path: Path, pairs_file: Path
) -> None:
    valid = tmp_path / "valid.jsonl"
    rows = ["I see trees.\nyou want bread.", "I see bread.\r\nI see trees.", "we see\u2028Paris."]
    valid.write_text("".join(json.dumps({"en": s, "fr": "oui"}) + "\n" for s in rows), "utf-8")
    flags = ["--source", str(pairs_file), "--valid-source", str(valid)]
    assert (
        main(["prepare", "base", "--languages", "en-fr", *flags, "--out", str(tmp_path / "c")]) == 0
    )
    flags = ["--corpus", str(tmp_path / "c"), "--output", str(tmp_path / "o.txt")]
    assert main(["evaluate", str(model_dir), *flags]) == 0
    lines = (tmp_path / "o.txt").read_bytes().split(b"\n")
    assert len(lines) == 4
    assert b"\xe2\x80\xa8" in lines[2]
    corpus = Corpus.open(tmp_path / "c")
    open_system(tmp_path / "o.txt", corpus, References.of(corpus, "valid"))
