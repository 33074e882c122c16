"""Addresses of clusters that cannot be used are refused within seconds, in one line."""

import platform
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from s2s.distributed import address as module
from s2s.distributed.address import require_cluster
from s2s.distributed.token import missing_token, token_advice
from s2s.errors import BadInput, Failed
from tests.support.ports import free_port


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A server that gives each connection the same answer, or none if that is empty."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                if answer:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_nothing_listens_there() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Failed) as failed:
        require_cluster(address)
    assert str(failed.value) == (
        f"RAY_ADDRESS={address}: nothing answers there (Connection refused); unset RAY_ADDRESS to "
        "start Ray on this machine"
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", "is no Ray cluster"), (b"", r"not answer as Ray in 0\.3 s")],
    ids=["http", "silent"],
)
def test_what_listens_there_is_no_ray(
    answer: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.3)
    with server(answer) as address, pytest.raises(Failed, match=expected):
        require_cluster(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8265", "is a dashboard, which takes jobs"),
        ("https://head/ray", "is a dashboard, which takes jobs"),
        ("ray://127.0.0.1:10001", "is for Ray Client"),
        ("head", "HOST:PORT of a cluster is needed"),
        ("head:", "HOST:PORT of a cluster is needed"),
        ("head:70000", "HOST:PORT of a cluster is needed"),
        (":6379", "HOST:PORT of a cluster is needed"),
    ],
)
def test_addresses_of_another_kind(address: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected) as refused:
        require_cluster(address)
    assert f"RAY_ADDRESS={address}" in str(refused.value)
    assert "unset RAY_ADDRESS" in str(refused.value)


def test_versions_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    own = platform.python_version()
    patched = f"{own.rpartition('.')[0]}.99"
    module._require_same_versions(ray.__version__, own, "x", "y")
    for versions in (("2.59.0", own), (ray.__version__, "3.9.1"), (ray.__version__, patched)):
        with pytest.raises(BadInput, match=f"Ray {versions[0]} and Python {versions[1]}"):
            module._require_same_versions(*versions, "x", "y")
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    module._require_same_versions(ray.__version__, patched, "x", "y")


def test_advice_names_the_mode_and_where_the_token_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert "set RAY_AUTH_MODE=token" in token_advice()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "refuses the token in ~/.ray/auth_token" in token_advice()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/token")
    assert "refuses the token in /run/token" in token_advice()
    assert "there is no token in /run/token" in missing_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    assert "refuses the token in RAY_AUTH_TOKEN " in token_advice()
