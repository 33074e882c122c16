"""The life of a model as jobs: `ray job submit` to a real cluster."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s2s.cli.arguments import parse
from s2s.cli.tune import Tune
from s2s.tuning.trials import Sweep
from tests.support.cluster import Cluster, s2s
from tests.support.ports import free_port

Job = subprocess.Popen[str]


@pytest.fixture(scope="module")
def bad_job(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job that cannot succeed, begun beside the sweep: most of its time it waits for Ray."""
    folder = tmp_path_factory.mktemp("bad")
    with cluster.submit(
        "-m", "jobs.prepare", "seed", "--languages", "en-fr", "--source", folder / "no.txt",
        "--out", folder / "c",
    ) as job:  # fmt: skip
        yield job


@pytest.fixture(scope="module")
def sweep(
    cluster: Cluster, bad_job: Job, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    job = cluster.submit(
        "-m", "jobs.tune", "demo", "--corpus", small_corpus, "--out", out, "--trials", 2,
        "--train.epochs", 2, "--hidden-sizes", 16, 32, "--embedding-sizes", 8,
    )  # fmt: skip
    told, _ = job.communicate(timeout=280)
    assert job.returncode == 0, told
    return out


def test_a_sweep_keeps_its_options_and_provenance(sweep: Path) -> None:
    folder = sweep.with_name("sweep.run")
    verb = parse("tune", Tune, ["--config", str(folder / "config.yaml")])
    assert isinstance(verb, Tune)
    assert (verb.hidden_sizes, verb.embedding_sizes, verb.train.epochs) == ((16, 32), (8,), 2)
    [session] = (folder / "sessions.jsonl").read_text("utf-8").splitlines()
    assert json.loads(session)["versions"]["ray"]


def test_a_sweep_tells_of_each_trial(sweep: Path) -> None:
    told = Sweep.load(sweep)
    assert len(told.trials) == 2
    assert {trial.settings["model.hidden_size"] for trial in told.trials} == {16, 32}
    assert {trial.status for trial in told.trials} <= {"finished", "stopped"}
    assert told.best_trial.score == max(trial.score or 0 for trial in told.trials)
    config = json.loads((sweep / "best" / "config.json").read_text())
    assert config["model"]["hidden_size"] == told.best_trial.settings["model.hidden_size"]
    assert (sweep / "sweep.csv").read_text().count("\n") == 3
    assert (sweep / "optuna.log").stat().st_size
    assert f"trial {told.best}" in (sweep / "report.html").read_text()
    assert not (sweep.with_name("sweep.run") / "tune").exists()


def test_a_trial_trains_as_a_run_by_itself(
    sweep: Path, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)  # in this process
    settings = Sweep.load(sweep).best_trial.settings
    done = s2s(
        "train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m", "--cpus", 1,
        "--train.epochs", 2, "--model.hidden-size", settings["model.hidden_size"],
        "--model.embedding-size", settings["model.embedding_size"],
    )  # fmt: skip
    assert done.code == 0, done.err
    weights = [path / "model.safetensors" for path in (sweep / "best", tmp_path / "m")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_best_model_of_a_sweep_can_be_served_until_sigterm(
    cluster: Cluster, sweep: Path
) -> None:
    direct = cluster.s2s("translate", sweep / "best", "The old red dog.")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = cluster.start("serve", sweep / "best", "--port", port)
    assert server.stdout is not None
    try:
        told = next(line for line in server.stdout if " serving " in line)
        assert url in told
        question = {"q": ["The old red dog."], "source": "en", "target": "fr"}
        answer = httpx.post(f"{url}/translate", json=question, timeout=30)
        assert answer.status_code == 200
        assert answer.json() == {"translatedText": direct.out.splitlines()}
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        assert httpx.post(f"{url}/translate", json={"q": "a"}).status_code == 400
        second = cluster.s2s("serve", sweep / "best", "--port", port)
        assert second.code == 2
        assert "cannot listen" in second.err
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    assert code == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_bad_input_fails_the_job_with_its_message(bad_job: Job) -> None:
    told, _ = bad_job.communicate(timeout=120)
    assert bad_job.returncode == 1  # Ray's own code for any job that failed
    assert "no such file" in told


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_reaches_its_padded_accuracy(cluster: Cluster, tmp_path: Path) -> None:
    data = Path(os.environ.get("S2S_DATA", "../shared/data")).resolve() / "fra-eng/fra-eng.zip"
    if not data.exists():
        pytest.skip("needs fra-eng.zip in S2S_DATA")
    corpus, out = tmp_path / "corpus", tmp_path / "seed"
    for job, seconds in (
        (
            (
                "-m",
                "jobs.prepare",
                "seed",
                "--languages",
                "en-fr",
                "--source",
                data,
                "--out",
                corpus,
            ),
            280,
        ),
        (("-m", "jobs.train", "seed", "--corpus", corpus, "--out", out, "--workers", 2), 1500),
    ):
        submitted = cluster.submit(*job)
        told, _ = submitted.communicate(timeout=seconds)
        assert submitted.returncode == 0, told
    last = json.loads((out / "metrics.json").read_text())["epochs"][-1]
    assert last["epoch"] == 10
    assert last["valid_padded_accuracy"] >= 0.8179
