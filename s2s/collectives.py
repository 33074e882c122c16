"""The collectives of torch.distributed, so that an error in one process is raised in all of them.

A process that runs alone, without a process group, is a group of one.
"""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from s2s.errors import BadInput

T = TypeVar("T")


def all_or_raise(make: Callable[[], T]) -> T:
    """Return what `make` returns, if it succeeds in every process.

    A process that raised alone would leave the others waiting for it in the next collective.

    Raises:
        BadInput: in every process, with the message of the first one whose `make` raised
            BadInput or OSError.
    """
    results: list[T] = []
    error: str | None = None
    try:
        results.append(make())
    except (BadInput, OSError) as raised:
        error = str(raised) or type(raised).__name__
    errors = [error]
    if dist.is_initialized():
        errors = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
    for message in errors:
        if message is not None:
            raise BadInput(message)
    return results[0]


def broadcast_decision(decide: Callable[[], T]) -> T:
    """Return what `decide` returns in the first process, to every process.

    Raises:
        BadInput: in every process, if the first one raised it.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    decision = [all_or_raise(lambda: decide() if first else None)]
    if dist.is_initialized():
        dist.broadcast_object_list(decision)
    return decision[0]  # type: ignore[return-value]


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values
