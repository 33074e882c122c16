"""Models behind a real HTTP server, without Ray."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from s2s.serving.api import create_app
from s2s.serving.models import Models


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
