"""API keys: what is kept of them, who may ask, and how often."""

import hashlib
import hmac
import json
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from s2s.cli.main import main
from s2s.errors import BadInput
from s2s.serving.engine.models import Models
from s2s.serving.http import api_keys as module
from s2s.serving.http.api_keys import (
    Key,
    Keys,
    add_key,
    anonymous_line,
    new_key,
    read_keys,
    remove_key,
)
from s2s.serving.http.keys_file import KeysFile
from tests.support.serving import client_of, keys_of, models_of, serving, until

BODY = {"q": "I see trees.", "source": "en", "target": "fr"}
DIGEST = hashlib.sha256(b"secret").hexdigest()
TODAY = datetime.now(UTC).date()


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


# ---- making and keeping --------------------------------------------------------------------------


def test_a_line_has_the_hash_of_the_key_and_not_the_key() -> None:
    key, line = new_key("ann", 30)
    assert line == f"ann\t{hashlib.sha256(key.encode()).hexdigest()}\t30\t\t{TODAY}"
    assert re.fullmatch(r"s2s_[\w-]{43}", key)  # 256 random bits
    assert key not in line
    assert key[4:12] not in line


def test_no_two_keys_are_the_same() -> None:
    assert len({new_key("ann")[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a\n", "#ann", "a" * 65, "a/b", "a;b"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="not a valid name"):
        new_key(name)


@pytest.mark.parametrize("name", ["a", "ann@example.org", "team-1_x.y", "Zoë", "a" * 64])
def test_a_usual_name_is_taken(name: str, tmp_path: Path) -> None:
    key, line = new_key(name)
    add_key(tmp_path / "keys", line)
    [read] = read_keys(tmp_path / "keys")
    assert read.name == name
    assert Keys([read]).owner(key) is read


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="rate"):
        new_key("ann", rate)


@pytest.mark.parametrize("rate", [None, 0.5, 60, 1234.5])
def test_what_is_written_is_read(rate: float | None, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key, line = new_key("ann", rate)
    add_key(path, line)
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert read_keys(path) == [Key("ann", digest, rate, None, TODAY)]


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", new_key("ann")[1])
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_keeps_its_mode_and_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\nann\t{DIGEST}\n")
    path.chmod(0o640)
    add_key(path, new_key("bob")[1])
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_text().startswith(f"# ours\nann\t{DIGEST}\nbob\t")


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path, new_key("ann")[1])
    before = path.read_text()
    with pytest.raises(BadInput, match="already has a key named ann"):
        add_key(path, new_key("ann")[1])
    assert path.read_text() == before


def test_a_last_line_without_an_end_is_not_run_into(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"ann\t{DIGEST}")  # as an editor may leave it
    add_key(path, new_key("bob")[1])
    assert [key.name for key in read_keys(path)] == ["ann", "bob"]


@pytest.mark.parametrize("text", ["", "\n", "# keys of the service\n"])
def test_a_file_without_keys_can_be_added_to(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    add_key(path, new_key("ann")[1])
    assert [key.name for key in read_keys(path)] == ["ann"]


@pytest.mark.parametrize("place", ["nowhere/keys", "."])
def test_a_file_that_cannot_be_written_is_told(place: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        add_key(tmp_path / place, new_key("ann")[1])


# ---- reading -------------------------------------------------------------------------------------


def test_comments_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n\nann\t{DIGEST}\t60\n  \nbob\t{DIGEST}\t\n", "utf-8")
    assert read_keys(path) == [Key("ann", DIGEST, 60), Key("bob", DIGEST, None)]


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann\t",
        f"ann {DIGEST}",
        f"\t{DIGEST}",
        f"a b\t{DIGEST}",
        f"ann\t{DIGEST[:-1]}",
        f"ann\t{DIGEST}0",
        f"ann\t{DIGEST.upper()}",
        "ann\tsecret",
        f"ann\t{DIGEST}\tmany",
        f"ann\t{DIGEST}\t0",
        f"ann\t{DIGEST}\t-1",
        f"ann\t{DIGEST}\tnan",
        f"ann\t{DIGEST}\tinf",
        f"ann\t{DIGEST}\t60\t0",
        f"ann\t{DIGEST}\t60\t1.5",
        f"ann\t{DIGEST}\t60\t\tMonday",
        "ann\t-\t60",
        "anonymous\t-",
        "anonymous\t-\t\t100",
    ],
)
def test_a_broken_line_is_refused_by_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\nbob\t{DIGEST}\n{line}\n", "utf-8")
    with pytest.raises(BadInput, match="line 3 ") as caught:
        read_keys(path)
    assert "secret" not in str(caught.value)  # it may be a key that somebody wrote there


def test_a_line_has_its_limits_in_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    _, line = new_key("ann", 30, 5000)
    add_key(path, line)
    add_key(path, new_key("bob", None, 100)[1])
    add_key(path, anonymous_line(6, 500))
    ann, bob, anybody = read_keys(path)
    assert (ann.per_minute, ann.characters) == (30, 5000)
    assert (bob.per_minute, bob.characters) == (None, 100)
    assert anybody == Key("anonymous", "-", 6, 500, TODAY)
    assert [key.anonymous for key in (ann, bob, anybody)] == [False, False, True]
    assert Keys([ann, anybody]).owner("-") is None


def test_a_key_called_anonymous_is_a_key(tmp_path: Path) -> None:
    key, line = new_key("anonymous")
    add_key(tmp_path / "keys", line)
    keys = Keys(read_keys(tmp_path / "keys"))
    assert keys.anonymous is None
    assert keys.owner(key)


def test_what_is_removed_is_gone_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\nann\t{DIGEST}\t60\n\nbob\t{DIGEST}\n", "utf-8")
    path.chmod(0o640)
    if os.geteuid() == 0:  # as an administrator does with the file of a service's user
        os.chown(path, 65_534, 65_534)
    owner = path.stat().st_uid, path.stat().st_gid
    remove_key(path, "ann")
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert path.read_text("utf-8") == f"# who may ask\n\nbob\t{DIGEST}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(BadInput, match="no key named ann"):
        remove_key(path, "ann")
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nobody\n", b"\xff\xfe"])
def test_a_file_that_would_let_nobody_in_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="keys: "):
        read_keys(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; `s2s key NAME"):
        read_keys(tmp_path / "keys")


# ---- who -----------------------------------------------------------------------------------------


def test_each_key_has_its_owner(tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=None, bob=3, eve=None)
    for name, key in told.items():
        owner = keys.owner(key)
        assert owner is not None
        assert owner.name == name


def test_what_is_nearly_a_key_is_nobodys(tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=None)
    key = told["ann"]
    digest = hashlib.sha256(key.encode()).hexdigest()
    near = [key[:-1], key + "a", key.swapcase(), f" {key}", digest, "", "ann", "\ud800", "é" * 99]
    assert [keys.owner(each) for each in near] == [None] * len(near)


@pytest.mark.parametrize("whose", ["first", "last", "none"])
def test_every_key_is_compared_and_in_constant_time(
    whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, told = keys_of(tmp_path, first=None, middle=None, last=None)
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    class Watched:
        @staticmethod
        def compare_digest(a: str, b: str) -> bool:
            compared.append((a, b))
            return compare(a, b)

    monkeypatch.setattr(module, "hmac", Watched)
    keys.owner(told.get(whose, "wrong"))
    assert len({kept for kept, _ in compared}) == 3
    assert not set(told.values()) & {text for pair in compared for text in pair}


# ---- how often -----------------------------------------------------------------------------------


def limited(per_minute: float | None) -> tuple[Keys, Key, Clock]:
    clock, key = Clock(), Key("ann", DIGEST, per_minute)
    return Keys([key], clock), key, clock


def test_a_key_without_a_rate_never_waits() -> None:
    keys, key, _ = limited(None)
    assert [keys.wait(key) for _ in range(1000)] == [0] * 1000


def test_a_minutes_requests_may_come_at_once_and_no_more() -> None:
    keys, key, _ = limited(3)
    assert [keys.wait(key) for _ in range(3)] == [0, 0, 0]
    assert keys.wait(key) == pytest.approx(20)


def test_after_the_wait_that_was_told_one_more_may_come() -> None:
    keys, key, clock = limited(3)
    while not (wait := keys.wait(key)):
        pass
    clock.now += wait - 0.01
    assert keys.wait(key) == pytest.approx(0.01)
    clock.now += 0.02
    assert keys.wait(key) == 0
    assert keys.wait(key) > 19


def test_refused_requests_cost_nothing() -> None:
    keys, key, clock = limited(1)
    assert keys.wait(key) == 0
    for _ in range(59):
        clock.now += 1
        assert keys.wait(key) > 0
    clock.now += 1.001
    assert keys.wait(key) == 0


def test_a_long_silence_earns_no_more_than_a_minute() -> None:
    keys, key, clock = limited(5)
    clock.now += 1e6
    assert [keys.wait(key) == 0 for _ in range(7)] == [True] * 5 + [False] * 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.5])
def test_even_a_rate_below_one_lets_the_first_request_through(rate: float) -> None:
    keys, key, clock = limited(rate)
    assert keys.wait(key) == 0
    wait = keys.wait(key)
    assert 0 < wait <= 60 / rate
    clock.now += wait + 0.001
    assert keys.wait(key) == 0


def test_over_an_hour_the_rate_is_kept() -> None:
    keys, key, clock = limited(10)
    granted = 0
    for _ in range(3600 * 4):
        clock.now += 0.25
        granted += keys.wait(key) == 0
    assert 600 <= granted <= 610


def test_a_key_does_not_use_up_anothers_rate() -> None:
    ann, bob = Key("ann", DIGEST, 1), Key("bob", "0" * 64, 1)
    keys = Keys([ann, bob], Clock())
    assert [keys.wait(key) == 0 for key in (ann, ann, bob, bob)] == [True, False, True, False]


def test_a_request_takes_its_weight() -> None:
    keys, key, clock = limited(10)
    assert keys.wait(key, 7) == 0
    assert keys.wait(key, 4) == pytest.approx(6)
    assert keys.wait(key, 3, take=False) == 0
    assert keys.wait(key, 3) == 0
    assert keys.wait(key) == pytest.approx(6)
    clock.now += 60
    assert keys.wait(key, 10) == 0


def test_keys_that_stay_keep_what_they_have_used() -> None:
    ann, bob, eve = (Key(name, 64 * name[0], 1) for name in ("ann", "bob", "eve"))
    keys = Keys([ann, bob], Clock())
    assert [keys.wait(key) for key in (ann, bob)] == [0, 0]
    keys.replace([eve, ann])
    assert keys.wait(ann) > 0
    assert keys.wait(eve) == 0
    keys.replace([ann])
    assert keys.wait(ann) > 0


# ---- a file that changes -------------------------------------------------------------------------


def replaced(path: Path, text: str) -> None:
    scratch = path.with_name("scratch")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)


def in_place(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("write", [replaced, in_place])
def test_keys_that_are_added_and_removed_count(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    (ann, ann_line), (bob, bob_line) = new_key("ann", 1), new_key("bob")
    write(path, ann_line)
    file = KeysFile(path)
    owner = file.keys.owner(ann)
    assert owner is not None
    assert file.keys.wait(owner) == 0
    write(path, f"{ann_line}\n{bob_line}\n")
    file.refresh()
    assert file.keys.owner(bob)
    assert file.keys.wait(owner) > 0
    write(path, f"{bob_line}\n")
    file.refresh()
    assert file.keys.owner(ann) is None
    assert file.keys.owner(bob)
    write(path, "")
    file.refresh()
    assert file.keys.owner(bob) is None


@pytest.fixture
def ann(tmp_path: Path) -> tuple[KeysFile, Path, str, str]:
    """A file with the key of Ann alone, its path, her key and her line."""
    path = tmp_path / "keys"
    key, line = new_key("ann")
    path.write_text(line, "utf-8")
    return KeysFile(path), path, key, line


def test_a_broken_file_changes_nothing_and_is_logged(
    ann: tuple[KeysFile, Path, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file, path, key, _ = ann
    for content in (b"bob\tsecret\n", b"\xff\xfe"):
        caplog.clear()
        path.write_bytes(content)
        file.refresh()
        file.refresh()
        assert file.keys.owner(key)
        [record] = caplog.records
        assert str(path) in record.getMessage()
        assert "secret" not in record.getMessage()
    path.write_text(new_key("bob")[1], "utf-8")
    file.refresh()
    assert file.keys.owner(key) is None


def test_without_the_file_no_key_is_valid_until_it_is_back(
    ann: tuple[KeysFile, Path, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file, path, key, line = ann
    path.unlink()
    file.refresh()
    assert file.keys.owner(key) is None
    assert "no API key is valid" in caplog.text
    path.write_text(line, "utf-8")
    file.refresh()
    assert file.keys.owner(key)


def test_a_service_follows_its_file(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    told = {}
    for name in ("ann", "bob"):
        told[name], line = new_key(name)
        add_key(path, line)
    file = KeysFile(path)
    file.watch(0.01)
    with client_of(models, keys=file.keys) as client:

        def status(name: str) -> int:
            body = {**BODY, "api_key": told[name]}
            return client.post("/translate", json=body).status_code

        assert [status(name) for name in ("ann", "bob")] == [200, 200]
        assert main(["key", "ann", "--remove", "--file", str(path)]) == 0
        until(lambda: status("ann") == 403)
        told["eve"], line = new_key("eve")
        add_key(path, line)
        until(lambda: status("eve") == 200)
        assert status("bob") == 200
        add_key(path, anonymous_line(1000))
        until(lambda: client.post("/translate", json=BODY).status_code == 200)


# ---- the verb ------------------------------------------------------------------------------------


def test_the_verb_prints_a_key_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "ann", "--per-minute", "30"]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert line == f"ann\t{hashlib.sha256(key.encode()).hexdigest()}\t30\t\t{TODAY}"


def test_the_verb_adds_to_a_file_and_keeps_the_key_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    told = {}
    for name in ("ann", "bob"):
        assert main(["key", name, "--file", str(path)]) == 0
        [told[name]] = capsys.readouterr().out.splitlines()
    keys = Keys(read_keys(path))
    for name, key in told.items():
        assert (owner := keys.owner(key)) is not None
        assert owner.name == name
        assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize(
    "arguments", [["a b"], [""], ["ann", "--per-minute", "0"], ["ann", "--per-minute", "nan"], []]
)
def test_the_verb_refuses_what_is_no_key(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--file", str(tmp_path / "keys")] if arguments else []
    try:
        status = main(["key", *arguments, *file])
    except SystemExit as ended:
        status = ended.code  # type: ignore[assignment]
    assert status == 2
    assert "s2s_" not in capsys.readouterr().out
    assert not (tmp_path / "keys").exists()


def test_the_verb_refuses_a_name_that_is_taken_and_prints_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--file", str(tmp_path / "keys")]
    assert main(["key", "ann", *file]) == 0
    capsys.readouterr()
    assert main(["key", "ann", *file]) == 2
    said = capsys.readouterr()
    assert "s2s_" not in said.out + said.err
    assert "ann" in said.err


def test_the_verb_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--file", str(tmp_path / "keys")]
    assert main(["key", "ann", *file, "--per-minute", "60", "--characters", "5000"]) == 0
    assert main(["key", "bob", *file]) == 0
    assert main(["key", "--anonymous", "--per-minute", "6", *file]) == 0
    capsys.readouterr()
    assert main(["key", "--list", *file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ann        60 sentences a minute, 5,000 characters a request, created {TODAY}",
        f"bob        any number of sentences a minute, created {TODAY}",
        f"anonymous  6 sentences a minute, created {TODAY}",
    ]
    assert main(["key", "--list", "--json", *file]) == 0
    ann, bob, anybody = json.loads(capsys.readouterr().out)
    assert ann == {"name": "ann", "anonymous": False, "per_minute": 60, "characters": 5000,
                   "created": str(TODAY)}  # fmt: skip
    assert (bob["per_minute"], bob["characters"]) == (None, None)
    assert anybody["anonymous"]
    assert main(["key", "bop", "--remove", *file]) == 2
    assert capsys.readouterr().err.endswith("keys has no key named bop; did you mean bob?\n")
    for name in ("bob", "anonymous"):
        assert main(["key", name, "--remove", *file]) == 0
        assert capsys.readouterr().out.startswith(f"removed {name}; services that use ")
    assert [key.name for key in read_keys(tmp_path / "keys")] == ["ann"]
    assert main(["key", "ann", "--remove", *file]) == 0
    capsys.readouterr()
    assert main(["key", "--list", *file]) == 0
    assert capsys.readouterr().out.endswith("keys has no keys\n")


def test_keys_without_a_day_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text(f"ann\t{DIGEST}\t60\n", "utf-8")
    assert main(["key", "--list", "--file", str(path)]) == 0
    assert capsys.readouterr().out == "ann  60 sentences a minute\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ann", "--list"],
        ["--remove"],
        ["--list", "--remove"],
        ["ann", "--json"],
        ["ann", "--anonymous", "--per-minute", "6"],
        ["--anonymous"],
        ["ann", "--characters", "0"],
        ["nobody", "--remove"],
    ],
)
def test_the_verb_refuses_what_makes_no_sense(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path, new_key("ann")[1])
    before = path.read_text()
    assert main(["key", *arguments, "--file", str(path)]) == 2
    assert path.read_text() == before


# ---- over HTTP -----------------------------------------------------------------------------------


PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/translate", BODY),
    ("/detect", {"q": "I see trees."}),
    ("/v1/translate", {"q": "I see trees."}),
    ("/v1/translate/stream", {"q": "I see trees."}),
]


@pytest.fixture(scope="module")
def asked(
    models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    keys, told = keys_of(tmp_path_factory.mktemp("keys"), ann=None)
    with client_of(models, keys=keys) as client:
        yield client, told


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_without_the_key_every_path_that_works_is_closed(
    path: str, body: dict[str, Any], asked: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, told = asked
    key = told["ann"]
    wrong = [
        ({}, {}),
        ({"api_key": ""}, {}),
        ({"api_key": None}, {}),
        ({"api_key": "wrong"}, {}),
        ({"api_key": key[:-1]}, {}),
        ({}, {"authorization": "Bearer wrong"}),
        ({}, {"authorization": "Bearer"}),
        ({}, {"authorization": key}),
        ({}, {"authorization": f"Basic {key}"}),
    ]
    for fields, headers in wrong:
        response = client.post(path, json={**body, **fields}, headers=headers)
        assert response.status_code == 403, (fields, headers)
        assert list(response.json()) == ["error"]


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_the_key_opens_from_the_field_and_from_the_header(
    path: str, body: dict[str, Any], asked: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, told = asked
    key = told["ann"]
    assert client.post(path, json={**body, "api_key": key}).status_code == 200
    for scheme in ("Bearer", "bearer"):
        headers = {"authorization": f"{scheme} {key}"}
        assert client.post(path, json=body, headers=headers).status_code == 200
        empty = client.post(path, json={**body, "api_key": ""}, headers=headers)
        assert empty.status_code == 200  # what LibreTranslate's page sends where nothing was typed


def test_a_key_is_told_to_no_one(asked: tuple[httpx.Client, dict[str, str]]) -> None:
    client, told = asked
    key = told["ann"]
    for body in ({**BODY, "api_key": key}, {"api_key": key}, {**BODY, "api_key": key, "q": 3}):
        response = client.post("/translate", json=body)
        assert key not in response.text
        assert key not in str(response.headers)


def test_above_its_rate_a_key_is_told_when_to_come_again(models: Models, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=2, bob=2, eve=None)
    with client_of(models, keys=keys) as client:

        def ask(name: str, **more: Any) -> httpx.Response:
            return client.post("/translate", json={**BODY, "api_key": told[name], **more})

        assert [ask("ann").status_code for _ in range(2)] == [200, 200]
        response = ask("ann")
        assert response.status_code == 429
        assert 25 <= int(response.headers["retry-after"]) <= 30
        assert list(response.json()) == ["error"]
        # The rate is one for all paths, and of this key alone.
        detect = client.post("/detect", json={"q": "a", "api_key": told["ann"]})
        assert detect.status_code == 429
        assert ask("bob").status_code == 200
        assert [ask("eve").status_code for _ in range(9)] == [200] * 9


def test_wrong_keys_use_up_no_rate(models: Models, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=1)
    with client_of(models, keys=keys) as client:
        for _ in range(5):
            assert client.post("/translate", json={**BODY, "api_key": "no"}).status_code == 403
        body = {**BODY, "api_key": told["ann"]}
        assert client.post("/translate", json=body).status_code == 200


def test_a_rate_counts_what_a_request_weighs(models: Models, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, few=3, many=300, lines=4, wide=64)
    with client_of(models, keys=keys) as client:

        def ask(name: str, path: str = "/translate", **more: Any) -> httpx.Response:
            languages = {} if path.startswith("/v1") else BODY
            return client.post(path, json={**languages, "api_key": told[name], **more})

        texts = ["I see trees."] * 256
        never = ask("few", q=texts)  # to come again would not help
        assert never.status_code == 413
        assert "counts as 256 sentences" in never.json()["error"]
        assert "3 sentences a minute" in never.json()["error"]
        assert ask("few").status_code == 200
        assert ask("many", q=texts).status_code == 200
        again = ask("many", q=texts)
        assert again.status_code == 429
        assert 40 <= int(again.headers["retry-after"]) <= 43  # 212 more at 5 a second
        assert ask("lines", q="I see trees. I see trees.\nI see trees.").status_code == 200
        assert ask("lines", q="I see trees.\nI see trees.").status_code == 429
        # 8 × 4 of 64, twice; and translating beside it counts 1.
        wide = {"path": "/v1/translate", "q": "I see trees.", "beam": 8, "n_best": 4}
        assert [ask("wide", **wide).status_code for _ in range(3)] == [200, 200, 429]
        assert ask("many", alternatives=5).status_code == 200  # 37
        assert ask("many", alternatives=5).status_code == 429


def test_what_is_refused_or_wrong_costs_nothing(models: Models, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=1)
    with client_of(models, keys=keys) as client:
        for wrong in ({"q": ["a", "b"]}, {"target": "de"}, {"q": []}, {"q": "a" * 10_001}):
            body = {**BODY, "api_key": told["ann"], **wrong}
            assert client.post("/translate", json=body).status_code in (400, 413)
        body = {**BODY, "api_key": told["ann"]}
        assert client.post("/translate", json=body).status_code == 200


def with_limits(folder: Path, *lines: str) -> Keys:
    path = folder / "keys"
    path.write_text("\n".join(lines), "utf-8")
    return Keys(read_keys(path))


def test_a_key_has_its_own_limit_of_characters(models: Models, tmp_path: Path) -> None:
    key, line = new_key("ann", None, 12)
    with client_of(models, keys=with_limits(tmp_path, line)) as client:
        for q, status in (
            ("I see trees.", 200),
            ("I see trees!!", 413),
            (["I see", "trees !!"], 413),
        ):
            response = client.post("/translate", json={**BODY, "q": q, "api_key": key})
            assert response.status_code == status, q
        assert "12 characters" in response.json()["error"]


def test_requests_without_a_key_share_an_allowance(models: Models, tmp_path: Path) -> None:
    key, line = new_key("ann")
    keys = with_limits(tmp_path, line, anonymous_line(3, 100))
    with client_of(models, keys=keys) as client:
        settings = client.get("/frontend/settings").json()
        assert (settings["apiKeys"], settings["keyRequired"]) == (True, False)
        assert client.post("/translate", json={**BODY, "q": "a" * 101}).status_code == 413
        assert client.post("/translate", json={**BODY, "q": ["I see."] * 2}).status_code == 200
        refused = client.post("/translate", json={**BODY, "q": ["I see."] * 2})
        assert refused.status_code == 429
        assert refused.json()["error"] == (
            "too much at once; requests without a key may have 3 sentences a minute"
        )
        # A key is not held up by it, and a wrong one is no reason to take it.
        assert client.post("/translate", json={**BODY, "api_key": key}).status_code == 200
        assert client.post("/translate", json={**BODY, "api_key": "no"}).status_code == 403
        headers = {"authorization": "Bearer no"}
        assert client.post("/translate", json=BODY, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/translate", "/detect", "/v1/translate", "/v1/translate/stream"])
def test_a_wrong_key_in_the_header_is_refused_before_the_body_comes(
    path: str, models: Models, tmp_path: Path
) -> None:
    keys, _ = keys_of(tmp_path, ann=None)
    with serving(models, keys=keys) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=15) as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer no\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_paths_and_settings_are_told_to_who_has_a_key(model_dir: Path, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=1)
    secret = tmp_path / "customer-acme" / "model"
    with models_of(model_dir) as models:
        with client_of(models, keys=keys) as client:
            assert client.get("/v1/models").json()["failure"] is None
            models.serve_soon([secret])
            until(lambda: models.failure is not None)
            for headers in ({}, {"authorization": "Bearer no"}, {"authorization": told["ann"]}):
                response = client.get("/v1/models", headers=headers)
                assert response.status_code == 200
                assert "acme" not in response.text
                assert response.json()["failure"] == "the last exchange of models failed"
                [model] = response.json()["models"]
                assert "beam" in model["decode"]
                assert not {"batch_size", "precision", "max_source"} & model["decode"].keys()
            for _ in range(3):  # which takes nothing from a rate
                for known in (
                    client.get("/v1/models", headers={"authorization": f"Bearer {told['ann']}"}),
                    client.get("/v1/models", params={"api_key": told["ann"]}),
                ):
                    assert str(secret) in known.json()["failure"]
                    assert "batch_size" in known.json()["models"][0]["decode"]
        with client_of(models) as client:  # where no keys are asked for
            assert str(secret) in client.get("/v1/models").json()["failure"]


def test_a_key_cannot_have_the_name_of_the_allowance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "anonymous", "--file", str(tmp_path / "keys")]) == 2
    assert "anonymous is the allowance's name" in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()
