"""Preparation as Ray tasks: whatever is killed, the same bytes as in process."""

import hashlib
import signal
from pathlib import Path

import pytest

from s2s.provenance import OPTIONS, SESSIONS
from tests.support.cluster import Cluster, s2s
from tests.support.serving import until

WORDS = ["red", "blue", "old", "new", "big", "small", "dog", "cat", "tree", "house", "L'été", "«"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough rows for four chunks, a few of them unusable."""
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    with path.open("w", encoding="utf-8") as file:
        for n in range(100_000):
            digits = [WORDS[n // 12**place % 12] for place in range(6)]
            file.write(f"{' '.join(digits)}.\t{' '.join(reversed(digits[:4]))} {n % 9_000} !\n")
            if n % 5_000 == 0:
                file.write("only one column\n<b>markup</b>\tx\n")
    return path


@pytest.fixture(scope="module")
def in_process(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a corpus that was prepared without Ray."""
    out = tmp_path_factory.mktemp("alone") / "corpus"
    done = s2s("prepare", "base", "--languages", "en-fr", "--source", rows, "--out", out)
    assert done.code == 0, done.err
    return digests(out)


def digests(corpus: Path) -> dict[str, str]:
    """The hash of every file of a corpus directory, but for those on the command that made it."""
    files = sorted(file for file in corpus.rglob("*") if file.is_file())
    files = [file for file in files if file.name not in (OPTIONS, SESSIONS)]
    return {
        file.relative_to(corpus).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


@pytest.mark.parametrize(
    "kill", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_tasks_give_the_same_bytes_as_one_process_although_they_were_stopped(
    kill: signal.Signals,
    cluster: Cluster,
    rows: Path,
    in_process: dict[str, str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "corpus"
    command = (
        "prepare",
        "base",
        "--languages",
        "en-fr",
        "--source",
        rows,
        "--out",
        out,
        "--tasks",
        2,
    )
    process = cluster.start(*command)
    until(lambda: len(list((tmp_path / "corpus.run" / "clean").glob("*.json"))) >= 2, every=0.05)
    process.send_signal(kill)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == (3 if kill == signal.SIGINT else -signal.SIGKILL), rest
    assert not out.exists()
    if kill == signal.SIGINT:
        assert "again to resume" in rest
        other = cluster.s2s(*command, "--corpus.seed", 7)
        assert other.code == 2  # the run folder belongs to other settings
        assert "--restart" in other.err

    done = cluster.s2s(*command)
    assert done.code == 0, done.err
    assert "2 Ray tasks" in done.out
    assert "resuming the run in" in done.out
    assert "left out 20 rows: columns" in done.out
    assert "left out 20 rows: markup" in done.out
    assert digests(out) == in_process
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_what_is_wrong_in_a_task_is_told_in_a_line(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    done = cluster.s2s(
        "prepare",
        "base",
        "--languages",
        "en-fr",
        "--source",
        tmp_path / "rows.csv",
        "--out",
        tmp_path / "o",
        "--tasks",
        1,
    )
    assert done.code == 2
    assert "no columns en and fr among x, y" in done.err
    assert len(done.err.splitlines()) == 1


def test_more_tasks_than_a_fixed_cluster_holds_are_refused(
    cluster: Cluster, rows: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "prepare",
        "base",
        "--languages",
        "en-fr",
        "--source",
        rows,
        "--out",
        tmp_path / "o",
        "--tasks",
        5,
    )
    assert done.code == 2
    assert "3 CPUs more than the cluster has" in done.err
