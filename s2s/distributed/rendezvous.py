"""Where the workers of a run connect to each other: on loopback, if their Ray listens there.

By itself torch's store listens on every interface, whatever its address, and answers everybody;
gloo and NCCL listen on the interface that the host's name or its first network leads to.
"""

import os
import socket
import sys

import ray
from torch.distributed import TCPStore

from s2s.serving.addresses import is_loopback

_LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"

_stores: list[TCPStore] = []  # that this process holds; a store ends with its last holder


def listen_on_loopback() -> None:
    """Have gloo and NCCL listen where Ray does, in a worker that has not connected to others yet.

    All workers are then on this host. NCCL exchanges data between them through the cards or shared
    memory, and only the addresses of both through sockets; by itself it takes loopback only where
    there is no other network. What the user has set stays.
    """
    if is_loopback(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK_INTERFACE)
        # Without "=" NCCL takes every interface whose name begins so.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={_LOOPBACK_INTERFACE}")


def open_store() -> tuple[str, int] | None:
    """Open torch's store in the first worker if it is to listen on loopback.

    `init_process_group` in this process then finds that its port has a store, and uses it.

    Returns:
        The store's address and port, or None if torch is to open the store itself.
    """
    host = ray.util.get_node_ip_address()
    if not is_loopback(host):
        return None
    _stores[:] = [store_on(host)]  # the store of an earlier group, if there was one, ends
    return host, _stores[0].port


def store_on(host: str) -> TCPStore:
    """Return a store that listens on one address, on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return TCPStore(
            host,
            port,
            is_master=True,
            wait_for_workers=False,
            multi_tenant=True,  # so that it is found by its port
            master_listen_fd=listener.detach(),
        )
