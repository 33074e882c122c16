"""Comparisons of two systems, which are models or files of translations."""

import json
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.compare import Comparison, System, compare, open_system
from s2s.evaluation.references import References
from s2s.evaluation.scores import score
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
    with pytest.raises(BadInput, match="no model directory"):
        compare_paths(model_dir, tmp_path, corpus)


def test_a_model_of_other_languages_is_bad_input(
    model_dir: Path, pairs_file: Path, capsys: Captured, tmp_path: Path
) -> None:
    flags = ["--source", str(pairs_file), "--out", str(tmp_path / "c"), "--languages", "de-nl"]
    flags += ["--corpus.valid", "0.2", "--corpus.test", "0.2", "--corpus.no-check-languages"]
    assert main(["prepare", "demo", *flags]) == 0
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
