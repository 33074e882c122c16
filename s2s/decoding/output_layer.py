"""The output layer of a decoder, in the precision that decoding asks for.

Shapes: N hypotheses, R features of a hidden vector, V target vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from s2s.model import onednn

# Tensor cores want a vocabulary that is a multiple of this.
_VOCAB_MULTIPLE = 64


def in_precision(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return an output layer with an `OutputLayer` for each linear layer of it.

    An adaptive one has several of them, which are replaced in place.
    """
    if isinstance(layer, nn.Linear):
        return OutputLayer(layer, dtype)
    for name, part in layer.named_children():
        layer.add_module(name, in_precision(part, dtype))
    return layer


class OutputLayer(nn.Module):
    """An output layer for decoding alone, whose product is computed in and rounded to a precision.

    A CPU without bf16 computes in float32 instead, which is more exact and faster. On a CPU oneDNN
    computes the product, from weights in an order of its own.

    Args:
        exact: the layer in float32.
        dtype: precision of the product.
    """

    def __init__(self, exact: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        packs = onednn.has_onednn(exact.weight.device)
        if packs and not onednn.has_bf16():
            dtype = torch.float32
        self.in_features = exact.in_features
        self.weight = exact.weight.detach().to(dtype)  # (V, R)
        if self.weight.is_cuda:
            missing = -exact.out_features % _VOCAB_MULTIPLE
            self.weight = nn.functional.pad(self.weight, (0, 0, 0, missing))  # (V + …, R)
        self.bias = exact.bias.detach().float()  # (V,)
        self._pack(packs)

    def _pack(self, packs: bool) -> None:
        """Bring the weights into oneDNN's order, if `packs`."""
        self._packed = onednn.reorder(self.weight) if packs else None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: packed weights cannot be, and are packed again."""
        return {**self.__dict__, "_packed": self._packed is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._pack(state["_packed"])

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits (N, V), float32, of hidden vectors (N, R)."""
        hidden = hidden.to(self.weight.dtype)
        if self._packed is None:
            product = hidden @ self.weight.t()  # (N, V + …)
            return product[:, : len(self.bias)].float().add_(self.bias)
        exact = hidden.dtype == torch.float32
        bias = self.bias if exact else None  # which bf16 would round
        logits = onednn.linear(hidden, self._packed, bias)
        return logits if exact else logits.float().add_(self.bias)
