"""The encoder as an ONNX graph: from a batch of sentences to the decoder's initial state.

Whole sentences go through ONNX's own recurrent operators, which read each row up to its length.

Shapes: B sentences, S source tokens, E embedding size, H hidden size, L layers, W width of a layer
and direction, G gates of a cell; R features of the input feed.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from s2s.config import ModelConfig
from s2s.model.seq2seq import Attention, Encoder, Seq2Seq
from s2s.onnx.graph import Graph
from s2s.onnx.names import STATE_NAMES

_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}

# Places of ONNX' gates among torch's: i o f c of i f g o; z r h of r z n.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


def encoder_graph(model: Seq2Seq, config: ModelConfig) -> onnx.ModelProto:
    """Return the graph of `Seq2Seq.encode`.

    Inputs are `source` (B, S) int64, padded at the end, and `lengths` (B,) int64, each at least 1.
    Outputs are what the step graph takes under the same names: the recurrent state, each part
    (L, B, H); with attention `values` (B, S, H), `keys` (B, S, H) but for dot attention, and
    `padding` (B, S) bool; with input feeding `input_feed` (B, R), zeros.
    """
    graph = Graph("encoder")
    source = graph.input("source", np.int64, "sentences", "source_tokens")
    lengths = graph.input("lengths", np.int64, "sentences")
    lengths32 = graph.apply("Cast", lengths, to=onnx.TensorProto.INT32)
    hidden = config.hidden_size
    outputs, state = _read(graph, model.encoder, config, source, lengths, lengths32)
    names = STATE_NAMES[config.cell]
    for name, part in zip(names, state, strict=True):
        graph.output(name, part, np.float32, config.layers, "sentences", hidden)
    if model.decoder.attention is not None:
        _add_memory(graph, model.decoder.attention, hidden, outputs, source, lengths)
    if config.input_feeding:
        size = model.decoder.output.in_features  # R
        sentences = graph.apply("Shape", source, end=1)
        shape = graph.join([sentences, graph.integers(size)], axis=0)
        feed = graph.apply("Expand", graph.constant("zero", np.zeros((), np.float32)), shape)
        graph.output("input_feed", feed, np.float32, "sentences", size)
    return graph.model()


def _read(
    graph: Graph, encoder: Encoder, config: ModelConfig, source: str, lengths: str, lengths32: str
) -> tuple[str, list[str]]:
    """Add the layers.

    Returns:
        Names of the outputs (B, S, H) in the sentence's order, and of the state's parts (L, B, H).
    """
    if config.reverse_source:
        source = _reverse(graph, source, lengths)
    embedding = graph.constant("encoder.embedding", encoder.embedding.weight)
    turned = graph.apply("Transpose", source, perm=[1, 0])  # (S, B)
    inputs = graph.apply("Gather", embedding, turned)  # (S, B, E)
    finals: list[list[str]] = []
    for number, layer in enumerate(encoder.recurrent.layers):
        outputs, final = _run_layer(
            graph, f"encoder.layer_{number}", cast(nn.RNNBase, layer), config, inputs, lengths32
        )
        if config.residual and number:
            outputs = graph.apply("Add", outputs, inputs)
        inputs = outputs
        finals.append(final)
    state = [graph.join(parts, axis=0) for parts in zip(*finals, strict=True)]  # each (L, B, H)
    if encoder.bridge:
        state = [
            _bridge(graph, f"encoder.bridge_{place}", cast(nn.Linear, bridge), part)
            for place, (bridge, part) in enumerate(zip(encoder.bridge, state, strict=True))
        ]
    outputs = graph.apply("Transpose", inputs, perm=[1, 0, 2])  # (B, S, H)
    if config.reverse_source:
        outputs = _reverse(graph, outputs, lengths)
    return outputs, state


def _reverse(graph: Graph, rows: str, lengths: str) -> str:
    """Reverse the tokens of each row (B, S, …), and leave its padding in place."""
    return graph.apply("ReverseSequence", rows, lengths, batch_axis=0, time_axis=1)


def _run_layer(
    graph: Graph, name: str, layer: nn.RNNBase, config: ModelConfig, inputs: str, lengths: str
) -> tuple[str, list[str]]:
    """Add a layer, of one direction or two, that reads inputs (S, B, …) from a state of zeros.

    Returns:
        Names of the outputs (S, B, H), and of the final state's parts, each (1, B, H).
    """
    weights = dict(layer.named_parameters())
    directions = ("", "_reverse") if layer.bidirectional else ("",)

    def stacked(*kinds: str) -> Tensor:
        """Return weights of both directions, of ONNX' gates, those of several kinds joined."""
        return torch.stack(
            [
                torch.cat([_reorder(weights[f"{kind}_l0{suffix}"], config.cell) for kind in kinds])
                for suffix in directions
            ]
        )

    attributes: dict[str, object] = {"linear_before_reset": 1} if config.cell == "gru" else {}
    both, *final = graph.apply_many(
        _OPERATORS[config.cell],
        1 + len(STATE_NAMES[config.cell]),
        inputs,
        graph.constant(f"{name}.input", stacked("weight_ih")),  # (directions, G W, …)
        graph.constant(f"{name}.state", stacked("weight_hh")),  # (directions, G W, W)
        graph.constant(f"{name}.bias", stacked("bias_ih", "bias_hh")),  # (directions, 2 G W)
        lengths,
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "forward",
        **attributes,
    )  # (S, directions, B, W), each (directions, B, W)
    width = config.hidden_size
    outputs = graph.apply("Transpose", both, perm=[0, 2, 1, 3])  # (S, B, directions, W)
    outputs = graph.apply("Reshape", outputs, graph.integers(0, 0, width))  # (S, B, H)
    if layer.bidirectional:
        final = [graph.join(_halves(graph, part), axis=2) for part in final]  # each (1, B, H)
    return outputs, final


def _halves(graph: Graph, part: str) -> list[str]:
    """Cut a part (2, B, W) of a state into those of its two directions, each (1, B, W)."""
    return graph.split(part, 0, 1, 1)


def _reorder(weight: Tensor, cell: str) -> Tensor:
    """Return the weights (G W, …) of a cell's gates in ONNX' order."""
    gates = weight.chunk(len(_GATES[cell]))
    return torch.cat([gates[place] for place in _GATES[cell]])


def _bridge(graph: Graph, name: str, bridge: nn.Linear, part: str) -> str:
    """Add the layer that joins what two directions know of a state's part (L, B, H)."""
    product = _linear(graph, name, bridge, part)
    return graph.apply(
        "Tanh", graph.apply("Add", product, graph.constant(f"{name}.bias", bridge.bias))
    )


def _linear(graph: Graph, name: str, layer: nn.Linear, inputs: str) -> str:
    """Add the product of a layer's weights, without the bias, with inputs of any rank."""
    return graph.apply("MatMul", inputs, graph.constant(f"{name}.weight", layer.weight.t()))


def _add_memory(
    graph: Graph, attention: Attention, hidden: int, values: str, source: str, lengths: str
) -> None:
    """Declare what attention reads of the source as outputs."""
    shape: Sequence[str | int] = ("sentences", "source_tokens", hidden)
    graph.output("values", values, np.float32, *shape)
    if attention.key is not None:
        keys = _linear(graph, "attention.key", attention.key, values)  # (B, S, H)
        graph.output("keys", keys, np.float32, *shape)
    size = graph.apply("Squeeze", graph.apply("Shape", source, start=1))
    zero = graph.constant("zero_integer", np.zeros((), np.int64))
    one = graph.constant("one_integer", np.ones((), np.int64))
    positions = graph.apply("Range", zero, size, one)  # (S,)
    ends = graph.apply("Unsqueeze", lengths, graph.integers(1))  # (B, 1)
    padding = graph.apply("GreaterOrEqual", positions, ends)  # (B, S)
    graph.output("padding", padding, np.bool_, "sentences", "source_tokens")
