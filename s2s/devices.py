"""Devices that torch computes on."""

import torch

from s2s.errors import BadInput


def find_device(name: str) -> torch.device:
    """The device of a name, `auto` being a GPU where there is one.

    Raises:
        BadInput: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        found = device.type == "cpu" or (device.index or 0) < torch.cuda.device_count()
    except RuntimeError:
        found = False
    if not found:
        raise BadInput(f"{name}: torch sees no such device here; take cpu, or auto")
    return device


def allow_tf32(allowed: bool) -> None:
    """Let this process's GPU compute float32 products in TensorFloat-32, of 10 bits, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
