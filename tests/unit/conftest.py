"""Models behind a real HTTP server, without Ray, and engines in threads, for changed models."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from s2s.decoding.translator import Translator
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.messages import Wire
from s2s.serving.engine.models import Models
from s2s.serving.engine.process import Host
from s2s.serving.engine.scheduler import Engine
from s2s.serving.http.app import create_app


def in_thread(translator: Translator, slots: int = 64) -> Host:
    """An engine that runs in this process."""
    ours, its = socket.socketpair()
    engine = Engine(translator, Wire(its), slots)
    thread = threading.Thread(target=engine.run, name="s2s-slots", daemon=True)
    thread.start()
    return Host("model", ours, thread.is_alive, thread.join)


def engine_of(translator: Translator, slots: int = 64, **options: Any) -> EngineClient:
    """A client of an engine that runs in this process."""
    return EngineClient(in_thread(translator, slots), **options)


def in_threads(
    load: Callable[[Path], Translator] = Translator.load, slots: int = 64
) -> Callable[[Path], Host]:
    """What `Models` starts engines with, in this process."""
    return lambda path: in_thread(load(path), slots)


def waiting(models: Models) -> int:
    """What the models have not answered yet."""
    return sum(model.engine.waiting for model in models.all)


@contextmanager
def serving(models: Models, **options: Any) -> Iterator[str]:
    """The address of a server of these models."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(models, **options), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive(), "a connection keeps the server from its end"


@contextmanager
def client_of(models: Models, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server of these models."""
    with (
        serving(models, **options) as address,
        httpx.Client(base_url=address, timeout=20, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def models(model_dir: Path) -> Iterator[Models]:
    """The model directory, served."""
    models = Models()
    models.serve([model_dir])
    yield models
    models.close()
