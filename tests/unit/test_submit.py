"""What `s2s submit` refuses and uploads without a cluster, and the paths that a job is given."""

import ast
import asyncio
import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from aiohttp import web
from packaging.requirements import Requirement

from s2s import extras
from s2s.cli.arguments import parse
from s2s.cli.job_paths import require_absolute_paths
from s2s.cli.main import main
from s2s.cli.submit import Submit
from s2s.cli.verbs import VERBS
from s2s.distributed import cluster_check, job_server, ray_internals, submission
from s2s.distributed.cluster_check import check_cluster
from s2s.distributed.job_server import Job, JobServer
from s2s.distributed.submission import (
    Submission,
    data_directories,
    environment_digest,
    runtime_environment,
)
from s2s.errors import BadInput
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


def parsed_submit(*arguments: str) -> Submit:
    parsed = parse("submit", Submit, list(arguments))
    assert isinstance(parsed, Submit)
    return parsed


# ---- the command --------------------------------------------------------------------------------


def test_the_options_after_the_verb_are_those_of_the_job() -> None:
    words = ("--config", "/data/a.yaml", "--address", "x", "--no-wait")
    own = ("--id", "train", "--no-check", "--env", "A=1", "--env=B=2")
    parsed = parsed_submit(*own, "tune", *words)
    assert (parsed.id, parsed.check, parsed.wait, parsed.verb) == ("train", False, True, "tune")
    assert parsed.env == ("A=1", "B=2")
    assert parsed.command == words


def test_every_entrypoint_can_be_submitted() -> None:
    calls = {
        file.stem: ast.unparse(ast.parse(file.read_text("utf-8")))
        for file in (ROOT / "jobs").glob("*.py")
    }
    verbs = {name for name, code in calls.items() if f"run('{name}')" in code}
    assert set(get_args(get_type_hints(Submit)["verb"])) == verbs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "demo", "--corpus", "c", "--out", "/m"], "--corpus c: in a job, a relative"),
        (["train", "demo", "--corpus", "/c", "--out", "/m", "--oot"], "unknown option --oot"),
        (["train", "--config", "a.yaml"], "--config a.yaml: the job has the file only with"),
        (["--env", "NO_SUCH_VARIABLE", "translate", "/m"], "--env NO_SUCH_VARIABLE: NAME=VALUE"),
        (["--working-dir", "/nowhere", "translate", "/m"], "/nowhere: no such directory"),
        (["--address", "h:8265", "translate", "/m"], "--address h:8265: the URL of"),
        (["serve", "/m"], "expected one of prepare, train"),
    ],
)
def test_what_is_refused_before_anything_is_sent(
    arguments: list[str], expected: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["submit", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_dashboard_that_does_not_answer(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")
    assert main(["submit", "translate", "/m"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "nothing answers at http://127.0.0.1:" in line
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert main(["submit", "translate", "/m"]) == 2
    assert "such as --address http://head:8265" in capsys.readouterr().err


def test_a_file_of_options_in_the_working_directory_is_checked_here(
    tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "a.yaml").write_text("preset: demo\ncorpus: corpora/mine\nout: /data/m\n")
    job = ["train", "--config", "a.yaml"]
    assert main(["submit", "--working-dir", str(tmp_path), *job]) == 2
    assert "--corpus corpora/mine: in a job" in capsys.readouterr().err


def test_the_id_is_that_of_the_command() -> None:
    one = Submission("train", ("demo", "--out", "/a b"))
    assert one.entrypoint == "python -m jobs.train demo --out '/a b'"
    assert one.identifier == Submission("train", ("demo", "--out", "/a b")).identifier
    assert one.identifier != Submission("train", ("demo", "--out", "/a", "b")).identifier
    assert Submission("train", (), name="mine").identifier == "mine"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("PENDING", None, None), ("RUNNING", None, None), ("SUCCEEDED", 0, 0), ("STOPPED", None, 3),
        ("FAILED", 1, 1), ("FAILED", 2, 2), ("FAILED", 3, 3), ("FAILED", -9, 1),
        ("FAILED", None, 1),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_job(status: str, code: int | None, expected: int | None) -> None:
    job = Job("a", status, "", code, "")
    assert job.exit_code == expected
    assert job.has_ended == (expected is not None)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"python": "3.10.4"}, "has Python 3.10.4: 3.11 or newer is needed"),
        ({"ray": "2.50.1"}, "has Ray 2.50.1: 2.60.0 is needed"),
        ({"missing": ["tyro", "rich"]}, "lacks Python modules: tyro, rich; install"),
        ({"s2s": False}, "has no s2s: install it in its image, or upload its source"),
    ],
)
def test_what_a_cluster_may_lack(facts: dict[str, Any], expected: str) -> None:
    enough = cluster_check._Facts("3.12.1", ray_internals.RAY, [], s2s=True)
    cluster_check._require_facts(enough, Submission("train", ()), "http://head")
    with pytest.raises(BadInput, match=expected):
        cluster_check._require_facts(
            replace(enough, **facts), Submission("train", ()), "http://head"
        )


def test_source_that_is_uploaded_need_not_be_installed() -> None:
    facts = cluster_check._Facts("3.12.1", ray_internals.RAY, [], s2s=False)
    cluster_check._require_facts(facts, Submission("train", (), working_dir=ROOT), "http://head")


def test_a_log_that_is_read_again_is_written_once() -> None:
    written: list[str] = []
    log = job_server._Log(written.append)
    for parts in (
        ["one\n", "two\n"],
        ["on"],
        ["one\ntwo\nthr"],
        ["one\n", "two\nth", "ree\n", "4"],
    ):
        log.begin()
        for part in parts:
            log.add(part)
    assert "".join(written) == "one\ntwo\nthree\n4"


def test_facts_are_found_among_other_lines() -> None:
    facts = cluster_check._Facts("3.12.1", ray_internals.RAY, ["rich"], s2s=True)
    assert cluster_check._facts(f"a\n{json.dumps(asdict(facts))}\n{{b}}\n{{}}\n") == facts
    assert cluster_check._facts("{b}\n[1]\n{") is None


# ---- a dashboard --------------------------------------------------------------------------------


class Dashboard:
    """A server with the part of the job API that `JobServer` uses. It runs nothing: tests say what
    becomes of a job."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.status = "RUNNING"  # of new jobs
        self.text = ""  # of new jobs' logs
        self.logs: dict[str, str] = {}
        self.followed = 0  # times
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/jobs/", self._list)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/jobs/{id}", self._job)
        app.router.add_get("/api/jobs/{id}/logs", self._log)
        app.router.add_get("/api/jobs/{id}/logs/tail", self._tail)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"version": "4", "ray_version": ray_internals.RAY, "ray_commit": "", "session_name": ""}
        )

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.jobs.values()))

    async def _submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = asked["submission_id"]
        assert name not in self.jobs
        self.jobs[name] = {
            "type": "SUBMISSION", "submission_id": name, "entrypoint": asked["entrypoint"],
            "status": self.status, "metadata": asked["metadata"],
        }  # fmt: skip
        self.logs[name] = self.text
        return web.json_response({"job_id": name, "submission_id": name})

    async def _job(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs[request.match_info["id"]])

    async def _log(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": self.logs[request.match_info["id"]]})

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        """Send the log; if the job runs, say nothing more, as if the host were gone."""
        self.followed += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        job = self.jobs[request.match_info["id"]]
        await socket.send_str(self.logs[job["submission_id"]])
        if job["status"] == "RUNNING":
            job["status"] = "SUCCEEDED"
            await socket.receive()
        await socket.close()
        return socket


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()
    yield made
    made.close()


def test_a_failed_check_is_made_again_and_one_that_passed_is_not(dashboard: Dashboard) -> None:
    enough = {"python": "3.12.1", "ray": ray_internals.RAY, "missing": [], "s2s": True}
    server, train = JobServer(dashboard.address), Submission("train", ())
    dashboard.status = "SUCCEEDED"
    for number in (1, 2):
        dashboard.text = json.dumps({**enough, "missing": ["tyro"]})
        with pytest.raises(BadInput, match="lacks Python modules: tyro"):
            check_cluster(server, train)
        assert len(dashboard.jobs) == number
    dashboard.text = json.dumps(enough)  # it has been installed
    for _ in range(2):
        check_cluster(server, train)
        assert len(dashboard.jobs) == 3


def test_following_does_not_hang_on_a_silent_connection(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_server, "_SILENT_SECONDS", 0.2)
    dashboard.text = "one\n"
    server, written = JobServer(dashboard.address), list[str]()
    job, _ = server.submit("a", "true", {})
    assert server.follow(job.identifier, written.append).status == "SUCCEEDED"
    assert (written, dashboard.followed) == (["one\n"], 1)


def test_a_running_job_is_followed_only_with_the_same_files_and_variables(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    server = JobServer(dashboard.address)
    given = Submission("train", (), working_dir=tmp_path, environment={"A": "1"})
    environment = runtime_environment(given)
    environment.pop("working_dir")  # this server takes no files
    digest = environment_digest(runtime_environment(given))
    server.submit("a", "true", environment)
    assert server.submit("a", "true", environment)[1] is False
    with pytest.raises(BadInput, match="job a runs another command: true"):
        server.submit("a", "false", environment)
    with pytest.raises(BadInput, match=r"job a runs this command with other files .* --id NAME"):
        server.submit("a", "true", {"env_vars": {"A": "2"}})
    assert environment_digest(runtime_environment(given)) == digest
    (tmp_path / "mine.py").write_text("x = 2\n")
    assert environment_digest(runtime_environment(given)) != digest


def test_ids_that_end_with_numbers_are_told_apart(dashboard: Dashboard) -> None:
    dashboard.status = "SUCCEEDED"
    server = JobServer(dashboard.address)
    for name in ("a", "a-2", "a", "a-2"):
        server.submit(name, "true", {})
    assert list(dashboard.jobs) == ["a", "a-2", "a-3", "a-2-2"]
    assert [job.identifier for job in server.jobs("a")] == ["a", "a-3"]
    assert [job.identifier for job in server.jobs("a-2")] == ["a-2", "a-2-2"]
    server.submit("a", "true", {})
    assert "a-4" in dashboard.jobs


# ---- the node -----------------------------------------------------------------------------------


def test_the_required_modules_are_those_of_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {Requirement(line).name.replace("-", "_") for line in project["dependencies"]}
    assert {"PyYAML" if name == "yaml" else name for name in extras.REQUIRED} == needed
    assert extras.missing() == []


def test_an_entrypoint_names_what_its_node_lacks() -> None:
    code = """if True:
        import importlib.util, sys
        import s2s.extras
        find = s2s.extras.find_spec
        s2s.extras.find_spec = lambda name: None if name in ("tyro", "rich") else find(name)
        from jobs.entrypoint import run
        sys.exit(run("train"))"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"s2s: {sys.executable} on this node lacks rich, tyro; the image" in line


# ---- paths --------------------------------------------------------------------------------------


TRAIN = ("train", "demo", "--corpus", "/c", "--out", "/m")
RELATIVE = {
    "--corpus": ("evaluate", "/m", "--corpus", "c"),
    "--out": ("tune", "demo", "--corpus", "/c", "--out", "../m"),
    "--init-from": (*TRAIN, "--init-from", "./m"),
    "--checkpoints": (*TRAIN, "--checkpoints", "steps"),
    "--source": ("prepare", "demo", "--source", "demo", "pairs.tsv", "--out", "/c"),
    "--valid-source": ("prepare", "demo", "--source", "demo", "--valid-source", "v", "--out", "/c"),
    "--test-source": ("prepare", "demo", "--source", "demo", "--test-source", "t*", "--out", "/c"),
    "--vocabularies": ("prepare", "demo", "--source", "demo", "--vocabularies", "m"),
    "MODEL": ("translate", "models/m", "a b"),
    "--input": ("translate", "/m", "--input", "~/in.txt"),
    "--output": ("evaluate", "/m", "--corpus", "/c", "--output", "out.txt"),
    "--html": ("inspect", "/m", "--html", "page.html"),
    "DIRECTORY": ("inspect", "m"),
    "A": ("compare", "a", "/b", "--corpus", "/c"),
    "B": ("compare", "/a", "b", "--corpus", "/c"),
    "MODELS": ("serve", "/m", "n"),
    "--keys": ("serve", "/m", "--keys", "keys.tsv"),
    "--file": ("key", "alice", "--file", "keys.tsv"),
}


@pytest.mark.parametrize("option", RELATIVE)
def test_a_relative_path_in_a_job_is_refused(option: str) -> None:
    verb, *arguments = RELATIVE[option]
    with pytest.raises(BadInput, match=f"^{option} .* such as /data/[a-z]"):
        require_absolute_paths(parse(verb, VERBS[verb], arguments))


@pytest.mark.parametrize(
    "command",
    [
        "prepare demo --source demo /data/*.tsv hub:a:en-fr s3://b/p.tsv --out /c",
        "train demo --corpus /c --out /m --checkpoints s3://bucket/m --track mine:Mine",
        "train demo --corpus s3://bucket/c --out s3://bucket/m",
        "tune demo --corpus /c --out /s --space space.toml",
        "evaluate /m --corpus /c --checkpoint best",
        "translate /m text",
        "serve /m --local --access-log -",
    ],
)
def test_what_is_no_relative_path(command: str) -> None:
    verb, *arguments = command.split()
    require_absolute_paths(parse(verb, VERBS[verb], arguments))


def test_only_a_job_asks_for_absolute_paths(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    command = ["evaluate", "nowhere", "--corpus", "c"]
    assert main(command) == 2
    assert "in a job" not in capsys.readouterr().err
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert main(command) == 2
    assert "MODEL nowhere: in a job, a relative path" in capsys.readouterr().err


# ---- the working directory ----------------------------------------------------------------------


def uploaded(folder: Path) -> set[str]:
    """The files that are uploaded of a folder."""
    environment = runtime_environment(Submission("train", (), working_dir=folder))
    excluded = environment["excludes"]
    assert isinstance(excluded, list)
    return set(ray_internals.uploaded_files(Path(str(environment["working_dir"])), excluded))


def test_data_and_what_is_ignored_stay_here(tmp_path: Path) -> None:
    files = ("mine.py", "options/a.yaml", "models/net.py", "corpora/mine/corpus.json",
             "corpora/mine/train/data.arrow", "models/a/model.safetensors", "models/a.run/run.json",
             "models/a.run/checkpoints/x", ".venv/lib/x.py", ".git/config", "big.bin",
             "logs/x.log")  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".rayignore").write_text("*.bin\n")
    (tmp_path / ".gitignore").write_text("logs/\n")
    assert uploaded(tmp_path) == {
        "mine.py", "options/a.yaml", "models/net.py", ".rayignore", ".gitignore"
    }  # fmt: skip
    assert set(data_directories(tmp_path)) == {"/corpora/mine", "/models/a", "/models/a.run"}


def test_a_large_working_directory_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.py").write_text("x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large.bin").write_bytes(bytes(range(256)) * 8_192)
    monkeypatch.setattr(submission, "_MOST_UPLOADED", 4_000)
    with pytest.raises(BadInput, match=r"largest: data/ \(2 MiB\), small.py .*\.rayignore"):
        runtime_environment(Submission("train", (), working_dir=tmp_path))


def test_this_repository_stays_small(tmp_path: Path) -> None:
    """As `ray job submit --working-dir .` uploads it, which knows the ignore files alone."""
    for name in ("corpora/a/x", "models/a/x", "s2s/runs.py", "jobs/train.py", "build/x", ".venv/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in (".rayignore", ".gitignore"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    names = set(ray_internals.uploaded_files(tmp_path, []))
    assert names == {"s2s/runs.py", "jobs/train.py", ".rayignore", ".gitignore"}


def test_a_job_has_time_to_save_and_its_variables() -> None:
    given = Submission("train", (), environment={"A": "1", "RAY_JOB_STOP_WAIT_TIME_S": "9"})
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": "330"}
    assert runtime_environment(Submission("train", ())) == {"env_vars": variables}
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": "9", "A": "1"}
    assert runtime_environment(given) == {"env_vars": variables}
