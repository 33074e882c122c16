"""`s2s serve`: what it refuses, the variables that set its options, and serving without Ray."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from s2s.cli.arguments import parse
from s2s.cli.main import main
from s2s.cli.serve import Serve
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.serving.addresses import bound_socket
from tests.support.hiding import HIDING
from tests.support.ports import free_port
from tests.support.serving import WAIT, copied, until
from tests.support.sockets import listening

Complain = Callable[..., str]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Complain:
    """Run `s2s serve` on what it refuses, and return the one line that it says."""

    def run(*arguments: object) -> str:
        assert main(["serve", *map(str, arguments)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        [line] = said.err.splitlines()
        return line

    return run


# ---- what is refused -----------------------------------------------------------------------------


def test_two_models_of_one_pair_are_refused_by_their_paths(
    model_dir: Path, tmp_path: Path, complaint: Complain
) -> None:
    other = copied(model_dir, tmp_path / "other")
    wanted = f"s2s: {model_dir} and {other} both translate en to fr: serve one of them"
    for how in ([], ["--local"]):  # before Ray is started
        assert complaint(model_dir, other, *how) == wanted


def test_a_shortlist_that_is_missing_is_told_before_ray_is_started(
    model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for how in ([], ["--local"]):
        arguments = ["serve", model_dir, "--shortlist", 50, "--port", free_port(), *how]
        assert main([*map(str, arguments)]) == 2
        said = capsys.readouterr()
        assert "starting Ray" not in said.out
        [line] = said.err.splitlines()
        assert line.startswith(f"s2s: decode.shortlist: {model_dir} has no shortlist.safetensors; ")
        assert f"`s2s shortlist {model_dir} --corpus CORPUS`" in line


def test_a_port_that_is_taken_is_told_with_a_free_one(model_dir: Path, complaint: Complain) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = complaint(model_dir, "--port", port)
    begin = f"s2s: cannot listen on 127.0.0.1:{port}: port {port} is taken; --port "
    assert line.startswith(begin)
    free = int(line.removeprefix(begin).removesuffix(" is free"))
    with bound_socket("127.0.0.1", free) as bound:
        assert bound.getsockname()[1] == free


def test_an_address_of_another_machine_is_refused(model_dir: Path, complaint: Complain) -> None:
    line = complaint(model_dir, "--local", "--host", "192.0.2.1", "--open")
    assert line.endswith(":8000: this machine does not have the address")


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Have a file or folder readable by nobody, root included."""
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    if root := os.geteuid() == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(mode)


def test_a_model_that_may_not_be_read_is_told_so(
    model_dir: Path, tmp_path: Path, complaint: Complain
) -> None:
    model = copied(model_dir, tmp_path / "model")
    with without_rights(model):
        line = complaint(model, "--local")
    assert line == f"s2s: {model / 'config.json'} cannot be read: Permission denied"
    with pytest.raises(PermissionError), without_rights(model / "config.json"):
        (model / "config.json").read_bytes()  # by root neither, or this test would show nothing


def test_weights_that_may_not_be_read_are_told_so(model_dir: Path, tmp_path: Path) -> None:
    model = copied(model_dir, tmp_path / "model")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()  # safetensors says of every fault that there is no file
    with pytest.raises(BadInput, match=r"model\.safetensors cannot be loaded: Is a directory"):
        ModelDirectory.load(model)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda path: None, "no such file; `s2s key NAME --file FILE` makes one"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_text(""), "the file has no keys, so nobody could translate"),
    ],
)
def test_a_keys_file_that_cannot_be_used_is_told(
    make: Callable[[Path], object], wanted: str, model_dir: Path, tmp_path: Path,
    complaint: Complain,
) -> None:  # fmt: skip
    path = tmp_path / "keys.tsv"
    make(path)
    assert complaint(model_dir, "--local", "--keys", path) == f"s2s: --keys {path}: {wanted}"


def test_a_keys_file_that_may_not_be_read_is_told(
    model_dir: Path, tmp_path: Path, complaint: Complain
) -> None:
    path = tmp_path / "keys.tsv"
    assert main(["key", "ann", "--file", str(path)]) == 0
    with without_rights(tmp_path), pytest.raises(BadInput) as caught:
        Serve((model_dir,), decoding=parse("serve", Serve, ["m"]).decoding, keys=path)._settings()
    assert str(caught.value) == f"--keys {path}: Permission denied"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--local", "--replicas", "2"], "--replicas 2 needs Ray: leave out --local"),
        (["--replicas", "0"], "--replicas 0: at least 1 is needed"),
        (["--port", "65536"], "--port 65536: a port from 1 to 65535 is needed"),
        (["--slots", "0"], "--slots: must be greater than 0"),
        (["--access-log", "-"], "--access-log - needs --local; replicas on Ray write to a file"),
        (["--access-log", "/nowhere/a.log"],
         "--access-log /nowhere/a.log: No such file or directory"),
        (["--host", "0.0.0.0"],  # noqa: S104
         "--host 0.0.0.0 can be reached by others: give --keys FILE (`s2s key NAME` makes its "
         "lines), or --open to serve everybody"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_told(
    arguments: list[str], wanted: str, model_dir: Path, complaint: Complain
) -> None:
    assert complaint(model_dir, *arguments) == f"s2s: {wanted}"


# ---- variables -----------------------------------------------------------------------------------


def parsed(*arguments: str) -> Serve:
    verb = parse("serve", Serve, list(arguments))
    assert isinstance(verb, Serve)
    return verb


def test_variables_set_options_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "S2S_MODELS": "models/en-fr, models/en de", "S2S_LOCAL": "yes", "S2S_HOST": "::",
        "S2S_PORT": "8080", "S2S_REPLICAS": "3", "S2S_SLOTS": "7", "S2S_KEYS": "keys.tsv",
        "S2S_OPEN": "No", "S2S_SUGGESTIONS": "", "S2S_ACCESS_LOG": "-",
        "S2S_CORS": "https://a.example,https://b.example",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    verb = parsed()
    assert verb.models == ("models/en-fr", "models/en de")
    assert (verb.local, verb.host, verb.port, verb.replicas) == (True, "::", 8080, 3)
    assert (verb.slots, verb.keys, verb.open) == (7, Path("keys.tsv"), False)
    assert (verb.suggestions, verb.access_log) == (None, Path("-"))
    assert verb.cors == ("https://a.example", "https://b.example")
    given = parsed("mine", "--port=1", "--cors", "*", "--access-log", "a.log")
    assert (given.models, given.port, given.cors) == (("mine",), 1, ("*",))
    assert (given.access_log, given.host) == (Path("a.log"), "::")
    assert not parsed("--no-local").local


def test_variables_count_before_a_file_of_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('models = ["old"]\nport = 1\nslots = 5\nbeam = 2\ncors = ["*"]\n')
    monkeypatch.setenv("S2S_PORT", "2")
    monkeypatch.setenv("S2S_MODELS", "new")
    verb = parsed("--config", str(file), "--slots", "9")
    assert (verb.port, verb.slots, verb.cors) == (2, 9, ("*",))
    assert verb.models == ("new",)
    assert verb.decoding.settings() == {"beam": 2}
    assert parsed("mine", "--config", str(file)).models == ("mine",)
    with pytest.raises(BadInput, match="--cors is given twice"):
        parsed("mine", "--cors", "a", "--cors", "b")


def test_help_names_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = ["MODELS", "LOCAL", "HOST", "PORT", "REPLICAS", "SLOTS", "KEYS", "OPEN",
               "SUGGESTIONS", "ACCESS_LOG", "CORS"]  # fmt: skip
    assert [name for name in options if f"variable S2S_{name})" not in text] == []
    assert "(default: 8000; variable S2S_PORT)" in text


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("S2S_PORT", "http", "S2S_PORT: a whole number is needed, not 'http'"),
        ("S2S_PORT", "0", "S2S_PORT 0: a port from 1 to 65535 is needed"),
        ("S2S_OPEN", "maybe", "S2S_OPEN: yes or no is needed, not 'maybe'"),
        ("S2S_HOST", "0.0.0.0", "S2S_HOST 0.0.0.0 can be reached by others: give --keys"),  # noqa: S104
        ("S2S_KEYS", "/no/keys", "S2S_KEYS /no/keys: no such file"),
        ("S2S_SLOTS", "0", "S2S_SLOTS: must be greater than 0"),
        ("S2S_MODELS", "/no/model", "S2S_MODELS: /no/model is not a model directory"),
    ],
)
def test_a_bad_value_of_a_variable_is_told_with_its_name(
    variable: str, value: str, wanted: str, model_dir: Path, complaint: Complain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    models = [] if variable == "S2S_MODELS" else [model_dir]
    assert complaint(*models).startswith(f"s2s: {wanted}")


# ---- without Ray ---------------------------------------------------------------------------------

WITHOUT_RAY = f"""
import os, sys
models = sys.argv.pop(1)
sys.argv.insert(1, "ray")
{HIDING}
from s2s.cli.main import main
assert main(["serve", models]) == 2
os.environ["S2S_MODELS"] = models
code = main(["serve", "--local", *sys.argv[2:]])
assert "ray" not in sys.modules
sys.exit(code)
"""


def test_a_service_without_ray_answers_and_ends_after_the_last_request(
    model_dir: Path, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "access.log"
    server = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_RAY, model_dir, "--access-log", log],
        env={**os.environ, "S2S_PORT": str(port)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == (
            "s2s: Ray is not installed: add --local to serve without it, "
            "or pip install 's2s-nmt[ray,serve]'\n"
        )
        assert server.stdout.readline() == "loading en-fr (model)\n"
        line = server.stdout.readline()
        address = f"http://127.0.0.1:{port}"
        assert line.startswith("s2s 0.") and line.endswith(
            f" serving en-fr (model) on {address}, no keys needed, a page for people; Ctrl-C ends\n"
        )
        if Path("/proc/net/tcp").exists():  # as sockets are listed on Linux
            assert {(s.ip, s.port) for s in listening(server.pid)} == {("127.0.0.1", port)}
        body = b'{"q": "I see trees.", "source": "en", "target": "fr"}'
        answer = httpx.post(f"{address}/translate", content=body).json()
        assert answer["translatedText"]
        assert "s2s_serve_sentences_total 1.0" in httpx.get(f"{address}/metrics").text
        # A request whose body is under way when the service is told to end.
        with socket.create_connection(("127.0.0.1", port)) as running:
            head = b"POST /translate HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            running.sendall(head % len(body) + body[:9])
            until(lambda: httpx.get(f"{address}/health").is_success)
            server.send_signal(signal.SIGTERM)
            assert server.stdout.readline() == "ending\n"
            running.sendall(body[9:])
            response = b"".join(iter(lambda: running.recv(65_536), b""))
        assert response.startswith(b"HTTP/1.1 200 ")
        assert response.endswith(answer["translatedText"].encode() + b'"}')
        assert server.wait(WAIT) == 0
        assert server.stdout.read() == ""
    finally:
        server.kill()
        server.wait()
    assert [line.split()[3:6] for line in log.read_text().splitlines()][-1] == [
        "POST", "/translate", "200",
    ]  # fmt: skip
