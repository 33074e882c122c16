"""Matrix products by oneDNN, with the operators that torch's own compiler uses.

On a CPU, torch leaves products in float32 to MKL, which takes up to twice as long on AMD's CPUs
(docs/log.md). Low precisions go to oneDNN in any case, but without the bias, and with the weights
brought into its order again in each call.

Shapes: N rows, K features that are summed over, M features of a result.
"""

import torch
from torch import Tensor


def has_onednn(device: torch.device) -> bool:
    """Return whether oneDNN computes products in float32 on a device."""
    # Not every build of torch has oneDNN, and with it these operators.
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and device.type == "cpu")


def has_bf16() -> bool:
    """Return whether this CPU has instructions for products in bf16."""
    on_cpu = has_onednn(torch.device("cpu"))
    return bool(on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def reorder(weight: Tensor) -> Tensor:
    """Return a weight (M, K) in oneDNN's own order, which only `linear` reads."""
    reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return reordered


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product (N, M) of inputs (N, K) and a weight (M, K), plus a bias (M,) if any.

    Args:
        weight: in oneDNN's own order, or in torch's.
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(
        inputs, weight, bias, "none", [], ""
    )
    return product
