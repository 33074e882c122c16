"""Precisions of a network's weights, and of the products of rows with them.

Products are nearly all of the arithmetic, and the only place where precision matters for speed;
all else is computed in float32.

Shapes: N rows, I features of an input, O features of an output, V tokens of a vocabulary, E
embedding size.
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


class Precision(Protocol):
    """What weights are stored in, and how rows are multiplied with them."""

    def product(
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

    def embed(self, graph: Graph, name: str, tokens: str, weight: Tensor) -> str:
        """Add the nodes that look embeddings up.

        Args:
            name: of the weights, which may be a product's too.
            tokens: name of a value of any shape, int64.
            weight: (V, E).

        Returns:
            Name of the embeddings (…, E), float32.
        """
        ...


class Float32:
    """Weights and products in float32; see `Precision`."""

    def product(
        self,
        graph: Graph,
        name: str,
        rows: str,
        weight: Tensor,
        bias: Tensor | None = None,
        bound: float | None = None,
    ) -> str:
        """Add the nodes of a product to a graph."""
        inputs = [rows, graph.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(graph.constant(f"{name}.bias", bias))
        return graph.apply("Gemm", *inputs, transB=1)

    def embed(
        self,
        graph: Graph,
        name: str,
        tokens: str,
        weight: Tensor,
    ) -> str:
        """Add the node that looks embeddings up."""
        return graph.apply("Gather", graph.constant(f"{name}.weight", weight), tokens)


class Int8:
    """Weights in 8-bit integers, products with 32-bit sums; see `Precision`.

    Each output's weights, and each embedding, have a scale of their own. Rows are rounded by the
    scale of their bound, or else each by its own greatest value, so that a result never depends on
    other rows. Both are unsigned: for signed weights, x86 CPUs without VNNI have an instruction
    that saturates (docs/decisions/0041-native-step.md).
    """

    def product(
        self,
        graph: Graph,
        name: str,
        rows: str,
        weight: Tensor,
        bias: Tensor | None = None,
        bound: float | None = None,
    ) -> str:
        """Add the nodes of a product to a graph."""
        integers, scales = self._weights(graph, name, weight)  # (O, I), (O,)
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
            graph.transposed(integers),
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

    def embed(self, graph: Graph, name: str, tokens: str, weight: Tensor) -> str:
        """Add the nodes that look embeddings up."""
        table, scales = self._weights(graph, name, weight)  # (V, E), (V,)
        rows = graph.apply("Gather", table, tokens)  # (…, E)
        one = graph.constant("one", np.ones((), np.float32))
        zero_point = graph.constant("zero_point", np.array(_ZERO_POINT, np.uint8))
        rows = graph.apply("DequantizeLinear", rows, one, zero_point)
        factors = graph.apply("Gather", scales, tokens)  # (…)
        return graph.apply("Mul", rows, graph.apply("Unsqueeze", factors, graph.integers(-1)))

    def _weights(self, graph: Graph, name: str, weight: Tensor) -> tuple[str, str]:
        """Store weights (O, I) as unsigned integers, and the scale of each output (O,)."""
        largest = weight.detach().abs().amax(1).clamp_min(_TINY)  # (O,)
        integers = (weight.detach() / largest[:, None] * _LEVELS).round() + _ZERO_POINT
        return (
            graph.constant(f"{name}.int8", integers.to(torch.uint8)),
            graph.constant(f"{name}.scale", largest / _LEVELS),
        )


FLOAT32 = Float32()
INT8 = Int8()

PRECISIONS: dict[str, Precision] = {"fp32": FLOAT32, "int8": INT8}
"""Precisions by their names in settings."""
