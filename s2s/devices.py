"""Devices that torch computes on."""

import torch

from s2s.errors import BadInput


def find_device(name: str) -> torch.device:
    """Return the device of a name, where `auto` is a GPU if there is one, else the CPU.

    Raises:
        BadInput: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        exists = device.type == "cpu" or (device.index or 0) < torch.cuda.device_count()
    except RuntimeError:
        exists = False
    if not exists:
        raise BadInput(f"{name}: torch sees no such device here; take cpu, or auto")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a GPU or of this machine is full."""
    # torch has no class of its own for the memory of a CPU.
    is_of_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return is_of_cpu or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid TensorFloat-32 (10 bits) in float32 products of this process's GPUs."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
