"""A recurrent layer over whole sentences, as nodes of a graph.

ONNX's own recurrent operators are the fastest in float32. In ONNX Runtime their 8-bit form has one
scale for all rows, so a translation would depend on the sentences beside it; a loop over tokens has
the products of the step instead.

Shapes: B sentences, S source tokens, D features of a layer's input, W width of a layer and
direction, H of all directions, G gates of a cell.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from s2s.config import ModelConfig
from s2s.onnx.cells import apply_cell
from s2s.onnx.graph import Graph
from s2s.onnx.names import STATE_NAMES
from s2s.onnx.precision import FLOAT32, Precision

_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}

# Places of ONNX' gates among torch's: i o f c of i f g o; z r h of r z n.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}

Layer = tuple[str, list[str]]
"""Names of the outputs (S, B, H), and of the final state's parts, each (1, B, H)."""


def run_layer(
    graph: Graph,
    precision: Precision,
    name: str,
    cell: str,
    layer: nn.RNNBase,
    inputs: str,
    lengths: str,
) -> Layer:
    """Add a layer, of one direction or two, that reads inputs from a state of zeros.

    Args:
        name: of the weights.
        cell: kind of the cell, as in `ModelConfig.cell`.
        inputs: name of a value (S, B, D).
        lengths: name of the sentences' lengths (B,) int64.
    """
    if precision is FLOAT32:
        return _run_operator(graph, name, cell, layer, inputs, lengths)
    return _run_loop(graph, precision, name, cell, layer, inputs, lengths)


def output_bound(config: ModelConfig) -> float:
    """Return what no output of the last layer is beyond, positive or negative."""
    # All cells end in tanh, and residual connections add layers up.
    return float(config.layers) if config.residual else 1.0


def _run_operator(
    graph: Graph, name: str, cell: str, layer: nn.RNNBase, inputs: str, lengths: str
) -> Layer:
    """Add a layer as ONNX's own operator."""
    weights = dict(layer.named_parameters())

    def stacked(*kinds: str) -> Tensor:
        """Return weights of all directions, of ONNX' gates, those of several kinds joined."""
        return torch.stack(
            [
                torch.cat([_reorder(weights[f"{kind}_l0{suffix}"], cell) for kind in kinds])
                for suffix in _directions(layer)
            ]
        )

    attributes: dict[str, object] = {"linear_before_reset": 1} if cell == "gru" else {}
    both, *final = graph.apply_many(
        _OPERATORS[cell],
        1 + len(STATE_NAMES[cell]),
        inputs,
        graph.constant(f"{name}.input", stacked("weight_ih")),  # (directions, G W, D)
        graph.constant(f"{name}.state", stacked("weight_hh")),  # (directions, G W, W)
        graph.constant(f"{name}.bias", stacked("bias_ih", "bias_hh")),  # (directions, 2 G W)
        graph.apply("Cast", lengths, to=onnx.TensorProto.INT32),
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "forward",
        **attributes,
    )  # (S, directions, B, W), each (directions, B, W)
    width = layer.hidden_size * len(_directions(layer))
    outputs = graph.apply("Transpose", both, perm=[0, 2, 1, 3])  # (S, B, directions, W)
    outputs = graph.apply("Reshape", outputs, graph.integers(0, 0, width))  # (S, B, H)
    if layer.bidirectional:
        final = [graph.join(graph.split(part, 0, 1, 1), axis=2) for part in final]
    return outputs, final


def _run_loop(
    graph: Graph,
    precision: Precision,
    name: str,
    cell: str,
    layer: nn.RNNBase,
    inputs: str,
    lengths: str,
) -> Layer:
    """Add a layer as a loop over tokens, which goes both ways at once."""
    directions, parts = _directions(layer), STATE_NAMES[cell]
    inside, zeros = _inside(graph, inputs, lengths), _zeros(graph, lengths, layer.hidden_size)
    backwards = [int(direction != "") for direction in directions]
    count = len(directions) * len(parts)
    found = graph.apply_many(
        "Scan",
        count + len(directions),
        *[zeros] * count,
        *[inputs, inside] * len(directions),
        body=_token_body(graph, precision, name, cell, layer),
        num_scan_inputs=2 * len(directions),
        scan_input_directions=[each for each in backwards for _ in range(2)],
        scan_output_directions=backwards,
    )
    finals, by_direction = found[:count], found[count:]  # each (B, W), each (S, B, W)
    final = [
        graph.apply("Unsqueeze", graph.join(finals[place :: len(parts)], axis=1), graph.integers(0))
        for place in range(len(parts))
    ]
    return graph.join(by_direction, axis=2), final


def _token_body(
    graph: Graph, precision: Precision, name: str, cell: str, layer: nn.RNNBase
) -> onnx.GraphProto:
    """Return the body of the loop: a token of each direction, from states to the next ones.

    Inputs: all parts of the state of each direction, then for each direction its token's row and
    whether this is within the sentence. Outputs: all parts of the next states, then the outputs of
    each direction.
    """
    body = Graph(f"{name}.token", outer=graph)
    directions, parts = _directions(layer), STATE_NAMES[cell]
    states: list[list[str]] = []  # of each direction, at first
    outputs: list[str] = []
    for direction in directions:
        prefix, width = f"{body.name}{direction}", layer.hidden_size
        before = [body.input(f"{prefix}.{part}", np.float32, "sentences", width) for part in parts]
        states.append(before)
    for direction, before in zip(directions, states, strict=True):
        prefix = f"{body.name}{direction}"
        row = body.input(f"{prefix}.input", np.float32, "sentences", layer.input_size)
        inside = body.input(f"{prefix}.inside", np.bool_, "sentences", 1)
        after = apply_cell(
            body, precision, name + direction, cell, layer, [row], before, direction=direction
        )
        # Past its end, a sentence's state stays what it was; its outputs are zeros.
        kept = [body.apply("Where", inside, *each) for each in zip(after, before, strict=True)]
        zero = body.constant("zero", np.zeros((), np.float32))
        outputs.append(body.apply("Where", inside, after[0], zero))
        for part, value in zip(parts, kept, strict=True):
            body.output(f"{prefix}.next_{part}", value, np.float32, "sentences", layer.hidden_size)
    for direction, value in zip(directions, outputs, strict=True):
        prefix = f"{body.name}{direction}"
        body.output(f"{prefix}.output", value, np.float32, "sentences", layer.hidden_size)
    return body.finished()


def _inside(graph: Graph, inputs: str, lengths: str) -> str:
    """Add what says which tokens of inputs (S, B, D) are within their sentence: (S, B, 1) bool."""
    size = graph.apply("Squeeze", graph.apply("Shape", inputs, end=1))
    zero = graph.constant("zero_integer", np.zeros((), np.int64))
    one = graph.constant("one_integer", np.ones((), np.int64))
    positions = graph.apply(
        "Unsqueeze", graph.apply("Range", zero, size, one), graph.integers(1, 2)
    )
    return graph.apply("Less", positions, graph.apply("Unsqueeze", lengths, graph.integers(1)))


def _zeros(graph: Graph, lengths: str, width: int) -> str:
    """Add a state of zeros (B, W)."""
    shape = graph.join([graph.apply("Shape", lengths), graph.integers(width)], axis=0)
    return graph.apply("Expand", graph.constant("zero", np.zeros((), np.float32)), shape)


def _directions(layer: nn.RNNBase) -> Sequence[str]:
    """Return what torch adds to the names of each direction's weights."""
    return ("", "_reverse") if layer.bidirectional else ("",)


def _reorder(weight: Tensor, cell: str) -> Tensor:
    """Return the weights (G W, …) of a cell's gates in ONNX' order."""
    gates = weight.chunk(len(_GATES[cell]))
    return torch.cat([gates[place] for place in _GATES[cell]])
