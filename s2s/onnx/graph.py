"""ONNX graphs, built node by node.

They are not exported by torch: see docs/decisions/0037-onnx-graphs-by-hand.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

Array = NDArray[np.generic]
Dimension = int | str  # a size, or the name of one that a caller chooses

# ONNX Runtime 1.14 (2023) and later reads these.
_OPSET = 17
_IR_VERSION = 8

# Domain of the operators that ONNX Runtime adds to ONNX' own.
CONTRIBUTED = "com.microsoft"


@dataclass
class Graph:
    """A graph under construction; a value in it goes by its name.

    Attributes:
        outer: the graph that this one is the body of an operator of: its values can be used here,
            and it stores the constants of both.
    """

    name: str
    outer: "Graph | None" = None
    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _transposed: dict[str, str] = field(default_factory=dict)
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _renamed: dict[str, str] = field(default_factory=dict)
    _named: int = 0
    _uses_contributed: bool = False

    def input(self, name: str, dtype: type[np.generic], *shape: Dimension) -> str:
        """Declare an input, and return its name."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, value: str, dtype: type[np.generic], *shape: Dimension) -> None:
        """Declare a node's value an output of this name."""
        self._outputs.append(_value(name, dtype, shape))
        self._renamed[value] = name

    def constant(self, name: str, content: Tensor | Array) -> str:
        """Store a constant, or the weights of this name once, and return its name."""
        if self.outer is not None:
            return self.outer.constant(name, content)
        if name not in self._constants:
            array = content.detach().cpu().numpy() if isinstance(content, Tensor) else content
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def transposed(self, constant: str) -> str:
        """Return the name of the transpose of a stored matrix, which is computed at loading."""
        if self.outer is not None:
            return self.outer.transposed(constant)
        if constant not in self._transposed:
            self._transposed[constant] = self.apply("Transpose", constant, perm=[1, 0])
        return self._transposed[constant]

    def integers(self, *numbers: int) -> str:
        """Store a vector of integers, such as axes or a shape, and return its name."""
        name = "integers_" + "_".join(map(str, numbers))
        return self.constant(name, np.array(numbers, np.int64))

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.apply_many(operator, 1, *inputs, **attributes)[0]

    def apply_many(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        # A body's values must not have the names of values outside.
        start = f"{self.name}." if self.outer is not None else ""
        names = [f"{start}{operator.lower()}_{self._named + place}" for place in range(count)]
        self._named += count
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        if attributes.get("domain") == CONTRIBUTED:
            self._use_contributed()
        return names

    def _use_contributed(self) -> None:
        """Note, in the outermost graph, that an operator of ONNX Runtime's own is in use."""
        self._uses_contributed = True
        if self.outer is not None:
            self.outer._use_contributed()

    def split(self, value: str, axis: int, *sizes: int) -> list[str]:
        """Cut a value along an axis into parts of these sizes, and return their names."""
        if len(sizes) == 1:
            return [value]
        return self.apply_many("Split", len(sizes), value, self.integers(*sizes), axis=axis)

    def join(self, values: Sequence[str], axis: int) -> str:
        """Join values along an axis, and return the name of the result."""
        return self.apply("Concat", *values, axis=axis) if len(values) > 1 else values[0]

    def finished(self) -> onnx.GraphProto:
        """Return the finished graph."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [self._renamed.get(name, name) for name in names]
        return helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )

    def model(self) -> onnx.ModelProto:
        """Return the finished graph as a model."""
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIBUTED, 1)]
        return helper.make_model(
            self.finished(),
            producer_name="s2s",
            ir_version=_IR_VERSION,
            opset_imports=opsets if self._uses_contributed else opsets[:1],
        )


def _value(name: str, dtype: type[np.generic], shape: Sequence[Dimension]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, shape)
