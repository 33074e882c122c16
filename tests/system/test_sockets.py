"""What each command listens on while it runs, and what it leaves for others to read."""

import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s.cli.verbs import VERBS
from s2s.corpus import Corpus
from tests.support.cluster import BIN
from tests.support.sockets import Socket, listening, reachable_by_others

pytestmark = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="sockets are listed on Linux"
)

# Those of `s2s serve` are listed in test_serving.py.
ON_RAY = {
    "prepare": "prepare demo --languages en-fr --source {pairs} --out {out} --tasks 2",
    "train": "train demo --corpus {corpus} --out {out} --workers 2 --train.epochs 3",
    "tune": "tune demo --corpus {corpus} --out {out} --trials 2 --train.epochs 2 --workers 2"
    " --hidden-sizes 16 --embedding-sizes 8 16",
}
IN_ONE_PROCESS = {
    "inspect": "inspect {corpus}",
    "evaluate": "evaluate {model} --corpus {corpus}",
    "report": "report {model} --corpus {corpus} --out {out}",
    "compare": "compare {model} {model} --corpus {corpus} --split valid --samples 10",
    "translate": "translate {model} dog",
    "export": "export {model} --to onnx --out {out}",
    "shortlist": "shortlist {model} --corpus {corpus}",
    "key": "key alice --file {out}",
    "completion": "completion bash",
}


def test_every_verb_is_listed() -> None:
    assert {*ON_RAY, *IN_ONE_PROCESS, "serve", "submit", "doctor"} == set(VERBS)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A user's home, which is also the folder for temporary files: sockets need short paths."""
    with tempfile.TemporaryDirectory(prefix="s2s-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def watched(command: str, home: Path) -> set[Socket]:
    """Run a command to its end, as a user without any settings would, and list its sockets."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {"HOME": str(home), "TMPDIR": str(home)}
    process = subprocess.Popen(
        [BIN / "s2s", *command.split()],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found: set[Socket] = set()
    while process.poll() is None:
        found |= listening(process.pid)
        time.sleep(0.5)  # to list them takes time from the command
    assert process.stdout is not None
    assert process.returncode == 0, process.stdout.read()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ON_RAY)
def test_a_cluster_of_a_commands_own_is_for_its_host_and_its_user_alone(
    verb: str, home: Path, small_corpus: Path, tmp_path: Path
) -> None:
    pairs = small_corpus.parent / "pairs.txt"
    command = ON_RAY[verb].format(corpus=small_corpus, out=tmp_path / "out", pairs=pairs)
    found = watched(command, home)
    assert reachable_by_others(found) == set()
    names = {each.process for each in found}
    assert {"raylet", "gcs_server"} <= names
    if verb != "prepare":  # Ray's own port, torch's store and a pair of gloo's
        pids = {each.pid for each in found if each.process.startswith("ray::")}
        assert max(len({e.port for e in found if e.pid == pid}) for pid in pids) >= 3
    assert mode(home / ".ray" / "auth_token") == 0o600
    [folder] = home.glob("s2s-*")
    assert mode(folder) == 0o700
    assert list((folder / "ray").glob("session_2*"))


@pytest.mark.slow
@pytest.mark.parametrize("verb", IN_ONE_PROCESS)
def test_a_command_without_a_cluster_listens_nowhere(
    verb: str, home: Path, corpus: Corpus, model_dir: Path, tmp_path: Path
) -> None:
    command = IN_ONE_PROCESS[verb].format(corpus=corpus.path, model=model_dir, out=tmp_path / "out")
    assert watched(command, home) == set()
