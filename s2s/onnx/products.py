"""Products of rows with weights, in a precision of choice.

They are nearly all of the arithmetic of a step, and the only place where precision matters for
speed; all else is computed in float32.

Shapes: N rows, I features of an input, O features of an output.
"""

from typing import Protocol

from torch import Tensor

from s2s.onnx.graph import Graph


class Product(Protocol):
    """A way to compute the product of rows with weights."""

    def __call__(
        self, graph: Graph, name: str, rows: str, weight: Tensor, bias: Tensor | None = None
    ) -> str:
        """Add the nodes of a product to a graph.

        Args:
            name: of the weights; weights of one name are stored once.
            rows: name of a value (N, I), float32.
            weight: (O, I).
            bias: (O,).

        Returns:
            Name of the result (N, O), float32.
        """
        ...


def float32_product(
    graph: Graph, name: str, rows: str, weight: Tensor, bias: Tensor | None = None
) -> str:
    """Add a product in float32; see `Product`."""
    inputs = [rows, graph.constant(f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", bias))
    return graph.apply("Gemm", *inputs, transB=1)
