"""Mixed precision: what the hardware has, and what a run uses of it.

Weights, their gradients, the optimizer and all sums stay in float32; matrix products are computed
in what is chosen here.
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

_ORDER: tuple[Name, ...] = ("fp32", "fp16", "bf16")  # the better, the later
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The precision of a run on a device."""

    name: Name
    device: torch.device
    why: str  # for the user

    def autocast(self) -> AbstractContextManager[object]:
        """The context that the forward pass is computed in."""
        if self.name not in _DTYPES:
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients of fp16 above zero (Micikevicius et al., 2018); else idle."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose(wanted: Literal["auto"] | Name, device: torch.device) -> Precision:
    """The precision of a run: the one that is wanted, or the best that all workers' hardware has.

    Raises:
        BadInput: what is wanted does not run on the device.
    """
    found, why = _probe(device)
    if dist.is_initialized():
        # Workers of different hardware would otherwise train different models.
        least = torch.tensor(_ORDER.index(found), device=device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        if (common := _ORDER[int(least)]) != found:
            found, why = common, "not all workers have more"
    if device.type == "cuda":
        allow_tf32(wanted != "fp32")
    if wanted == "auto":
        return Precision(found, device, why)
    if wanted in ("fp16", "tf32") and device.type == "cpu":
        raise BadInput(f"--train.precision {wanted} is for GPUs; on a CPU take bf16 or fp32")
    if wanted == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        raise BadInput("--train.precision tf32 is for GPUs from Ampere; take fp16 or fp32")
    if wanted == "bf16" and device.type == "cpu" and not _cpu_trains_in_bf16():
        raise BadInput("--train.precision bf16: this CPU has none (no AVX-512); take fp32")
    return Precision(wanted, device, "as set")


def _probe(device: torch.device) -> tuple[Name, str]:
    """The best precision of a device by what it says of itself, and why.

    A measurement would be no better, and could differ from run to run: a resumed run must compute
    what the first one did.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", name
        return "fp16", f"{name} has no bf16"
    has = torch.cpu.get_capabilities()
    for feature, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if has.get(feature):
            return "bf16", f"the CPU has {name}"
    return "fp32", "the CPU has no bf16"


def _cpu_trains_in_bf16() -> bool:
    """Whether an LSTM can be trained in bf16 here: oneDNN has none for older CPUs."""
    with torch.random.fork_rng(devices=[]):  # initial weights are no part of a run's random numbers
        lstm = nn.LSTM(1, 1)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(1, 1, 1))[0].sum().backward()
    except RuntimeError:
        return False
    return True
