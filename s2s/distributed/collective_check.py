"""A sum over processes on several hosts, as the workers of a run form it."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from s2s.distributed.rendezvous import listen_on, store_on

_TIMEOUT = timedelta(seconds=20)


def open_and_reduce(address: str, world: int, backend: str) -> Iterator[int | str]:
    """Open a store on an address, and sum a number with the others as the first process.

    Args:
        address: of this host.
        world: number of processes.
        backend: of torch.distributed.

    Yields:
        The store's port; then what went wrong, or an empty string.
    """
    store = store_on(address)
    yield store.port
    yield _reduce(store, address, 0, world, backend)


def reduce_with_others(
    address: str, rank: int, world: int, backend: str, store: tuple[str, int]
) -> str:
    """Sum a number with the others, and return what went wrong, or an empty string.

    Args:
        address: of this host.
        rank: of this process.
        world: number of processes.
        backend: of torch.distributed.
        store: address and port.
    """
    try:
        client = TCPStore(*store, is_master=False, timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        return f"does not reach the store at {store[0]}:{store[1]}: {_brief(error)}"
    return _reduce(client, address, rank, world, backend)


def _reduce(store: TCPStore, address: str, rank: int, world: int, backend: str) -> str:
    listen_on(address)
    device = "cuda" if backend == "nccl" else "cpu"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_TIMEOUT)
        value = torch.full((1,), float(rank), device=device)
        dist.all_reduce(value)
        found, expected = value.item(), world * (world - 1) / 2
        dist.barrier()
    except (RuntimeError, ValueError) as error:
        return f"no sum over {world} hosts: {_brief(error)}"
    finally:
        with suppress(RuntimeError, ValueError, AssertionError):
            dist.destroy_process_group()
    return "" if found == expected else f"the sum is {found:g} instead of {expected:g}"


def _brief(error: Exception) -> str:
    """Return the first sentence of an error of torch, without its stack."""
    return " ".join(str(error).split("\n")[0].split())[:200]
