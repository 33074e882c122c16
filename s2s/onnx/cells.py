"""One step of each kind of recurrent cell, as nodes of a graph.

Shapes: N rows, D features of an input, H hidden size.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from s2s.onnx.graph import Graph
from s2s.onnx.precision import Precision

Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # (G H, D), (G H, H), (G H,), (G H,)


def apply_cell(
    graph: Graph,
    precision: Precision,
    name: str,
    cell: str,
    layer: nn.Module,
    inputs: Sequence[str],
    state: Sequence[str],
    *,
    direction: str = "",
) -> list[str]:
    """Add a step of a recurrent layer.

    Args:
        name: of the weights.
        cell: kind of the cell, as in `ModelConfig.cell`.
        layer: of this kind and one layer, as torch has it.
        inputs: names of values (N, …) which side by side are the input (N, D).
        state: names of the state's parts, each (N, H), the hidden state first.
        direction: `_reverse` for the second direction of a layer of two.

    Returns:
        Names of the parts of the new state, each (N, H).
    """
    weights = dict(cast(nn.RNNBase, layer).named_parameters())
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    of_direction = cast(Weights, tuple(weights[f"{kind}_l0{direction}"] for kind in kinds))
    return _CELLS[cell](graph, precision, name, of_direction, inputs, state)


def _lstm(
    graph: Graph,
    precision: Precision,
    name: str,
    weights: Weights,
    inputs: Sequence[str],
    state: Sequence[str],
) -> list[str]:
    """Add an LSTM cell, and return the names of the new hidden state and cell."""
    before, cell = state
    weight, bias = _joined(weights)
    # Gates with a sigmoid side by side: input, forget, output, and then the candidate.
    weight, bias = (_in_order(each, (0, 1, 3, 2)) for each in (weight, bias))
    gates = precision.product(graph, name, graph.join([*inputs, before], axis=1), weight, bias)
    hidden = len(bias) // 4
    open_gates, candidate = graph.split(gates, 1, 3 * hidden, hidden)
    input_gate, forget_gate, output_gate = graph.split(
        graph.apply("Sigmoid", open_gates), 1, hidden, hidden, hidden
    )
    kept = graph.apply("Mul", forget_gate, cell)
    let_in = graph.apply("Mul", input_gate, graph.apply("Tanh", candidate))
    cell = graph.apply("Add", kept, let_in)
    return [graph.apply("Mul", output_gate, graph.apply("Tanh", cell)), cell]


def _gru(
    graph: Graph,
    precision: Precision,
    name: str,
    weights: Weights,
    inputs: Sequence[str],
    state: Sequence[str],
) -> list[str]:
    """Add a GRU cell, and return the name of the new hidden state."""
    [before] = state
    of_input, of_hidden, input_bias, hidden_bias = weights
    # The reset gate comes between the candidate's product with the state and that with the inputs.
    products = [
        precision.product(graph, f"{name}.{kind}", rows, weight, bias)
        for kind, rows, weight, bias in (
            ("ih", graph.join(inputs, axis=1), of_input, input_bias),
            ("hh", before, of_hidden, hidden_bias),
        )
    ]
    hidden = of_hidden.shape[1]
    (gates_of_inputs, new_of_inputs), (gates_of_state, new_of_state) = (
        graph.split(each, 1, 2 * hidden, hidden) for each in products
    )
    gates = graph.apply("Sigmoid", graph.apply("Add", gates_of_inputs, gates_of_state))
    reset, update = graph.split(gates, 1, hidden, hidden)
    candidate = graph.apply(
        "Tanh", graph.apply("Add", new_of_inputs, graph.apply("Mul", reset, new_of_state))
    )
    kept = graph.apply("Mul", update, graph.apply("Sub", before, candidate))
    return [graph.apply("Add", candidate, kept)]


def _rnn(
    graph: Graph,
    precision: Precision,
    name: str,
    weights: Weights,
    inputs: Sequence[str],
    state: Sequence[str],
) -> list[str]:
    """Add a plain cell, and return the name of the new hidden state."""
    weight, bias = _joined(weights)
    rows = graph.join([*inputs, *state], axis=1)
    return [graph.apply("Tanh", precision.product(graph, name, rows, weight, bias))]


_CELLS: dict[str, Callable[..., list[str]]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def _joined(weights: Weights) -> tuple[Tensor, Tensor]:
    """Return weights (G H, D + H) for inputs and state side by side, and their bias (G H,)."""
    of_input, of_hidden, input_bias, hidden_bias = weights
    return torch.cat([of_input, of_hidden], dim=1), input_bias + hidden_bias


def _in_order(weight: Tensor, gates: tuple[int, ...]) -> Tensor:
    """Return the weights (G H, …) of gates in another order."""
    parts = weight.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])
