"""What reaches a terminal: text without control sequences, whoever wrote it."""

import os
import pty
import re
from dataclasses import replace
from pathlib import Path

import pytest

from s2s import console
from s2s.cli.main import main
from s2s.console import StageBars, printable
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.training.host import EpochTable
from tests.support.corpora import Pairs

Captured = pytest.CaptureFixture[str]

# What a terminal would obey: clear the screen, colour, title, bell, C1, and turned-around text.
ATTACK = "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m\u202egnp.exe\u202c\r\x08\x7f\u2066"
CONTROLS = {chr(code) for code in [*range(32), *range(127, 160)]} - {"\n", "\t"}
DIRECTIONS = set("\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe(shown: str) -> bool:
    return not (CONTROLS | DIRECTIONS) & set(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\tc\nd", "a\\rb\\tc\\nd"),
        ("\x7f\x9b\x00", "\\x7f\\x9b\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
        ("l'été à 5 €, 中文 \u200f\u05e9\u05dc\u05d5\u05dd 👩\u200d👧", None),
    ],
)
def test_text_is_made_printable(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)


def test_all_controls_are_made_printable() -> None:
    every = "".join(map(chr, range(0x3000)))
    assert safe(printable(every))
    assert len(set(every) - set(printable(every))) == len(CONTROLS | DIRECTIONS) + 4  # \n \t LS PS


def test_errors_quote_input_without_controls(capsys: Captured, tmp_path: Path) -> None:
    assert main(["translate", str(tmp_path / ATTACK), "a"]) == 2
    shown = capsys.readouterr().err
    assert "\\x1b[2J" in shown
    assert safe(shown)


def test_lines_above_a_bar_are_printable(capsys: Captured) -> None:
    with StageBars() as bars:
        bars.log(f"no rows in {ATTACK} :smile: [red]\nsecond line")
    shown = capsys.readouterr().out
    assert "[red]\nsecond line" in shown
    assert ":smile:" in shown
    assert safe(shown)


def test_no_sentence_of_a_corpus_controls_the_terminal(
    model_dir: Path, pairs: Pairs, capsys: Captured, tmp_path: Path
) -> None:
    attack = ATTACK.replace("\r", "")  # which would end a line
    (tmp_path / "train.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in pairs), "utf-8")
    held_out = f"I see {attack} :smile: trees [red]\tje vois {attack} des arbres [/red]\n"
    (tmp_path / "valid.tsv").write_text(held_out * 2, "utf-8")
    both = (tmp_path / "both.tsv", tmp_path / "valid.tsv", tmp_path / "train.tsv")
    both[0].write_text(both[2].read_text("utf-8") + held_out, "utf-8")
    shown = []
    for command in (
        ["prepare", "base", "--languages", "en-fr", "--source", str(both[0]), "--dry-run"],
        ["prepare", "base", "--languages", "en-fr", "--source", str(both[2]),
         "--valid-source", str(both[1]),
         "--out", str(tmp_path / "c")],
        ["inspect", str(tmp_path / "c")],
        ["evaluate", str(model_dir), "--corpus", str(tmp_path / "c")],
    ):  # fmt: skip
        assert main(command) == 0
        shown.append(capsys.readouterr().out)
        assert safe(shown[-1])
    for place in (0, 2, 3):  # what was dropped, samples, the worst sentences
        assert "\\x1b[2J" in "".join(shown[place].split())
    assert ":smile:" in shown[3]
    page = tmp_path / "c.html"
    assert main(["inspect", str(tmp_path / "c"), "--html", str(page)]) == 0


def test_a_file_gets_every_character_and_a_terminal_none_that_controls_it(
    model_dir: Path, capsys: Captured, tmp_path: Path
) -> None:
    stays = f"12:30 {ATTACK.replace(chr(13), '')} 12:30"  # has no word to translate
    (tmp_path / "in.txt").write_text(f"{stays}\n", "utf-8")
    flags = [str(model_dir), "--input", str(tmp_path / "in.txt")]
    assert main(["translate", *flags]) == 0
    assert capsys.readouterr().out == f"{stays}\n"
    assert main(["translate", *flags, "--output", str(tmp_path / "out.txt")]) == 0
    assert (tmp_path / "out.txt").read_text("utf-8") == f"{stays}\n"
    ours, theirs = pty.openpty()
    for more, shown in (([], printable(stays)), (["--beam", "2", "--n-best", "2"], "1\t0.0000\t")):
        assert main(["translate", *flags, *more, "--output", os.ttyname(theirs)]) == 0
        line = os.read(ours, 10_000).decode().removesuffix("\r\n")
        assert line.startswith(shown)
        assert safe(line)
    os.close(ours)
    os.close(theirs)


def test_epochs_are_a_table_whose_best_row_is_marked() -> None:
    table = EpochTable(12)
    record = EpochRecord(3, 900, 2.5, 1.75, 0.625, 0.8125, 1_664_690.4, 1e7, 10.25, 1, 0)
    headings, first = table.lines(RunMetrics(epochs=(record,), best=record)).split("\n")
    second = table.lines(RunMetrics(epochs=(record, replace(record, epoch=12)), best=record))
    assert first == "*  3/12     0.6250  0.8125     1.7500     2.5000 1,664,690    10.2 s"
    assert second == first.replace("*  3/12 ", "  12/12 ")
    bleu = replace(record, valid_bleu=12.345)
    scored = table.lines(RunMetrics(epochs=(bleu,), best=bleu))
    assert scored == f"{first}  BLEU 12.35"
    assert headings.startswith("  epoch  token acc  padded valid loss train loss   pairs/s")
    assert max(map(len, (first, scored, headings))) <= 80
    for heading, cell in (("token acc", "0.6250"), ("valid loss", "1.7500"), ("time", "s")):
        end = headings.index(heading) + len(heading)
        assert first[:end].endswith(cell), heading


def test_a_bar_moves_on_a_terminal_and_lines_are_rare_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    with console.EpochBar() as bar:
        bar.show(1, 10, 0, 200, 3.0, 1000.0)
        bar.show(1, 10, 20, 200, 2.5, 1712.4)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "epoch 1/10  0/200  loss 3.0000  1,000 pairs/s"
    assert re.fullmatch(
        r"epoch 1/10  20/200  loss 2.5000  1,712 pairs/s  0:\d\d left, run 0:\d\d", second
    )
    monkeypatch.setattr(console, "_LINE_SECONDS", 60.0)
    with console.EpochBar() as bar:
        bar.show(1, 10, 20, 200, 2.5, 1712.4)
    assert capsys.readouterr().out == ""


def test_the_progress_of_files_has_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    times = iter([0.0, 0.0, 5.0, 5.0, 9.0, 9.0])
    with monkeypatch.context() as patched:
        patched.setattr(console.time, "monotonic", lambda: next(times))
        bar = console.RowsBar()
        bar.begin(1000, 0.1)
        bar.add_rows(2048)
        bar.set_share(0.2)
        bar.add_rows(2000)
        bar.set_share(0.4)
    assert capsys.readouterr().err.splitlines() == [
        "translated 3,048 sentences",
        "translated 3,048 sentences",
        "translated 5,048 sentences  500 sentences/s",
        "translated 5,048 sentences  500 sentences/s  0:12 left",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0:00"), (67, "1:07"), (750, "12:30"), (11_045.2, "3:04:05")]
)
def test_durations_read_as_people_write_them(seconds: float, expected: str) -> None:
    assert console._duration(seconds) == expected
