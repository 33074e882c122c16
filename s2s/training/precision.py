"""Mixed precision: which the hardware supports, and which a run uses.

Weights, their gradients, the optimizer and all sums stay in float32; the precision is that of the
matrix products (Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import nn

from s2s.devices import allow_tf32
from s2s.errors import BadInput

Name = Literal["fp32", "tf32", "bf16", "fp16"]

_ORDER: tuple[Name, ...] = ("fp32", "fp16", "bf16")  # from the worst for training to the best
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The precision of a run on a device."""

    name: Name
    device: torch.device
    reason: str  # for its choice, for the user

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for the forward pass."""
        if self.name not in _DTYPES:
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler, which keeps small fp16 gradients above zero; else disabled."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_precision(setting: Literal["auto"] | Name, device: torch.device) -> Precision:
    """Return the precision of a run: as set, or for `auto` the best that all workers support.

    On a GPU, TF32 products are switched on or off as a side effect.

    Raises:
        BadInput: the device does not support the setting.
    """
    best, reason = _best_precision(device)
    if dist.is_initialized():
        # Workers with different hardware would otherwise compute different models.
        least = torch.tensor(_ORDER.index(best), device=device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        if (common := _ORDER[int(least)]) != best:
            best, reason = common, "the best that all workers support"
    if device.type == "cuda":
        allow_tf32(setting != "fp32")
    if setting == "auto":
        return Precision(best, device, reason)
    if setting in ("fp16", "tf32") and device.type == "cpu":
        raise BadInput(f"--train.precision {setting} needs a GPU; on a CPU, use bf16 or fp32")
    if setting == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        raise BadInput("--train.precision tf32 needs an Ampere GPU or newer; use fp16 or fp32")
    if setting == "bf16" and device.type == "cpu" and not _cpu_trains_in_bf16():
        raise BadInput("--train.precision bf16 needs a CPU with AVX-512; use fp32")
    return Precision(setting, device, "as set")


def _best_precision(device: torch.device) -> tuple[Name, str]:
    """Return the best precision that a device claims to support, and the reason.

    A measurement could differ from run to run, but a resumed run must compute as the first did.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", name
        return "fp16", f"{name} does not support bf16"
    capabilities = torch.cpu.get_capabilities()
    for feature, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if capabilities.get(feature):
            return "bf16", f"the CPU has {name}"
    return "fp32", "the CPU does not support bf16"


def _cpu_trains_in_bf16() -> bool:
    """Return whether this CPU can train an LSTM in bf16: oneDNN supports newer ones only."""
    with torch.random.fork_rng(
        devices=[]
    ):  # the initial weights must not advance the run's numbers
        lstm = nn.LSTM(1, 1)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(1, 1, 1))[0].sum().backward()
    except RuntimeError:
        return False
    return True
