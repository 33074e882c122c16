"""Models behind a real HTTP server, without Ray, and engines in threads, for changed models."""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn

from s2s.decoding.translator import Translator
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.models import Models
from s2s.serving.engine.process import EngineProcess
from s2s.serving.engine.scheduler import Scheduler
from s2s.serving.http.api_keys import Keys, new_key, read_keys
from s2s.serving.http.app import create_app

Result = TypeVar("Result")
WAIT = 60  # seconds that a busy machine may take


def in_thread(translator: Translator, slots: int = 64) -> EngineProcess:
    """Start an engine in a thread of this process."""
    ours, theirs = socket.socketpair()
    scheduler = Scheduler(translator, Connection(theirs), slots)
    thread = threading.Thread(target=scheduler.run, name="s2s-slots", daemon=True)
    thread.start()
    return EngineProcess("model", ours, thread.is_alive, thread.join)


def engine_of(translator: Translator, slots: int = 64, **options: Any) -> EngineClient:
    """Return the client of an engine in a thread of this process."""
    return EngineClient(in_thread(translator, slots), **options)


def in_threads(
    load: Callable[[Path], Translator] = Translator.load, slots: int = 64
) -> Callable[[Path], EngineProcess]:
    """Return what `Models` starts engines with, in threads of this process."""
    return lambda path: in_thread(load(path), slots)


@contextmanager
def models_of(*folders: Path, **options: Any) -> Iterator[Models]:
    """Serve the models in folders with engines in threads of this process, until the block ends."""
    models = Models(in_threads(), **options)
    models.serve(folders)
    try:
        yield models
    finally:
        models.close()


def waiting(models: Models) -> int:
    """Return the cost of what the models have not answered yet."""
    return models.waiting


def serving(models: Models, **options: Any) -> AbstractContextManager[str]:
    """Serve models over HTTP, and give the address."""
    return serving_app(create_app(models, **options))


@contextmanager
def serving_app(app: Any) -> Iterator[str]:
    """Serve an application over HTTP, and give the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
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
    """Serve models over HTTP, and give a client of the server."""
    with (
        serving(models, **options) as address,
        httpx.Client(base_url=address, timeout=20, trust_env=False) as client,
    ):
        yield client


def keys_of(folder: Path, **rates: float | None) -> tuple[Keys, dict[str, str]]:
    """Keys of these names and rates, read from a file, and what their owners were told."""
    made = {name: new_key(name, rate) for name, rate in rates.items()}
    path = folder / "keys"
    path.write_text("".join(f"{line}\n" for _, line in made.values()), "utf-8")
    return Keys(read_keys(path)), {name: key for name, (key, _) in made.items()}


def copied(model: Path, to: Path, source: str | None = None, target: str | None = None) -> Path:
    """A copy of a model, of other languages if they are given."""
    shutil.copytree(model, to)
    config = json.loads((to / "config.json").read_text("utf-8"))
    config["source_language"] = source or config["source_language"]
    config["target_language"] = target or config["target_language"]
    if source or target:
        (to / "config.json").write_text(json.dumps(config), "utf-8")
    return to


def within(work: Awaitable[Result]) -> Result:
    """What an engine gives, or an error if it never does."""

    async def run() -> Result:
        return await asyncio.wait_for(work, WAIT)

    return asyncio.run(run())


def until(true: Callable[[], bool], every: float = 0.01, seconds: float = WAIT) -> None:
    """Wait until something is true, at most for some seconds; `every` is in seconds, too."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(every)
