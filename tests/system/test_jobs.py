"""The life of a model as jobs: `ray job submit` to a real cluster."""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import Cluster, free_port


@pytest.fixture(scope="module")
def sweep(cluster: Cluster, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    done = cluster.submit(
        "-m", "jobs.tune", "demo", "--corpus", small_corpus, "--out", out, "--trials", 2,
        "--train.epochs", 2, "--hidden-sizes", 16, 32, "--embedding-sizes", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_a_sweep_tells_of_each_trial(sweep: Path) -> None:
    told = json.loads((sweep / "sweep.json").read_text())
    assert len(told["trials"]) == 2
    assert {t["hidden_size"] for t in told["trials"]} == {16, 32}
    assert all(trial["error"] is None for trial in told["trials"])
    best = told["trials"][told["best"]]
    assert best["best_valid_loss"] == min(t["best_valid_loss"] for t in told["trials"])
    config = json.loads((sweep / "best" / "config.json").read_text())
    assert config["model"]["hidden_size"] == best["hidden_size"]


def test_the_best_model_of_a_sweep_can_be_served(cluster: Cluster, sweep: Path) -> None:
    port = free_port()
    server = cluster.start("serve", sweep / "best", "--port", port)
    assert server.stdout is not None
    try:
        told = next(line for line in server.stdout if "serving on" in line)
        assert f"http://127.0.0.1:{port}" in told
        question = {"q": ["The old red dog."], "source": "en", "target": "fr"}
        url = f"http://127.0.0.1:{port}"
        answer = httpx.post(f"{url}/translate", json=question, timeout=30)
        assert answer.status_code == 200
        direct = cluster.s2s("translate", sweep / "best", "The old red dog.")
        assert answer.json() == {"translatedText": direct.stdout.splitlines()}
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        assert httpx.post(f"{url}/translate", json={"q": "a"}).status_code == 400
        second = cluster.s2s("serve", sweep / "best", "--port", port)
        assert second.returncode == 2
        assert "cannot listen" in second.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    assert code == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_bad_input_fails_the_job_with_its_message(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.submit(
        "-m", "jobs.prepare", "seed", "--source", tmp_path / "no.txt", "--out", tmp_path / "c"
    )
    assert done.returncode == 1  # Ray's own code for any job that failed
    assert "no such file" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_reaches_its_padded_accuracy(cluster: Cluster, tmp_path: Path) -> None:
    data = Path(os.environ.get("S2S_DATA", "../shared/data")).resolve() / "fra-eng/fra-eng.zip"
    if not data.exists():
        pytest.skip("needs fra-eng.zip in S2S_DATA")
    corpus, out = tmp_path / "corpus", tmp_path / "seed"
    prepared = cluster.submit("-m", "jobs.prepare", "seed", "--source", data, "--out", corpus)
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    done = cluster.submit(
        "-m", "jobs.train", "seed", "--corpus", corpus, "--out", out, "--workers", 2,
        timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads((out / "metrics.json").read_text())["epochs"][-1]
    assert last["epoch"] == 10
    assert last["valid_padded_accuracy"] >= 0.8179
