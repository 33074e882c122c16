"""Lines end at LF and CRLF alone, in every command."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import BadInput
from s2s.text.lines import raw_lines, read_lines, split_lines
from tests.support.sources import pairs_of, rows_of

# All but LF that some library ends a line at.
WITHIN = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("\n", [""]),
        ("a\r\n\nb", ["a", "", "b"]),
        ("a\r\r\nb\r", ["a\r", "b\r"]),
        *((f"a{mark}b\n{mark} \n", [f"a{mark}b", f"{mark} "]) for mark in WITHIN),
    ],
)
def test_a_line_ends_at_a_line_feed(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@given(st.text(st.sampled_from(["a", "\n", "\r", "\ufeff", "é", *WITHIN])), st.integers(1, 3))
def test_all_ways_of_reading_lines_agree(text: str, count: int) -> None:
    lines = split_lines(text.removeprefix("\ufeff"))
    raw = text.encode()
    assert [line for some in read_lines(io.BytesIO(raw), count) for line in some] == lines
    assert [line.decode() for line in raw_lines(io.BytesIO(raw))] == lines


@pytest.mark.parametrize("mark", WITHIN)
def test_parallel_files_stay_parallel(mark: str, tmp_path: Path) -> None:
    (tmp_path / "a.en").write_bytes(f"one{mark}#1\ntwo #2\n".encode())
    (tmp_path / "a.fr").write_bytes(b"un #1\r\ndeux #2\r\n")
    assert pairs_of(tmp_path / "a.en") == [(f"one{mark}#1", "un #1"), ("two #2", "deux #2")]


def test_files_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("1\n2\n")
    (tmp_path / "a.fr").write_text("1\n2\n" + "3\n" * 5_000)
    with pytest.raises(BadInput, match=r"a\.en and a\.fr: 2 and 5,002 lines"):
        rows_of(tmp_path / "a.en")


@pytest.mark.parametrize(
    ("name", "line", "mark"),
    [
        *(("p.tsv", b"one%s\tun\r\n", mark) for mark in WITHIN),
        *(("p.csv", b"one%s,un\r\n", mark) for mark in WITHIN),
        *(("p.csv", b'"one%s",un\r\n', mark) for mark in WITHIN),
        # JSON holds the others as escapes alone.
        *(("p.jsonl", b'{"en": "one%s", "fr": "un"}\r\n', mark) for mark in WITHIN[-3:]),
    ],
)
def test_a_mark_within_a_line_is_a_part_of_it(
    name: str, line: bytes, mark: str, tmp_path: Path
) -> None:
    head = b"en,fr\r\n" if name.endswith("csv") else b""
    (tmp_path / name).write_bytes(head + line % mark.encode() + line % b"")
    (one, other) = pairs_of(tmp_path / name)
    assert other == ("one", "un")
    assert one[0].rstrip("".join(WITHIN)) == "one" != one[0]


@pytest.mark.parametrize("name", ["p.tsv", "p.csv", "p.en"])
def test_carriage_returns_alone_are_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.fr").write_text("un\ndeux\n")
    (tmp_path / name).write_bytes(b"en,fr\ta\rone,un\tb\rtwo,deux\tc")
    with pytest.raises(BadInput, match=r"carriage returns alone.*tr ") as caught:
        rows_of(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
