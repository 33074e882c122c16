"""The life of a model as jobs: `ray job submit` and `s2s submit` to a real cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s2s.cli.arguments import parse
from s2s.cli.tune import Tune
from s2s.tuning.trials import Sweep
from tests.support.cluster import BIN, Cluster, s2s, start_head
from tests.support.hosts import hosts, ray_on, reason_for_none
from tests.support.ports import free_port

Job = subprocess.Popen[str]


@pytest.fixture(scope="module")
def bad_job(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job that cannot succeed, begun beside the sweep: most of its time it waits for Ray."""
    folder = tmp_path_factory.mktemp("bad")
    with cluster.start_submit(
        "prepare", "seed", "--languages", "en-fr", "--source", folder / "no.txt",
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


def test_a_job_that_refuses_its_input_ends_with_2(bad_job: Job) -> None:
    told, _ = bad_job.communicate(timeout=240)
    assert bad_job.returncode == 2, told
    assert "no such file" in told
    assert re.search(r"^s2s: the job s2s-prepare-\w{10} refused its input", told, re.M)


@pytest.fixture(scope="module")
def token_cluster() -> Iterator[Cluster]:
    """A cluster of its own that asks for a token, and whose environment has it."""
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.write_text("0123456789abcdef0123456789abcdef")
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        cluster, head = start_head(Path(folder), 2, **variables)
        try:
            yield cluster
        finally:
            head.stop()


def ended(job: Job, seconds: float = 280) -> str:
    """Return all that a job's command has printed."""
    told, _ = job.communicate(timeout=seconds)
    return told


def printed(job: Job, text: str) -> str:
    """Return what a job's command prints until a line has a text in it."""
    assert job.stdout is not None
    lines = ""
    for line in job.stdout:
        lines += line
        if text in line:
            return lines
    raise AssertionError(lines)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_verb_is_a_job_of_a_cluster_with_a_token(
    token_cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    corpus, model = tmp_path / "corpus", tmp_path / "model"
    output = tmp_path / "output.txt"
    commands: list[tuple[object, ...]] = [
        ("prepare", "demo", "--source", "demo", "--out", corpus),
        ("train", "demo", "--corpus", small_corpus, "--out", model, "--train.epochs", 1),
        ("evaluate", model, "--corpus", small_corpus, "--worst", 0, "--output", output),
        ("translate", model, "The old red dog."),
        ("tune", "demo", "--corpus", small_corpus, "--out", tmp_path / "sweep", "--trials", 1,
         "--train.epochs", 1, "--hidden-sizes", 16, "--embedding-sizes", 8),
    ]  # fmt: skip
    for verb, *arguments in commands:
        job = token_cluster.submit("-m", f"jobs.{verb}", *arguments)
        told = ended(job)
        assert job.returncode == 0, told
    for made in (corpus / "corpus.json", model / "config.json", output, tmp_path / "sweep"):
        assert made.exists()
    job = token_cluster.submit("-m", "jobs.evaluate", "models/m", "--corpus", small_corpus)
    assert "s2s: MODEL models/m: in a job, a relative path" in ended(job)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_submitted_run_is_left_followed_stopped_and_resumed(
    token_cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    command = ("train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m",
               "--train.epochs", 500, "--model.hidden-size", 16)  # fmt: skip
    first = token_cluster.start_submit("--id", "run", *command)
    printed(first, "pairs/s")
    first.send_signal(signal.SIGINT)
    told = ended(first)
    assert first.returncode == 3, told
    assert "the job run runs on: the same command follows it again" in told

    other = token_cluster.start_submit("--id", "run", "translate", tmp_path / "m", "a")
    assert "--id: the job run runs another command: " in ended(other)
    assert other.returncode == 2

    second = token_cluster.start_submit("--id", "run", *command)
    assert "s2s: the job run runs already" in printed(second, "pairs/s")
    stop = [BIN / "ray", "job", "stop", "--address", token_cluster.dashboard]
    subprocess.run([*stop, "run"], env=token_cluster.env, check=True, capture_output=True)
    told = ended(second)
    assert second.returncode == 3, told
    assert "which is saved" in told
    assert "the job run was stopped; the same command resumes it" in told

    third = token_cluster.start_submit("--id", "run", "--json", "--no-wait", *command)
    *_, line = ended(third).splitlines()
    assert json.loads(line) == {
        "id": "run-2", "status": json.loads(line)["status"], "exit_code": None, "new": True,
        "address": token_cluster.dashboard,
    }  # fmt: skip
    fourth = token_cluster.start_submit("--id", "run", *command)
    assert "resuming from" in printed(fourth, "pairs/s")
    subprocess.run([*stop, "run-2"], env=token_cluster.env, check=True, capture_output=True)
    assert ended(fourth)
    assert fourth.returncode == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_submit_checks_first(token_cluster: Cluster, tmp_path: Path) -> None:
    command = ("translate", "/m", "a")
    for variables, expected in (
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "0" * 32}, "refuses the token in RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "no")}, f"no token in {tmp_path / 'no'}"),
    ):
        job = token_cluster.start_submit(*command, **variables)
        [line] = ended(job).splitlines()
        assert expected in line
        assert job.returncode == 2
    bare = tmp_path / "python"  # without the packages of this environment, as an old image
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    job = token_cluster.start_submit("--python", bare, *command)
    [line] = ended(job).splitlines()
    assert re.search(r"lacks Python modules: ray, babel, .*tyro, xxhash; install", line)
    assert job.returncode == 2
    job = token_cluster.start_submit("--python", bare, "--no-check", *command)
    assert re.search(r"^s2s: .* on this node lacks babel, .*xxhash; the image", ended(job), re.M)
    assert job.returncode == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_name_why_they_cannot_use_a_cluster(token_cluster: Cluster) -> None:
    for variables, expected in (
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "0" * 32}, "refuses the token in RAY_AUTH_TOKEN"),
        ({"RAY_ADDRESS": token_cluster.dashboard.removeprefix("http://")}, "is no Ray cluster"),
    ):
        environment = {**token_cluster.env, "RAY_ADDRESS": token_cluster.address, **variables}
        code = "from s2s.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, "prepare", "demo", "--source", "demo", "--dry-run",
             "--tasks", "1"],
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode in (1, 2)
        [line] = done.stderr.splitlines()
        assert f"s2s: RAY_ADDRESS={environment['RAY_ADDRESS']}: " in line
        assert expected in line


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_host_submits_a_training_to_another_with_its_token(
    small_corpus: Path, tmp_path: Path
) -> None:
    if reason := reason_for_none():
        pytest.skip(reason)
    shared = tmp_path / "shared"
    shutil.copytree(small_corpus, shared / "corpus")
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
    with (
        hosts(2, tmp_path / "hosts", [shared], debian=False) as two,
        ray_on(two, cpus=2, **given) as cluster,
    ):
        command = (
            BIN / "s2s", "submit", "--address", cluster.dashboard, "--python", sys.executable,
            "train", "demo", "--corpus", shared / "corpus", "--out", shared / "model",
            "--workers", 2, "--train.epochs", 1,
        )  # fmt: skip
        refused = two[1].run(*command, **{**given, "RAY_AUTH_TOKEN": "0" * 32})
        assert refused.code == 2
        assert "refuses the token in RAY_AUTH_TOKEN" in refused.err
        done = two[1].run(*command, timeout=900, **given)
        assert done.code == 0, done.out + done.err
        assert "2 workers" in done.out
        assert (shared / "model" / "metrics.json").is_file()


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
