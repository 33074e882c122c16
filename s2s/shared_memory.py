"""Sums over the processes of a group on one host, in memory that all of them map.

gloo sends everything through sockets, on one host too, and even an empty message takes several
threads to arrive. Here the numbers lie in shared memory, and only a byte goes through a socket when
a process waits for another (docs/decisions/0043-sums-in-shared-memory.md).

Memory order: the kernel takes the byte from one process, and gives it to the other, under the lock
of a queue. So what a process wrote before it entered a barrier is seen by all that have left it, on
x86 and on ARM, which may otherwise show the stores of a core to another one in any order. Python
and torch offer no ordered stores: no process may wait for a number in the shared memory itself.

Shapes: W processes, S numbers of a slot.
"""

import mmap
import os
import secrets
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import torch
import torch.distributed as dist
from torch import Tensor

# Float32 numbers of which shares are multiples, so that no two processes write into one cache line
# (64 bytes on most CPUs, 128 on some).
_LINE = 32

_CREDENTIALS = "3i"  # process, user and group at the other end of a socket


class SharedMemory:
    """Memory that all processes of a group have mapped; `share_memory` makes it.

    Args:
        rank: of this process.
        slots: (W, S) float32, shared; a process writes into its own slot alone.
        connections: of the first process to all others, of the others to the first one.
    """

    def __init__(self, rank: int, slots: Tensor, connections: Sequence[socket.socket]) -> None:
        self._rank, self._slots, self._connections = rank, slots, connections
        for connection in connections:
            connection.settimeout(dist.default_pg_timeout.total_seconds())  # as gloo by default

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over all processes, in place, so that all have the same bits.

        Each process sums its share of the numbers; then all copy the sums of the others.

        Args:
            tensors: contiguous, float32, of the same shapes in all processes, S numbers at most.

        Raises:
            RuntimeError: another process has ended or failed, or does not answer.
        """
        world, rank = len(self._slots), self._rank
        others = [other for other in range(world) if other != rank]
        size = _share_size(sum(tensor.numel() for tensor in tensors), world)
        shares = _cut(tensors, size, world)

        def slot(owner: int, share: int) -> list[Tensor]:
            """Return the place of a share in a process' slot, in parts like those of the share."""
            lengths = [len(part) for part in shares[share]]
            start = share * size
            return list(torch.split(self._slots[owner, start : start + sum(lengths)], lengths))

        # The places of shares depend on how many numbers there are. So nothing may be written for
        # the next sum, wherever it is, until all processes have read this one: the third barrier.
        for other in others:
            _copy(shares[other], slot(rank, other))
        self.barrier()
        for other in others:
            _add(slot(other, rank), shares[rank])
        _copy(shares[rank], slot(rank, rank))
        self.barrier()
        for other in others:
            _copy(slot(other, other), shares[other])
        self.barrier()

    def barrier(self) -> None:
        """Wait, without using the CPU, until all processes have come here.

        Raises:
            RuntimeError: as `all_reduce`.
        """
        try:
            if self._rank == 0:
                self._receive()
                self._send()
            else:
                self._send()
                self._receive()
        except OSError as error:
            self.close()  # the others wait for this process
            raise RuntimeError(f"lost another worker on this host: {error}") from error

    def _send(self) -> None:
        for connection in self._connections:
            connection.sendall(b"\0")

    def _receive(self) -> None:
        for connection in self._connections:
            if not connection.recv(1):
                raise ConnectionError("it has closed its connection")

    def close(self) -> None:
        """Leave the group: processes that wait for this one get an error."""
        for connection in self._connections:
            connection.close()


def _share_size(numbers: int, world: int) -> int:
    """Return how many of the numbers each process sums, at most."""
    return -(-numbers // (world * _LINE)) * _LINE


def _cut(tensors: Sequence[Tensor], size: int, world: int) -> list[list[Tensor]]:
    """Return the shares of tensors laid end to end, of `size` numbers each but for the last ones.

    Returns:
        For each process the parts of tensors that lie in its share, as flat views.
    """
    shares: list[list[Tensor]] = [[] for _ in range(world)]
    start = 0  # of the tensor
    for tensor in tensors:
        flat, first = tensor.view(-1), 0
        while first < len(flat):
            share, used = divmod(start + first, size)
            end = min(len(flat), first + size - used)
            shares[share].append(flat[first:end])
            first = end
        start += len(flat)
    return shares


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Copy tensors into others of their shapes."""
    if targets:
        torch._foreach_copy_(targets, sources)


def _add(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Add tensors to others of their shapes."""
    if targets:
        torch._foreach_add_(targets, sources)


# ---- how processes come to share memory ---------------------------------------------------------


def share_memory(numbers: int) -> SharedMemory | None:
    """Return memory that all processes of the group share; each of them must call this.

    Neither the memory nor the socket by which it is handed over has a name in a file system, so
    nothing is left behind, however the processes end.

    Args:
        numbers: that are summed at a time, at most.

    Returns:
        None in all processes, unless they run on one host, on Linux, as one user.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    size = _share_size(numbers, world) * world
    with ExitStack() as opened:
        offer = _offer(opened, world * size * 4) if rank == 0 else None
        address = [None if offer is None else offer[1].getsockname()]
        dist.broadcast_object_list(address)
        connection = _connect(opened, address[0]) if rank > 0 and address[0] else None
        reached = [False] * world
        dist.all_gather_object(reached, offer is not None or connection is not None)
        if not all(reached):
            return None
        if offer is not None:
            memory, listener = offer
            connections = [_accept(listener) for _ in range(1, world)]
            for each in connections:
                socket.send_fds(each, [b"\0"], [memory])
        else:
            assert connection is not None  # noqa: S101
            connections = [connection.dup()]
            _, [memory], *_ = socket.recv_fds(connection, 1, 1)
            opened.callback(os.close, memory)
        mapped = mmap.mmap(memory, world * size * 4)
    slots = torch.frombuffer(mapped, dtype=torch.float32).view(world, size)
    return SharedMemory(rank, slots, connections)


def _offer(opened: ExitStack, size: int) -> tuple[int, socket.socket] | None:
    """Return memory of so many bytes, and a socket that listens for those who want to map it."""
    if sys.platform != "linux":
        return None
    with suppress(OSError):
        memory = os.memfd_create("s2s-sums")
        opened.callback(os.close, memory)
        os.ftruncate(memory, size)
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        # The zero makes the address a name in the kernel alone.
        listener.bind(f"\0s2s-{secrets.token_hex(16)}")
        listener.listen(socket.SOMAXCONN)
        return memory, listener
    return None


def _connect(opened: ExitStack, address: bytes) -> socket.socket | None:
    """Return a connection to a process of the same user, or None if the address leads to none."""
    if sys.platform != "linux":
        return None
    with suppress(OSError):
        connection = opened.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(address)
        if _is_ours(connection):
            return connection
    return None


def _accept(listener: socket.socket) -> socket.socket:
    """Return the next connection from a process of the same user; all can see the address."""
    while True:
        connection, _ = listener.accept()
        if _is_ours(connection):
            return connection
        connection.close()


def _is_ours(connection: socket.socket) -> bool:
    """Return whether a process of the same user is at the other end."""
    size = struct.calcsize(_CREDENTIALS)
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack(_CREDENTIALS, told)
    return bool(user == os.geteuid())
