"""What a cluster of a command's own keeps to its host and its user."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
import ray
import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from s2s.distributed import local_cluster, ray_internals
from s2s.distributed.ports import LOOPBACK, ray_is_on_loopback
from s2s.distributed.rendezvous import (
    interface_of,
    listen_on_node_address,
    open_store,
    store_on,
)
from s2s.serving.addresses import is_loopback

[VARIABLE] = LOOPBACK


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- loopback -----------------------------------------------------------------------------------


def test_ray_listens_on_loopback_whenever_it_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    before = ray.util.get_node_ip_address()
    with local_cluster._on_loopback():
        assert ray_is_on_loopback()  # in the processes that Ray starts
        assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert VARIABLE not in os.environ
    assert ray.util.get_node_ip_address() == before


def test_a_user_may_have_ray_listen_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    before = ray.util.get_node_ip_address()
    with local_cluster._on_loopback():
        assert not ray_is_on_loopback()
        assert ray.util.get_node_ip_address() == before
    assert os.environ[VARIABLE] == "1"


@pytest.fixture
def no_interface_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_interface_chosen")
@pytest.mark.parametrize("on_loopback", [True, False])
def test_workers_meet_where_ray_listens(on_loopback: bool) -> None:
    before = ports()
    with ray_internals.clusters_on_loopback() if on_loopback else nullcontext():
        address = ray.util.get_node_ip_address()
        listen_on_node_address()
        host, port = open_store()
    dist.init_process_group("gloo", init_method=f"tcp://{host}:{port}", rank=0, world_size=1)
    try:
        total = torch.ones(1)
        dist.all_reduce(total)
        opened = ports() - before
    finally:
        dist.destroy_process_group()
    assert host == address
    assert len(opened) == 2  # the store's, which torch did not open again, and gloo's
    assert (host, port) in opened
    assert {ip for ip, _ in opened} == {address}
    assert is_loopback(address) or not on_loopback


@pytest.mark.usefixtures("no_interface_chosen")
def test_interfaces_that_the_user_has_chosen_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    with ray_internals.clusters_on_loopback():
        listen_on_node_address()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert os.environ["NCCL_SOCKET_IFNAME"] in {"=lo", "=lo0"}


def test_an_address_leads_to_its_interface() -> None:
    loopback = interface_of("127.0.0.1")
    assert loopback in {"lo", "lo0"}
    assert interface_of("127.0.1.1") == interface_of("::1") == loopback  # what Debian calls a host
    assert interface_of("192.0.2.1") is None  # for documentation: no host has it
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if each.family == socket.AF_INET and not is_loopback(each.address):
                assert interface_of(each.address) == name


def test_a_store_at_an_address_that_no_interface_has_is_on_every_one() -> None:
    before = ports()
    store = store_on("192.0.2.1")  # for documentation: no host has it
    assert {ip for ip, _ in ports() - before} == {"0.0.0.0"}  # noqa: S104
    store.set("a", "b")
    assert TCPStore("127.0.0.1", store.port, is_master=False).get("a") == b"b"


def ports() -> set[tuple[str, int]]:
    """The addresses that this process listens on."""
    return {
        (place.laddr.ip, place.laddr.port)
        for place in psutil.Process().net_connections("tcp")
        if place.status == psutil.CONN_LISTEN
    }


# ---- the token ----------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray looks for the token of a user without any settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_the_token_is_made_for_the_user_alone(token: Path) -> None:
    local_cluster._keep_token_private()
    assert mode(token) == 0o600
    assert mode(token.parent) == 0o700
    first = token.read_text()
    assert len(first) == 64
    local_cluster._keep_token_private()
    assert token.read_text() == first


def test_a_token_that_others_can_read_is_closed_to_them(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    local_cluster._keep_token_private()
    assert mode(token) == 0o600
    assert token.read_text() == "secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "x")],
)
def test_no_token_is_made_where_none_is_read(
    name: str, value: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    local_cluster._keep_token_private()
    assert not token.parent.exists()


# ---- the folder ---------------------------------------------------------------------------------


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, with a short path."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(prefix="s2s-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_sessions_lie_in_a_folder_that_others_cannot_enter(base: Path) -> None:
    folder = local_cluster._temporary_folder()
    assert folder is not None
    parent = Path(folder).parent
    assert parent.parent == base
    assert mode(parent) == 0o700
    parent.chmod(0o777)
    assert local_cluster._temporary_folder() == folder  # for every cluster
    assert mode(parent) == 0o700


def test_a_folder_whose_name_is_taken_lies_elsewhere(base: Path, tmp_path: Path) -> None:
    (base / f"s2s-{os.getuid()}").symlink_to(tmp_path)  # where its owner could read
    folders = {local_cluster._temporary_folder() for _ in range(2)}
    assert len(folders) == 2
    for folder in folders:
        assert folder is not None
        parent = Path(folder).parent
        assert parent.parent == base
        assert not parent.is_symlink()
        assert mode(parent) == 0o700


def test_a_folder_whose_path_is_too_long_for_sockets_is_not_taken(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = set()
    for depth in range(30):
        deeper = base.joinpath(*"x" * depth)
        deeper.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(deeper))
        folder = local_cluster._temporary_folder()
        assert folder is not None
        assert len(f"{folder}/{local_cluster._SOCKET}") <= local_cluster._LONGEST_PATH
        taken.add(Path(folder).is_relative_to(base))
    assert taken == {True, False}


def test_ray_tmpdir_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert local_cluster._temporary_folder() is None
