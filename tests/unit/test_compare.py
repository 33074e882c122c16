"""Two systems side by side: models or files of translations."""

import json
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.compare import compare
from s2s.evaluation.evaluate import Part
from s2s.evaluation.scores import score
from tests.conftest import Pairs, Prepare

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def several(pairs: Pairs, prepared: Prepare) -> Corpus:
    """A corpus some of whose sources have two targets, so that it has fewer sources than rows."""
    return prepared([*pairs, *((source, f"{target} vraiment") for source, target in pairs[::2])])


@pytest.fixture(scope="module")
def part(several: Corpus) -> Part:
    part = Part.of(several, "test")
    assert len(part.sources) < len(part.rows)
    return part


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="")
    return path


def test_a_model_does_not_differ_from_itself(model_dir: Path, corpus: Corpus) -> None:
    told: list[int] = []
    result = compare(model_dir, model_dir, corpus.path, "test", told.append, samples=100)
    assert result["different"] == 0
    assert sum(told) == 2 * result["sentences"]
    assert [row["name"] for row in result["scores"]] == ["BLEU", "chrF2", "TER"]
    for row in result["scores"]:
        assert (row["difference"], row["p_value"], row["better"]) == (0, 1, None)


def test_a_model_is_compared_with_its_own_translations(
    model_dir: Path, several: Corpus, part: Part, translator: Translator, tmp_path: Path
) -> None:
    said = translator.translate(part.sources)
    file = written(tmp_path / "said.txt", said)
    result = compare(model_dir, file, several.path, "test", samples=100)
    assert result["different"] == 0
    alone = {s.name: s.score for s in score(said, part.references, "")}
    for row in result["scores"]:
        assert row["a"] == row["b"] == pytest.approx(alone[row["name"]])


def test_the_better_file_wins_whichever_side_it_is_on(
    several: Corpus, part: Part, tmp_path: Path
) -> None:
    good = written(tmp_path / "good.txt", [group[-1] for group in part.references])
    bad = written(tmp_path / "bad.txt", ["rien du tout"] * len(part.sources))
    for sides, winner in (((good, bad), "a"), ((bad, good), "b")):
        result = compare(*sides, several.path, "test", samples=100)
        assert result["different"] == result["sentences"] == len(part.sources)
        assert {row["better"] for row in result["scores"]} == {winner}


def test_a_line_for_each_row_gives_the_first_of_each_source(
    several: Corpus, part: Part, tmp_path: Path
) -> None:
    seen: set[int] = set()
    rows = []
    for source in part.rows:
        rows.append("later" if source in seen else f"first {source}")
        seen.add(source)
    by_row = written(tmp_path / "rows.txt", rows)
    by_source = written(tmp_path / "sources.txt", [f"first {n}" for n in range(len(part.sources))])
    assert compare(by_row, by_source, several.path, "test", samples=10)["different"] == 0


def test_only_a_line_feed_ends_a_line(several: Corpus, part: Part, tmp_path: Path) -> None:
    lines = [f"a\u2028b {n}" for n in range(len(part.sources))]
    lines[1] = ""
    unix = written(tmp_path / "unix.txt", lines)
    windows = tmp_path / "windows.txt"
    windows.write_bytes("\r\n".join(lines).encode())  # and no end of the last line
    assert compare(unix, windows, several.path, "test", samples=10)["different"] == 0


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_length_is_bad_input(
    more: int, several: Corpus, part: Part, tmp_path: Path
) -> None:
    file = written(tmp_path / "file.txt", ["a"] * (len(part.sources) + more))
    with pytest.raises(BadInput) as error:
        compare(file, file, several.path, "test")
    for number in (len(part.sources) + more, len(part.sources), len(part.rows)):
        assert str(number) in str(error.value)


def test_an_empty_file_is_bad_input(several: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="0 lines"):
        compare(written(tmp_path / "none.txt", []), tmp_path, several.path, "test")


def test_a_file_that_is_not_utf_8_is_bad_input(several: Corpus, part: Part, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("été\n".encode("latin-1") * len(part.sources))
    with pytest.raises(BadInput, match="UTF-8"):
        compare(tmp_path / "latin.txt", tmp_path / "latin.txt", several.path, "test")


def test_what_is_neither_a_model_nor_a_file_is_bad_input(
    model_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="no such"):
        compare(model_dir, tmp_path / "absent", corpus.path, "test")
    with pytest.raises(BadInput, match="no model directory"):
        compare(model_dir, tmp_path, corpus.path, "test")
    with pytest.raises(BadInput, match="no corpus directory"):
        compare(model_dir, model_dir, tmp_path, "test")


def test_a_model_of_other_languages_is_bad_input(
    model_dir: Path, pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["--source", str(pairs_file), "--out", str(tmp_path / "c"), "--languages", "de-nl"]
    assert main(["prepare", "demo", *flags, "--corpus.valid", "0.2", "--corpus.test", "0.2"]) == 0
    with pytest.raises(BadInput, match=r"en-fr.*de-nl"):
        compare(model_dir, model_dir, tmp_path / "c", "test")


# ---- the command --------------------------------------------------------------------------------


def test_the_command_prints_a_table_or_json(
    model_dir: Path, several: Corpus, part: Part, capsys: Captured, tmp_path: Path
) -> None:
    bad = written(tmp_path / "bad.txt", ["rien"] * len(part.sources))
    flags = ["--corpus", str(several.path), "--split", "test", "--samples", "100"]
    assert main(["compare", str(model_dir), str(bad), *flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == compare(model_dir, bad, several.path, "test", samples=100)
    assert main(["compare", str(model_dir), str(bad), *flags]) == 0
    said = capsys.readouterr().out
    assert f"{len(part.sources)} of {len(part.sources)} sentences" in said
    for wanted in ("BLEU", "chrF2", "TER", "0.0099", str(model_dir), str(bad)):
        assert wanted in said


def test_the_command_refuses_numbers_that_mean_nothing(
    model_dir: Path, corpus: Corpus, capsys: Captured
) -> None:
    for name in ("samples", "beam"):
        flags = ["--corpus", str(corpus.path), f"--{name}", "0"]
        assert main(["compare", str(model_dir), str(model_dir), *flags]) == 2
        assert name in capsys.readouterr().err
