"""The encoder as an ONNX graph: from a batch of sentences to the decoder's initial state.

Shapes: B sentences, S source tokens, E embedding size, H hidden size, L layers; R features of the
input feed.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx
from torch import nn

from s2s.config import ModelConfig
from s2s.model.seq2seq import Attention, Encoder, Seq2Seq
from s2s.onnx.graph import Graph
from s2s.onnx.layers import output_bound, run_layer
from s2s.onnx.names import STATE_NAMES
from s2s.onnx.precision import FLOAT32, Precision


def encoder_graph(
    model: Seq2Seq, config: ModelConfig, precision: Precision = FLOAT32
) -> onnx.ModelProto:
    """Return the graph of `Seq2Seq.encode`, with weights and products of a precision.

    Inputs are `source` (B, S) int64, padded at the end, and `lengths` (B,) int64, each at least 1.
    Outputs are what the step graph takes under the same names: the recurrent state, each part
    (L, B, H); with attention `values` (B, S, H), `keys` (B, S, H) but for dot attention, and
    `padding` (B, S) bool; with input feeding `input_feed` (B, R), zeros.
    """
    graph = Graph("encoder")
    source = graph.input("source", np.int64, "sentences", "source_tokens")
    lengths = graph.input("lengths", np.int64, "sentences")
    hidden = config.hidden_size
    outputs, state = _read(graph, precision, model.encoder, config, source, lengths)
    names = STATE_NAMES[config.cell]
    for name, part in zip(names, state, strict=True):
        graph.output(name, part, np.float32, config.layers, "sentences", hidden)
    if model.decoder.attention is not None:
        attention = model.decoder.attention
        _add_memory(graph, precision, attention, config, outputs, source, lengths)
    if config.input_feeding:
        size = model.decoder.output.in_features  # R
        sentences = graph.apply("Shape", source, end=1)
        shape = graph.join([sentences, graph.integers(size)], axis=0)
        feed = graph.apply("Expand", graph.constant("zero", np.zeros((), np.float32)), shape)
        graph.output("input_feed", feed, np.float32, "sentences", size)
    return graph.model()


def _read(
    graph: Graph,
    precision: Precision,
    encoder: Encoder,
    config: ModelConfig,
    source: str,
    lengths: str,
) -> tuple[str, list[str]]:
    """Add the layers.

    Returns:
        Names of the outputs (B, S, H) in the sentence's order, and of the state's parts (L, B, H).
    """
    if config.reverse_source:
        source = _reverse(graph, source, lengths)
    turned = graph.apply("Transpose", source, perm=[1, 0])  # (S, B)
    embedding = encoder.embedding.weight
    inputs = precision.embed(graph, "encoder.embedding", turned, embedding)  # (S, B, E)
    finals: list[list[str]] = []
    for number, layer in enumerate(encoder.recurrent.layers):
        outputs, final = run_layer(
            graph,
            precision,
            f"encoder.layer_{number}",
            config.cell,
            cast(nn.RNNBase, layer),
            inputs,
            lengths,
        )
        if config.residual and number:
            outputs = graph.apply("Add", outputs, inputs)
        inputs = outputs
        finals.append(final)
    state = [graph.join(parts, axis=0) for parts in zip(*finals, strict=True)]  # each (L, B, H)
    if encoder.bridge:
        bridges = zip(STATE_NAMES[config.cell], encoder.bridge, state, strict=True)
        state = [
            _linear(graph, precision, f"encoder.bridge_{name}", cast(nn.Linear, bridge), part)
            for name, bridge, part in bridges
        ]
        state = [graph.apply("Tanh", part) for part in state]
    outputs = graph.apply("Transpose", inputs, perm=[1, 0, 2])  # (B, S, H)
    if config.reverse_source:
        outputs = _reverse(graph, outputs, lengths)
    return outputs, state


def _reverse(graph: Graph, rows: str, lengths: str) -> str:
    """Reverse the tokens of each row (B, S, …), and leave its padding in place."""
    return graph.apply("ReverseSequence", rows, lengths, batch_axis=0, time_axis=1)


def _linear(
    graph: Graph,
    precision: Precision,
    name: str,
    layer: nn.Linear,
    inputs: str,
    bound: float | None = None,
) -> str:
    """Add a linear layer that reads inputs (…, …, H) within a bound, and writes as many."""
    rows = graph.apply("Reshape", inputs, graph.integers(-1, layer.in_features))
    product = precision.product(graph, name, rows, layer.weight, layer.bias, bound)
    return graph.apply("Reshape", product, graph.apply("Shape", inputs))


def _add_memory(
    graph: Graph,
    precision: Precision,
    attention: Attention,
    config: ModelConfig,
    values: str,
    source: str,
    lengths: str,
) -> None:
    """Declare what attention reads of the source as outputs."""
    shape: Sequence[str | int] = ("sentences", "source_tokens", config.hidden_size)
    graph.output("values", values, np.float32, *shape)
    if attention.key is not None:
        bound = output_bound(config)
        keys = _linear(graph, precision, "attention.key", attention.key, values, bound)
        graph.output("keys", keys, np.float32, *shape)
    size = graph.apply("Squeeze", graph.apply("Shape", source, start=1))
    zero = graph.constant("zero_integer", np.zeros((), np.int64))
    one = graph.constant("one_integer", np.ones((), np.int64))
    positions = graph.apply("Range", zero, size, one)  # (S,)
    ends = graph.apply("Unsqueeze", lengths, graph.integers(1))  # (B, 1)
    padding = graph.apply("GreaterOrEqual", positions, ends)  # (B, S)
    graph.output("padding", padding, np.bool_, "sentences", "source_tokens")
