"""Training, sweeps and preparation on three hosts, whose names lead to 127.0.1.1."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s.corpus import Corpus
from s2s.model.directory import read_config
from tests.support.cluster import BIN
from tests.support.hosts import HostCluster, hosts, ray_on, reason_for_none
from tests.support.training import together
from tests.system.conftest import RUN, reached

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

TOKEN = "0123456789abcdef" * 4
S2S = BIN / "s2s"


def made_hosts(folder: Path, **environment: str) -> Iterator[HostCluster]:
    """Yield a cluster of a head without CPUs and two hosts of one CPU, with a shared folder."""
    if reason := reason_for_none():
        pytest.skip(reason)
    (folder / "shared").mkdir()
    with (
        hosts(3, folder / "hosts", [folder / "shared"]) as three,
        ray_on(three, **environment) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def quiet() -> Iterator[HostCluster]:
    """A cluster with a token, which tests leave as it is."""
    with tempfile.TemporaryDirectory(prefix="s2s-h-", ignore_cleanup_errors=True) as folder:
        yield from made_hosts(Path(folder), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)


@pytest.fixture
def hurt() -> Iterator[HostCluster]:
    """A cluster that a test may damage."""
    with tempfile.TemporaryDirectory(prefix="s2s-h-", ignore_cleanup_errors=True) as folder:
        yield from made_hosts(Path(folder))


def shared(cluster: HostCluster) -> Path:
    """Return the folder that all hosts see."""
    return cluster.head.folder.parents[1] / "shared"


def own(cluster: HostCluster, path: str) -> Path:
    """Return where the head has a path that no other host sees."""
    return cluster.head.folder / path.lstrip("/")


@pytest.fixture
def corpus(request: pytest.FixtureRequest, small_corpus: Path) -> Path:
    """The small corpus, where all hosts see it."""
    name = next(name for name in ("quiet", "hurt") if name in request.fixturenames)
    copy = shared(request.getfixturevalue(name)) / "corpus"
    if not copy.exists():
        shutil.copytree(small_corpus, copy)
    return copy


def train(corpus: Path, out: Path, *options: object) -> tuple[object, ...]:
    return ("train", "demo", "--corpus", corpus, "--out", out, *RUN, *options)


def checkpoints_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.run") / "checkpoints"


def losses(model: Path) -> list[tuple[float, float]]:
    epochs = json.loads((model / "metrics.json").read_text())["epochs"]
    return [(epoch["train_loss"], epoch["valid_loss"]) for epoch in epochs]


def undisturbed(workers: int, corpus: Path, model: Path, folder: Path) -> list[tuple[float, float]]:
    """Return the losses of the same run on one host, without Ray."""
    _, metrics = together(workers, Corpus.open(corpus), read_config(model), folder)
    return [(epoch.train_loss, epoch.valid_loss) for epoch in metrics.epochs]


class Output:
    """The lines of a command, while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._lines = process, list[str]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def wait_for(self, what: str, times: int = 1) -> None:
        """Wait until so many lines have a text."""
        end = time.monotonic() + 600
        while sum(what in line for line in list(self._lines)) < times:
            assert self._reader.is_alive(), self.text
            assert time.monotonic() < end, f"never {what!r}: {self.text}"
            time.sleep(0.2)

    def end(self) -> str:
        """Wait for the end of the command, which is to succeed, and return what it has printed."""
        assert self._process.wait(1800) == 0, self.text
        self._reader.join()
        return self.text


# ---- two hosts, undamaged -----------------------------------------------------------------------

# Prints the addresses that the worker on a host listens on.
_LISTENING = """
import psutil
for process in psutil.process_iter():
    if "RayTrainWorker" in " ".join(process.cmdline()):
        places = [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        print(*sorted(place.ip.removeprefix("::ffff:") for place in places))
"""


def submit(cluster: HostCluster, *entrypoint: object, **environment: str) -> Output:
    """Start a job, and follow its output."""
    return Output(
        cluster.start(
            BIN / "ray", "job", "submit", "--address", cluster.dashboard, "--runtime-env-json",
            json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}}),
            "--", sys.executable, "-m", *entrypoint, **environment,
        )
    )  # fmt: skip


def test_a_job_trains_on_two_hosts_as_on_one(
    quiet: HostCluster, corpus: Path, tmp_path: Path
) -> None:
    out = shared(quiet) / "model"
    job = submit(quiet, "jobs.train", *train(corpus, out, "--workers", 2)[1:])
    job.wait_for("1/5")
    for host in quiet.hosts[1:]:
        listening = host.run(sys.executable, "-c", _LISTENING).out.split()
        assert listening.count("::") == 1, host  # Ray's own port, which asks for the token
        assert set(listening) == {host.address, "::"}, host  # torch's store, gloo
    text = job.end()
    assert "2 workers with 1 thread each" in text
    assert losses(out) == undisturbed(2, corpus, out, tmp_path)


def test_a_wrong_token_is_refused(quiet: HostCluster) -> None:
    done = quiet.run(
        BIN / "ray", "job", "submit", "--address", quiet.dashboard, "--", "true",
        RAY_AUTH_TOKEN="f" * 64,
    )  # fmt: skip
    assert done.code != 0
    assert "InvalidAuthToken" in done.out + done.err


def test_what_no_host_can_hold_is_refused_at_once(quiet: HostCluster, corpus: Path) -> None:
    out = shared(quiet) / "never"
    for options in (("--workers", 1, "--cpus", 2), ("--workers", "1:2", "--cpus", 2)):
        done = quiet.run(S2S, *train(corpus, out, *options))
        assert done.code == 2, done
        assert "needs 2 CPUs on one host, and the largest, h" in done.err
        assert "has 1 CPU;" in done.err
    done = quiet.run(S2S, *train(corpus, out, "--workers", 1, "--gpu"))
    assert done.code == 2, done
    assert "has 1 CPU and 0 GPUs" in done.err
    sweep = quiet.run(
        S2S, "tune", "demo", "--corpus", corpus, "--out", out, "--trials", 2,
        "--gpu",
    )  # fmt: skip
    assert sweep.code == 2, sweep
    assert "has 1 CPU and 0 GPUs" in sweep.err
    assert not out.with_name("never.run").exists()


def test_a_host_that_does_not_see_a_path_is_named(quiet: HostCluster, corpus: Path) -> None:
    alone = own(quiet, "/tmp/corpus")
    shutil.copytree(corpus, alone)
    shutil.copy(corpus.parent / "corpus" / "corpus.json", own(quiet, "/tmp/pairs.tsv"))
    out = shared(quiet) / "unseen"
    source = ("prepare", "demo", "--languages", "en-fr", "--tasks", 2, "--source")
    pairs = shared(quiet) / "pairs.tsv"
    pairs.write_text("The dog.\tLe chien.\n")
    for command, path in (
        (train(Path("/tmp/corpus"), out, "--workers", 1), "corpus as this host: /tmp/corpus"),
        (train(corpus, Path("/tmp/model"), "--workers", 1), "run as this host: /tmp/model.run"),
        (
            train(corpus, out, "--workers", 1, "--checkpoints", "file:///tmp/points"),
            "--checkpoints as this host: /tmp/points",
        ),
        ((*source, "/tmp/pairs.tsv", "--out", out), "source as this host: /tmp/pairs.tsv"),
        ((*source, pairs, "--out", "/tmp/prepared"), "corpus as this host: /tmp must"),
    ):
        done = quiet.run(S2S, *command)
        assert done.code == 2, done
        [line] = done.err.splitlines()
        assert line.startswith("s2s: host h")
        assert f"does not see the same {path}" in line or path in line, line
    assert not out.with_name("unseen.run").exists()


def test_a_run_says_what_it_waits_for_and_a_stopped_job_has_saved(
    quiet: HostCluster, corpus: Path
) -> None:
    first, second = (shared(quiet) / name for name in ("first", "second"))
    long = ("--train.epochs", 2000, "--workers", 2)
    job = submit(quiet, "jobs.train", *train(corpus, first, *long)[1:])
    job.wait_for(" 1/2000")
    waiting = Output(quiet.start(S2S, *train(corpus, second, "--workers", 2)))
    waiting.wait_for("waiting for 2 CPUs, 0 CPUs free")
    boards = quiet.run(sys.executable, "-c", _BOARDS).out.split()
    assert boards == ["h1", "h1"]  # with the drivers, on a host without CPUs
    name = next(word for word in job.text.split("'") if word.startswith("raysubmit_"))
    quiet.run(BIN / "ray", "job", "stop", "--address", quiet.dashboard, name)
    job.wait_for("which is saved")
    text = waiting.end()
    assert "has failed" not in text
    assert "2 workers with 1 thread each" in text


_BOARDS = """
import ray
from ray.util.state import list_actors
ray.init(log_to_driver=False, logging_level="ERROR")
names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
for actor in list_actors(filters=[("class_name", "=", "_Board"), ("state", "=", "ALIVE")]):
    print(names[actor.node_id])
"""


# ---- hosts that are lost ------------------------------------------------------------------------


def test_a_run_without_a_host_goes_on_and_grows_when_the_host_is_back(
    hurt: HostCluster, corpus: Path, tmp_path: Path
) -> None:
    out = shared(hurt) / "model"
    options = (
        "--workers",
        "1:2",
        "--resize",
        2,
        "--train.epochs",
        150,
        "--train.precision",
        "fp32",
    )
    run = Output(hurt.start(S2S, *train(corpus, out, *options, "--train.learning-rate", "5e-4")))
    run.wait_for("2 workers with 1 thread each")
    run.wait_for(" 2/150")
    hurt.hosts.cut(hurt.hosts[2])
    run.wait_for("host h3 (10.77.0.3) does not answer")
    run.wait_for("host h3 (10.77.0.3) does not answer: restarting the workers")
    run.wait_for("1 worker with 1 thread on")
    hurt.hosts.join(hurt.hosts[2])
    hurt.add(hurt.hosts[2])
    run.wait_for("continuing with 2 workers")
    run.wait_for("2 workers with 1 thread each", times=2)
    text = run.end()
    assert "a worker has failed" not in text
    for mine, whole in zip(losses(out), undisturbed(1, corpus, out, tmp_path), strict=True):
        # Sums in another order, over 17,000 steps.
        assert mine == pytest.approx(whole, rel=1e-3, abs=2e-4)


def test_a_run_of_fixed_size_waits_for_a_host_and_then_ends_as_if_undisturbed(
    hurt: HostCluster, corpus: Path, tmp_path: Path
) -> None:
    out = shared(hurt) / "model"
    run = Output(hurt.start(S2S, *train(corpus, out, "--workers", 2, "--train.epochs", 20)))
    reach(checkpoints_of(out), 150)
    hurt.hosts.cut(hurt.hosts[1])
    run.wait_for("host h2 (10.77.0.2) does not answer: restarting the workers")
    run.wait_for("waiting for 2 CPUs, 1 CPU free")
    hurt.hosts.join(hurt.hosts[1])
    hurt.add(hurt.hosts[1])
    text = run.end()
    assert "resuming from the checkpoint of step" in text
    assert "a worker has failed" not in text
    assert losses(out) == undisturbed(2, corpus, out, tmp_path)


def test_a_run_ends_on_the_rest_when_a_host_was_killed(
    hurt: HostCluster, corpus: Path, tmp_path: Path
) -> None:
    out = shared(hurt) / "model"
    options = ("--workers", "1:2", "--train.epochs", 20, "--train.precision", "fp32")
    run = Output(hurt.start(S2S, *train(corpus, out, *options)))
    reach(checkpoints_of(out), 150)
    hurt.hosts[2].kill()
    run.wait_for("host h3 (10.77.0.3) does not answer: restarting the workers")
    run.wait_for("1 worker with 1 thread on")
    text = run.end()
    assert "resuming from the checkpoint of step" in text
    assert "a worker has failed" not in text
    for mine, whole in zip(losses(out), undisturbed(1, corpus, out, tmp_path), strict=True):
        assert mine == pytest.approx(whole, rel=1e-3, abs=2e-4)  # sums in another order


def test_a_sweep_says_that_a_host_was_killed_and_ends_without_it(
    hurt: HostCluster, corpus: Path
) -> None:
    out = shared(hurt) / "sweep"
    sweep = Output(
        hurt.start(
            S2S, "tune", "demo", "--corpus", corpus, "--out", out, "--trials", 2, "--scheduler",
            "none", "--train.epochs", 100, "--hidden-sizes", 16, 24, "--embedding-sizes", 8,
        )
    )  # fmt: skip
    trials = out.with_name("sweep.run") / "trials"
    for number in (1, 2):
        reach(trials / f"{number:04}" / "checkpoints", 1)
    hurt.hosts[2].kill()
    sweep.wait_for("host h3 (10.77.0.3)")
    text = sweep.end()
    assert "its trials are started again" in text
    assert (out / "best" / "model.safetensors").is_file()


def reach(checkpoints: Path, steps: int) -> None:
    """Wait until a run has written a checkpoint of so many steps."""
    end = time.monotonic() + 600
    there = reached(checkpoints, steps)
    while not there():
        assert time.monotonic() < end, checkpoints
        time.sleep(0.1)
