"""The life of a model whose data is all in an object store, with workers on Ray."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from s2s.decoding.translator import Translator
from s2s.mirrors import local_copy, publish
from s2s.model.directory import ModelDirectory
from tests.support.cluster import s2s, start
from tests.support.corpora import Pairs
from tests.support.store import Store, started_store
from tests.system.conftest import RUN


@pytest.fixture
def store() -> Iterator[Store]:
    with started_store() as store:
        yield store


def run(*arguments: object, cache: Path) -> str:
    """Run a command to its end on a cluster of its own, and return its output."""
    process = start(*arguments, env=environment(cache))
    told, _ = process.communicate(timeout=500)
    assert process.returncode == 0, told
    return told


def environment(cache: Path) -> dict[str, str]:
    """The environment of a host: a cache of its own, and no cluster."""
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**others, "S2S_CACHE": str(cache)}


def has_reached(store: Store, steps: int) -> bool:
    """Return whether the run has written a checkpoint of so many steps."""
    found = re.findall(r"step-(\d+)/checkpoint.json", " ".join(store.names("models/m.run")))
    return any(int(each) >= steps for each in found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_resumes_from_the_store(
    store: Store, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, model = store.uri("corpora/c"), store.uri("models/m")
    one = tmp_path / "cache"
    pairs = small_corpus.with_name("pairs.txt")
    source = ("--source", pairs, "--languages", "en-fr")
    run("prepare", "demo", *source, "--out", corpus, cache=one)
    train = ("train", "demo", "--corpus", corpus, *RUN, "--train.precision", "fp32", "--out")
    process = start(*train, model, "--workers", 2, env=environment(one))
    started = psutil.Process(process.pid)
    try:
        while not has_reached(store, 200):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
    finally:
        kill_all(started)
        process.wait()
    told = run(*train, model, "--workers", 2, cache=one)
    assert "resuming from the checkpoint of step" in told
    run(*train, tmp_path / "whole", cache=one)  # in one process

    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "another host"))
    weights = ModelDirectory.load(local_copy(model)).model.named_weights()
    for name, weight in ModelDirectory.load(tmp_path / "whole").model.named_weights().items():
        assert (weight - weights[name]).abs().max() < 1e-3, name
    lines = map(json.loads, store.read("models/m.run/metrics.jsonl").decode().splitlines())
    assert [line["train/epoch"] for line in lines if "valid/loss" in line] == [1, 2, 3, 4, 5]
    done = s2s("evaluate", model, "--corpus", corpus, "--json")
    assert json.loads(done.out)["loss"] > 0
    assert s2s("translate", model, "The red old dog.").out.strip()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_actors_translate_from_the_store_into_the_store_though_the_driver_is_killed(
    store: Store, model_dir: Path, pairs: Pairs, translator: Translator, tmp_path: Path
) -> None:
    sentences = list(dict.fromkeys(source for source, _ in pairs))
    translations = dict(zip(sentences, translator.translate(sentences), strict=True))
    lines = [sentences[number * 7 % len(sentences)] for number in range(60_000)]
    store.write("in.txt", "".join(f"{line}\n" for line in lines).encode())
    publish(model_dir, store.uri("model"))
    out = store.uri("out.txt")
    command = ("translate", store.uri("model"), "--input", store.uri("in.txt"), "--output", out,
               "--workers", 2)  # fmt: skip
    process = start(*command, env=environment(tmp_path / "one"))
    started = psutil.Process(process.pid)
    try:
        while sum(name.endswith(".part") for name in store.names("out.txt.run")) < 4:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
    finally:
        kill_all(started)
        process.wait()
    with pytest.raises(store.client.exceptions.NoSuchKey):
        store.read("out.txt")
    told = run(*command, cache=tmp_path / "another host")
    assert "continuing after" in told
    assert store.read("out.txt").decode().splitlines() == [translations[line] for line in lines]
    assert store.names("out.txt.run") == []


def kill_all(started: psutil.Process) -> None:
    """End a process and all that it has started at once, as if the host had died."""
    with suppress(psutil.NoSuchProcess):  # it ended by itself
        for each in [*started.children(recursive=True), started]:
            each.kill()
