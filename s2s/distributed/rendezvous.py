"""Where the workers of a run connect to each other: on the address of their Ray node.

By itself torch's store listens on every interface, whatever its address, and answers everybody;
gloo and NCCL listen on the interface that the host's name or its first network leads to, and on
Debian and Ubuntu the name leads to 127.0.1.1, which no other host reaches.
"""

import errno
import os
import socket

import psutil  # Ray puts its own copy on the import path
import ray
from torch.distributed import TCPStore

from s2s.serving.addresses import is_loopback

_stores: list[TCPStore] = []  # that this process holds; a store ends with its last holder


def listen_on_node_address() -> None:
    """Have gloo and NCCL of a worker listen where Ray does, before it connects to others."""
    listen_on(ray.util.get_node_ip_address())


def listen_on(address: str) -> None:
    """Have gloo and NCCL of this process listen on the interface that has an address.

    What the user has set stays. So does torch's own choice if no interface has the address, as
    where it is translated.
    """
    interface = interface_of(address)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        # Without "=" NCCL takes every interface whose name begins so. NCCL exchanges data of one
        # host through the cards or shared memory, and only addresses through sockets; by itself it
        # takes loopback only where there is no other network.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has an address, or None if none has it.

    Every loopback address, such as 127.0.1.1, is one of the loopback interface.
    """
    wanted = {"127.0.0.1", "::1"} if is_loopback(address) else {address}
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] in wanted for each in addresses):
            return str(name)
    return None


def open_store() -> tuple[str, int]:
    """Open torch's store in the first worker, on the address of its node alone.

    `init_process_group` in this process then finds that its port has a store, and uses it.

    Returns:
        The store's address and port.
    """
    host = ray.util.get_node_ip_address()
    _stores[:] = [store_on(host)]  # the store of an earlier group, if there was one, ends
    return host, _stores[0].port


def store_on(host: str) -> TCPStore:
    """Return a store that listens on one address, on a free port.

    It listens on every interface, as torch's own does, if none has the address, as where it is
    translated.
    """
    listener, own = _listener(host)
    return TCPStore(
        own,
        listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        multi_tenant=True,  # so that it is found by its port
        master_listen_fd=listener.detach(),
    )


def _listener(host: str) -> tuple[socket.socket, str]:
    """Return a socket for a store, and the address at which this process reaches it."""
    is_ipv6 = ":" in host
    listener = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        listener.bind((host, 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            listener.close()
            raise
        listener.bind(("::" if is_ipv6 else "0.0.0.0", 0))  # noqa: S104 # as torch does
        return listener, "::1" if is_ipv6 else "127.0.0.1"
    return listener, host
