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
    """A graph under construction; a value in it goes by its name."""

    name: str
    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _renamed: dict[str, str] = field(default_factory=dict)
    _named: int = 0

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
        if name not in self._constants:
            array = content.detach().cpu().numpy() if isinstance(content, Tensor) else content
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, *numbers: int) -> str:
        """Store a vector of integers, such as axes or a shape, and return its name."""
        name = "integers_" + "_".join(map(str, numbers))
        return self.constant(name, np.array(numbers, np.int64))

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.apply_many(operator, 1, *inputs, **attributes)[0]

    def apply_many(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        names = [f"{operator.lower()}_{self._named + place}" for place in range(count)]
        self._named += count
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def split(self, value: str, axis: int, *sizes: int) -> list[str]:
        """Cut a value along an axis into parts of these sizes, and return their names."""
        if len(sizes) == 1:
            return [value]
        return self.apply_many("Split", len(sizes), value, self.integers(*sizes), axis=axis)

    def join(self, values: Sequence[str], axis: int) -> str:
        """Join values along an axis, and return the name of the result."""
        return self.apply("Concat", *values, axis=axis) if len(values) > 1 else values[0]

    def model(self) -> onnx.ModelProto:
        """Return the finished model."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [self._renamed.get(name, name) for name in names]
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        if any(node.domain == CONTRIBUTED for node in self._nodes):
            opsets.append(helper.make_opsetid(CONTRIBUTED, 1))
        return helper.make_model(
            graph, producer_name="s2s", ir_version=_IR_VERSION, opset_imports=opsets
        )


def _value(name: str, dtype: type[np.generic], shape: Sequence[Dimension]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, shape)
