"""Directories in an object store: a real server of S3 in this process."""

import errno
import fcntl
import json
import logging
import os
import pickle
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import s2s
from s2s import mirrors
from s2s.cli.arguments import parse
from s2s.cli.config_file import config_text
from s2s.cli.main import main
from s2s.cli.train import Train
from s2s.errors import BadInput, Failed
from s2s.interruption import interruptible, requests_to_stop
from s2s.leases import has_lost, leased
from s2s.locations import Location, absolute, extended, name_of
from s2s.mirrors import INCOMPLETE, MANIFEST, local_copy, publish
from s2s.model.directory import ModelDirectory
from s2s.runs import claimed_folder, run_mirror
from s2s.serving.engine.models import Models
from s2s.storage import filesystem
from tests.support.serving import in_threads
from tests.support.store import Store, started_store

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with started_store() as store:
        yield store


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with files, one of them in a folder."""
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "inner" / "b.bin").write_bytes(bytes(range(256)) * 20_000)
    (folder / "empty").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# ---- locations ------------------------------------------------------------------------------


def test_a_location_is_a_path_or_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("m") == str(tmp_path / "m")
    assert absolute((tmp_path / "a b").as_uri()) == str(tmp_path / "a b")
    assert absolute("s3://bucket/m/") == "s3://bucket/m"
    with_query = Location("s3://bucket/a%20b?region=eu-west-1")
    assert name_of(with_query) == "a b"
    assert extended(with_query, ".run") == "s3://bucket/a%20b.run?region=eu-west-1"
    with pytest.raises(BadInput, match="s3:/bucket/m: a URI has two slashes after the colon"):
        absolute("s3:/bucket/m")


def test_options_keep_a_uri_as_it_is_written(tmp_path: Path) -> None:
    options = ["--corpus", "s3://bucket/c", "--out", "m", "--init-from", "s3://bucket/first"]
    verb = parse("train", Train, ["demo", *options])
    assert isinstance(verb, Train)
    assert (verb.corpus, verb.init_from) == ("s3://bucket/c", "s3://bucket/first")
    file = tmp_path / "config.yaml"
    file.write_text(config_text(verb), "utf-8")
    again = parse("train", Train, ["--config", str(file)])
    assert isinstance(again, Train)
    assert (again.corpus, again.out) == ("s3://bucket/c", absolute("m"))


# ---- directories ----------------------------------------------------------------------------


def test_a_directory_is_the_same_on_another_host(store: Store, folder: Path) -> None:
    uri = store.uri("same/a b")
    publish(folder, Location(uri))
    assert sorted(store.names("same/a b")) == ["a.txt", "empty", MANIFEST, "inner/b.bin"]
    copy = local_copy(uri)
    assert contents(copy) == contents(folder)
    assert copy.name == "a b"
    assert local_copy(uri) == copy
    assert local_copy(folder) == local_copy(folder.as_uri()) == folder


def test_a_directory_that_changes_is_fetched_again(store: Store, folder: Path) -> None:
    uri = Location(store.uri("changing"))
    publish(folder, uri)
    before = local_copy(uri)
    (folder / "a.txt").write_text("second")
    (folder / "empty").unlink()
    publish(folder, uri)
    after = local_copy(uri)
    assert contents(after) == contents(folder)
    assert "empty" not in store.names("changing")
    assert (before / "a.txt").read_text() == "first"  # this process still uses it


def test_an_incomplete_directory_is_never_taken_for_a_complete_one(
    store: Store, folder: Path
) -> None:
    uri = Location(store.uri("incomplete"))
    with pytest.raises(BadInput, match="incomplete does not exist"):
        local_copy(uri)
    publish(folder, uri)
    store.remove(f"incomplete/{MANIFEST}")
    with pytest.raises(BadInput, match=f"incomplete is not complete: it has no {MANIFEST}"):
        local_copy(uri)


def test_what_a_killed_command_has_begun_to_publish_is_replaced_from_another_host(
    store: Store, folder: Path, pairs_file: Path
) -> None:
    uri = Location(store.uri("begun/c"))
    (folder / "unreadable").symlink_to("/proc/self/mem")  # publishing ends within the directory
    with pytest.raises(BadInput, match="Input/output error"):
        publish(folder, uri)
    assert {"a.txt", INCOMPLETE} <= set(store.names("begun/c"))
    with pytest.raises(BadInput, match=f"c is not complete: it has no {MANIFEST}"):
        local_copy(uri)
    s2s.prepare(pairs_file, uri, "en-fr", "demo", quiet=True)
    assert s2s.Corpus.open(local_copy(uri)).split("train")
    assert not {"a.txt", INCOMPLETE} & set(store.names("begun/c"))

    store.write("foreign/c/notes.txt", b"of a user")
    with pytest.raises(BadInput, match="foreign/c exists already, and no earlier run made it"):
        s2s.prepare(pairs_file, store.uri("foreign/c"), "en-fr", "demo", quiet=True, restart=True)


def test_a_copy_resumes_and_takes_no_damaged_file(store: Store, folder: Path) -> None:
    uri = Location(store.uri("damaged"))
    publish(folder, uri)
    whole = store.read("damaged/inner/b.bin")
    store.write("damaged/inner/b.bin", whole[:-1] + b"x")
    with pytest.raises(BadInput, match=r"damaged/inner/b.bin does not match its hash"):
        local_copy(uri)
    [first] = (folder.parent / "cache").rglob("a.txt")
    number = first.stat().st_ino
    store.write("damaged/inner/b.bin", whole)
    copy = local_copy(uri)
    assert contents(copy) == contents(folder)
    assert (copy / "a.txt").stat().st_ino == number  # it was not fetched twice


def test_a_manifest_names_no_file_outside_of_its_directory(store: Store, folder: Path) -> None:
    uri = Location(store.uri("outside"))
    publish(folder, uri)
    text = store.read(f"outside/{MANIFEST}").decode()
    store.write(f"outside/{MANIFEST}", text.replace("a.txt", "../../a.txt").encode())
    with pytest.raises(BadInput, match="is outside of the directory"):
        local_copy(uri)


def test_processes_of_a_host_share_a_copy(store: Store, folder: Path) -> None:
    uri = Location(store.uri("shared"))
    publish(folder, uri)
    with ThreadPoolExecutor(6) as threads:
        copies = set(threads.map(local_copy, [uri] * 6))
    [copy] = copies
    assert contents(copy) == contents(folder)
    assert len(list(copy.parent.iterdir())) == 1


def test_a_cache_without_locks_removes_no_version(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    uri = Location(store.uri("lockless"))
    publish(folder, uri)
    with ThreadPoolExecutor(6) as threads:
        [before] = set(threads.map(local_copy, [uri] * 6))
    assert [path.name for path in before.parent.iterdir()] == ["lockless"]
    (folder / "a.txt").write_text("second")
    publish(folder, uri)
    monkeypatch.setattr(mirrors, "_kept", {})  # as in another process
    assert contents(local_copy(uri)) == contents(folder)
    assert (before / "a.txt").read_text() == "first"


# ---- stores that cannot be used -------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://nobucket/m", "there is no bucket nobucket at http://127.0.0.1:"),
        ("s3://bucket", "name a bucket and a folder in it"),
        ("s3://bucket/m?regoin=x", "regoin is none of endpoint_override, region, scheme"),
        ("s3://bucket/m?endpoint_override=http://127.0.0.1:9", "the store does not answer"),
        ("s3://key:secret@bucket/m", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_in_a_line(
    store: Store, uri: str, reason: str, capsys: Captured
) -> None:
    assert main(["translate", uri, "a"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert reason in line
    assert "secret@" not in line


def test_keys_that_are_refused_are_told_in_a_line(
    store: Store, folder: Path, capsys: Captured
) -> None:
    publish(folder, Location(store.uri("refused")))
    with store.refusing():
        assert main(["inspect", store.uri("refused")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"refused/{MANIFEST}: the store refuses access: check AWS_ACCESS_KEY_ID" in line


def test_errors_name_the_uri_and_not_the_copy(store: Store, folder: Path, capsys: Captured) -> None:
    uri = store.uri("neither")
    publish(folder, uri)
    assert main(["inspect", uri]) == 2
    assert capsys.readouterr().err.startswith(f"s2s: {uri} is neither a corpus directory")


def test_a_store_is_checked_once_and_only_if_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")  # nobody has checked the store with it
    with started_store() as store, caplog.at_level(logging.INFO, "werkzeug"):
        with pytest.raises(BadInput, match="there is no bucket later"):
            filesystem("s3://later/m")
        store.client.create_bucket(Bucket="later")
        filesystem("s3://later/m")
        with store.refusing(), pytest.raises(BadInput, match="refuses access"):
            filesystem(store.uri("m"))
        first, _ = filesystem(store.uri("m"))
        caplog.clear()
        second, path = filesystem(store.uri("other/m"))
        assert (second is first, path, caplog.messages) == (True, "bucket/other/m", [])
        copied = pickle.loads(pickle.dumps(second))  # noqa: S301 - our own
        assert copied.get_file_info("bucket/other/m").size is None
        assert caplog.messages  # requests are logged
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "renewed")
        assert filesystem(store.uri("m"))[0] is not first


@pytest.mark.slow
def test_a_store_that_accepts_and_says_nothing_is_given_up(capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert main(["inspect", f"s3://bucket/m?endpoint_override={address}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "the store does not answer" in line


def test_a_source_in_a_store_that_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    for name in ("none.tsv", "none*.tsv"):
        with pytest.raises(BadInput, match=r"none\*?\.tsv: no such file"):
            s2s.prepare(store.uri(name), tmp_path / "c", "en-fr", "demo", quiet=True)


# ---- what the verbs make --------------------------------------------------------------------


def test_a_model_is_made_in_a_store_on_several_hosts(
    store: Store, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, model = store.uri("corpora/c"), store.uri("models/m")
    settings = {"train.batch_size": 32, "model.hidden_size": 16, "model.embedding_size": 16}
    store.write("raw/pairs.txt", pairs_file.read_bytes())
    s2s.prepare(store.uri("raw/*.txt"), corpus, "en-fr", "demo", quiet=True)
    with pytest.raises(BadInput, match="corpora/c exists already; --restart starts over"):
        s2s.prepare(pairs_file, corpus, "en-fr", "demo", quiet=True)

    def train(out: str, epochs: int) -> list[int]:
        changed = {**settings, "train.epochs": epochs}
        done = s2s.train(corpus, out, "demo", changed, threads=1, track=(), quiet=True)
        return [epoch.epoch for epoch in done.metrics.epochs]

    assert train(model, 1) == [1]
    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "another host"))
    with pytest.raises(BadInput, match=r"m\.run holds another run: train\.batch_size was 32"):
        s2s.train(corpus, model, "demo", {**settings, "train.batch_size": 8}, threads=1, quiet=True)
    assert train(model, 2) == [1, 2]
    assert train(str(tmp_path / "local"), 2) == [1, 2]
    expected = ModelDirectory.load(tmp_path / "local").model.named_weights()
    for name, weight in s2s.load(model).directory.model.named_weights().items():
        assert torch.equal(weight, expected[name]), name
    lines = store.read("models/m.run/metrics.jsonl").decode().splitlines()
    losses = [line for line in lines if "valid/loss" in json.loads(line)]
    assert len(losses) == 2  # of the host before, and of this one
    assert {"run.json", "finished.json", "config.yaml"} < set(store.names("models/m.run"))
    assert "lease.json" not in store.names("models/m.run")
    assert s2s.load(model, checkpoint="newest").translate(["I see bread."])


def test_a_run_that_starts_over_on_another_host_leaves_no_file_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = store.uri("over/m"), store.uri("over/m.run")
    hosts = [str(tmp_path / name) for name in ("one", "two")]
    files: list[set[str]] = []
    for host, restart, name in ((0, False, "a"), (1, False, "b"), (1, True, "c"), (0, False, "d")):
        monkeypatch.setenv("S2S_CACHE", hosts[host])
        with claimed_folder(out, "marker", {}, restart=restart) as folder:
            (folder / name).touch()
            run_mirror(Location(run)).publish()
            files.append({path.name for path in folder.iterdir()} & set("abcd"))
    assert files == [{"a"}, {"a", "b"}, {"c"}, {"c", "d"}]
    assert set(store.names("over/m.run")) == {"c", "d", "run.json", "run-id"}


def test_a_run_is_used_by_one_host(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Location(store.uri("leases/m.run"))
    with leased(run):
        monkeypatch.setenv("S2S_CACHE", str(tmp_path / "another host"))
        with (
            pytest.raises(BadInput, match=r"m\.run is in use: a command on .* works there"),
            leased(run),
        ):
            pass
        assert store.names("leases/m.run") == ["lease.json"]
    with leased(run):
        pass
    assert store.names("leases/m.run") == []


def test_a_killed_command_does_not_keep_its_host_from_resuming(store: Store) -> None:
    run = Location(store.uri("killed/m.run"))
    with leased(run):
        lease = store.read("killed/m.run/lease.json")
    store.write("killed/m.run/lease.json", lease)  # as a killed command leaves it
    with leased(run):
        pass


@pytest.mark.parametrize("saves", [False, True])
def test_a_command_whose_run_another_host_takes_over_stops(
    saves: bool, store: Store, capsys: Captured
) -> None:
    run = Location(store.uri(f"lost/{saves}.run"))
    theirs = b'{"holder": "another", "host": "node-7"}'
    with (
        pytest.raises(Failed, match="stopped without saving: a command on node-7 has taken over"),
        interruptible(),
        leased(run, every=0.05),
        requests_to_stop(has_lost) if saves else nullcontext(),
    ):
        assert not has_lost()
        store.write(f"lost/{saves}.run/lease.json", theirs)
        time.sleep(60)  # ended by the signal
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"stopping without saving: a command on node-7 has taken over {run}"
    assert store.read(f"lost/{saves}.run/lease.json") == theirs
    assert not has_lost()


def test_a_sweep_at_a_uri_is_refused(capsys: Captured) -> None:
    options = ["--corpus", "c", "--out", "s3://bucket/sweep"]
    assert main(["tune", "demo", *options]) == 2
    assert (
        "s3://bucket/sweep: a sweep needs a folder that all nodes share" in capsys.readouterr().err
    )


def test_models_at_uris_are_served_and_exchanged(
    store: Store, model_dir: Path, tmp_path: Path
) -> None:
    uri = Location(store.uri("served/en-fr"))
    publish(model_dir, uri)
    models = Models(in_threads())
    try:
        models.serve([uri])
        [first] = models.all
        assert first.name == "en-fr"
        models.serve([uri])
        assert models.all == (first,)
        changed = tmp_path / "changed"
        shutil.copytree(model_dir, changed)
        config = json.loads((changed / "config.json").read_text())
        config["decode"]["max_length"] += 1
        (changed / "config.json").write_text(json.dumps(config))
        publish(changed, uri)
        models.serve([uri])
        [second] = models.all
        assert (second.name, second.version == first.version) == ("en-fr", False)
    finally:
        models.close()
