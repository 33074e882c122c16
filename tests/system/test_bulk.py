"""Translation of files with actors of Ray Data, some of which are killed, as is the driver."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from s2s.decoding.translator import Translator
from tests.support.cluster import Cluster, s2s
from tests.support.corpora import Pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LINES = 60_000
WAIT = 300.0  # seconds; processes of Ray start slowly on a machine at work


@pytest.fixture
def lines(pairs: Pairs) -> list[str]:
    sentences = list(dict.fromkeys(source for source, _ in pairs))
    return [sentences[n * 7 % len(sentences)] for n in range(LINES)]


@pytest.fixture
def translated(lines: list[str], translator: Translator) -> bytes:
    """What is to be written, whatever happens."""
    distinct = list(dict.fromkeys(lines))
    translations = dict(zip(distinct, translator.translate(distinct), strict=True))
    return "".join(f"{translations[line]}\n" for line in lines).encode()


def number_of_parts(out: Path) -> int:
    return len(list(out.with_name(f"{out.name}.run").rglob("*.part")))


def wait_for_parts(process: subprocess.Popen[str], out: Path, number: int) -> None:
    """Wait until a command has written more than so many parts."""
    end = time.monotonic() + WAIT
    while number_of_parts(out) <= number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_translation_whose_driver_and_actor_were_killed_is_as_an_undisturbed_one(
    cluster: Cluster, model_dir: Path, lines: list[str], translated: bytes, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    files = ("--input", source, "--output", out)
    command = ("translate", model_dir, *files, "--workers", 2)

    process = cluster.start(*command)
    wait_for_parts(process, out, 2)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 3, told
    assert "run the same command again to resume" in told
    assert not out.exists()

    refused = cluster.s2s(*command, "--beam", 2)
    assert refused.code == 2
    assert "holds another run: decode.beam was 1, and is 2 now" in refused.err

    before = number_of_parts(out)
    process = cluster.start(*command)
    wait_for_parts(process, out, before + 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT)
    assert not out.exists()

    before = number_of_parts(out)
    process = cluster.start(*command)
    wait_for_parts(process, out, before + 1)
    os.kill(cluster.processes("ray::MapWorker")[0], signal.SIGKILL)
    told, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, told
    continued = re.search(r"continuing after ([\d,]+) rows", told)
    assert continued
    assert int(continued[1].replace(",", "")) == before * 2048
    assert out.read_bytes() == translated
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_actors_translate_a_folder_and_tell_what_they_cannot(
    cluster: Cluster, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("in")
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"I see trees.\n\xff\n")
    (folder / "b.jsonl").write_text('{"en": "I see trees."}\n[]\n')
    direct, there = tmp_path / "direct", tmp_path / "there"
    command = ("translate", model_dir, "--input", folder, "--output")
    wanted = cluster.s2s(*command, there, "--workers", 1)
    assert wanted.code == 0, wanted.err
    os.environ.pop("RAY_ADDRESS")
    try:
        assert s2s(*command, direct).code == 0
    finally:
        os.environ["RAY_ADDRESS"] = cluster.address
    for name in ("a.txt", "b.jsonl"):
        assert (there / name).read_bytes() == (direct / name).read_bytes()
    assert "a.txt: 1 line has no translation, as it is not UTF-8" in wanted.err
    assert "b.jsonl: 1 line has no translation, as it is no JSON object; line: 2" in wanted.err
    (folder / "c.jsonl").write_text('{"fr": "a"}\n')
    refused = cluster.s2s(*command, tmp_path / "more", "--workers", 1)
    assert refused.code == 2
    assert "c.jsonl: no column or field en or source" in refused.err
