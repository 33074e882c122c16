"""The output layer of a decoder, in the precision that decoding asks for."""

import torch
from torch import Tensor, nn

_ALIGNED = 64


class OutputLayer(nn.Module):
    """An output layer for decoding alone; its product is computed in, and rounded to, a precision.

    A CPU that has no bf16 computes in float32, which is nearer and faster. On a CPU oneDNN computes
    it, from weights in an order of its own, which it is asked for by the operators that torch's own
    compiler uses: MKL, which `nn.Linear` takes, is half as fast on AMD's CPUs (docs/log.md).
    """

    def __init__(self, exact: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        # Not every build of torch has oneDNN, nor these operators then.
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        packs = exact.weight.device.type == "cpu" and available
        if packs and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            dtype = torch.float32
        self.in_features = exact.in_features
        self.weight = exact.weight.detach().to(dtype)
        if self.weight.is_cuda:
            # Tensor cores want a number of words that they can divide.
            more = -exact.out_features % _ALIGNED
            self.weight = nn.functional.pad(self.weight, (0, 0, 0, more))
        self.bias = exact.bias.detach().float()
        self._packed = None
        if packs:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)
            self._product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (N, V), float32, of states (N, R)."""
        hidden = hidden.to(self.weight.dtype)
        if self._packed is None:
            product = hidden @ self.weight.t()  # (N, V + …)
            return product[:, : len(self.bias)].float().add_(self.bias)
        exact = hidden.dtype == torch.float32
        bias = self.bias if exact else None  # which bf16 would round
        logits: Tensor = self._product(hidden, self._packed, bias, "none", [], "")
        return logits if exact else logits.float().add_(self.bias)
