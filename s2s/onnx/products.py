"""Products of rows with weights, in a precision of choice.

They are nearly all of the arithmetic of a step, and the only place where precision matters for
speed; all else is computed in float32.

Shapes: N rows, I features of an input, O features of an output.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from s2s.onnx.graph import CONTRIBUTED, Graph

# Rounded values go up to this, either side of the zero point.
_LEVELS = 127
_ZERO_POINT = 128

# Instead of zero, as what rows of zeros are divided by.
_TINY = 1e-12


class Product(Protocol):
    """A way to compute the product of rows with weights."""

    def __call__(
        self,
        graph: Graph,
        name: str,
        rows: str,
        weight: Tensor,
        bias: Tensor | None = None,
        bound: float | None = None,
    ) -> str:
        """Add the nodes of a product to a graph.

        Args:
            name: of the weights; weights of one name are stored once.
            rows: name of a value (N, I), float32.
            weight: (O, I).
            bias: (O,).
            bound: what no value in rows is beyond, positive or negative; None if that is unknown.

        Returns:
            Name of the result (N, O), float32.
        """
        ...


def float32_product(
    graph: Graph,
    name: str,
    rows: str,
    weight: Tensor,
    bias: Tensor | None = None,
    bound: float | None = None,  # noqa: ARG001
) -> str:
    """Add a product in float32; see `Product`."""
    inputs = [rows, graph.constant(f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", bias))
    return graph.apply("Gemm", *inputs, transB=1)


def int8_product(
    graph: Graph,
    name: str,
    rows: str,
    weight: Tensor,
    bias: Tensor | None = None,
    bound: float | None = None,
) -> str:
    """Add a product of 8-bit integers with 32-bit sums; see `Product`.

    Each output's weights have a scale of their own. Rows are rounded by the scale of their bound,
    or else each by its own greatest value, so that a result never depends on other rows. Both are
    unsigned: for signed weights, x86 CPUs without VNNI have an instruction that saturates
    (docs/decisions/0041-native-step.md).
    """
    largest = weight.detach().abs().amax(1).clamp_min(_TINY)  # (O,)
    rounded = (weight.detach() / largest[:, None] * _LEVELS).round() + _ZERO_POINT  # (O, I)
    integers = graph.constant(f"{name}.int8", rounded.t().to(torch.uint8))
    scales = graph.constant(f"{name}.scale", largest / _LEVELS)
    zero_point = graph.constant("zero_point", np.array(_ZERO_POINT, np.uint8))
    biases = [] if bias is None else [graph.constant(f"{name}.bias", bias)]
    row_sizes = None
    if bound is None:
        magnitudes = graph.apply("Abs", rows)
        row_sizes = graph.apply(
            "Max",
            graph.apply("ReduceMax", magnitudes, axes=[1]),  # (N, 1)
            graph.constant("tiny", np.array(_TINY, np.float32)),
        )
        rows, bound = graph.apply("Div", rows, row_sizes), 1.0
    scale = graph.constant(f"scale_of_{bound:g}", np.array(bound / _LEVELS, np.float32))
    result = graph.apply(
        "MatMulIntegerToFloat",
        graph.apply("QuantizeLinear", rows, scale, zero_point),
        integers,
        scale,
        scales,
        zero_point,
        zero_point,
        *(biases if row_sizes is None else []),
        domain=CONTRIBUTED,
    )
    if row_sizes is None:
        return result
    result = graph.apply("Mul", result, row_sizes)
    return graph.apply("Add", result, *biases) if biases else result
