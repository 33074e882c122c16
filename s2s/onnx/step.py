"""A step of the decoder as an ONNX graph.

ONNX' recurrent operators are for whole sentences; a step of plain products is as fast in ONNX
Runtime, and leaves the precision of the products open (docs/decisions/0037-onnx-graphs-by-hand.md).

Shapes: B sentences, K hypotheses of each, N = B × K, grouped by sentence (or N of them in
`Groups`); S source tokens,
E embedding size, H hidden size, L layers, D features of a layer's input, V target vocabulary,
R features of the hidden vector that the output layer reads.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from torch import nn

from s2s.config import ModelConfig
from s2s.model.adaptive import AdaptiveOutput
from s2s.model.seq2seq import Attention, Decoder, Seq2Seq
from s2s.onnx.cells import apply_cell
from s2s.onnx.graph import Graph
from s2s.onnx.layers import output_bound
from s2s.onnx.names import NEXT, STATE_NAMES
from s2s.onnx.precision import FLOAT32, Precision

# What a score of padding becomes, finite so that a row of nothing but padding has weights.
_LOWEST = np.array(np.finfo(np.float32).min, np.float32)


def step_graph(
    model: Seq2Seq,
    config: ModelConfig,
    precision: Precision = FLOAT32,
    *,
    output_layer: bool = True,
    grouped: bool = False,
) -> onnx.ModelProto:
    """Return the graph of `Seq2Seq.step`.

    Inputs are `tokens` (N,) int64, the last token of each hypothesis, and the decoder state under
    the names that the encoder graph gives it: of the recurrent state each part (L, N, H), of the
    memory `values`, `keys` and `padding` of the B sentences, `input_feed` (N, R). Outputs are
    `logits` (N, V); with attention `weights` (N, S); and `next_…` for each input that a step
    changes.

    Args:
        precision: of weights and products.
        output_layer: without it, `output` (N, R) takes the place of `logits`: what the output
            layer reads.
        grouped: let sentences have different numbers of hypotheses. With attention, the graph then
            has the inputs `rows` (B, K) and `places` (N,) int64 of `Groups`.
    """
    graph = Graph("step")
    step = _Step(graph, model.decoder, config, precision)
    tokens = graph.input("tokens", np.int64, "hypotheses")
    hidden, layers = config.hidden_size, config.layers
    names = STATE_NAMES[config.cell]
    state = [graph.input(name, np.float32, layers, "hypotheses", hidden) for name in names]
    embedding = model.decoder.embedding.weight
    inputs = [precision.embed(graph, "decoder.embedding", tokens, embedding)]  # (N, E)
    size = model.decoder.output.in_features  # R
    if config.input_feeding:
        inputs.append(graph.input("input_feed", np.float32, "hypotheses", size))
    output, new = step.run_layers(inputs, state)  # (N, H), each (L, N, H)
    if model.decoder.attention is not None:
        output, weights = step.attend(model.decoder.attention, output, grouped)  # (N, 2 H), (N, S)
        graph.output("weights", weights, np.float32, "hypotheses", "source_tokens")
    if model.decoder.readout is not None:
        output = graph.apply("Tanh", step.linear("decoder.readout", model.decoder.readout, output))
    if output_layer:
        logits = step.logits(output)
        graph.output("logits", logits, np.float32, "hypotheses", model.decoder.output.out_features)
    else:
        # A value has one name, and with input feeding this one has another.
        graph.output("output", graph.apply("Identity", output), np.float32, "hypotheses", size)
    for name, part in zip(names, new, strict=True):
        graph.output(NEXT + name, part, np.float32, layers, "hypotheses", hidden)
    if config.input_feeding:
        graph.output(NEXT + "input_feed", output, np.float32, "hypotheses", size)
    return graph.model()


@dataclass(frozen=True)
class _Step:
    """The parts of a step, each of which adds its nodes to a graph."""

    graph: Graph
    decoder: Decoder
    config: ModelConfig
    precision: Precision

    def linear(self, name: str, layer: nn.Linear, rows: str) -> str:
        """Add a linear layer over rows of hidden vectors, or context vectors, or both."""
        bound = output_bound(self.config)
        return self.precision.product(self.graph, name, rows, layer.weight, layer.bias, bound)

    def logits(self, rows: str) -> str:
        """Add the output layer over rows of hidden vectors (N, R), and return the logits (N, V)."""
        layer = self.decoder.output
        if isinstance(layer, AdaptiveOutput):
            return self._adaptive_logits(layer, rows)
        # Tied weights are stored once, under the embedding's name.
        name = "decoder.output" if self.config.tie == "none" else "decoder.embedding"
        return self.linear(name, layer, rows)

    def _adaptive_logits(self, layer: AdaptiveOutput, rows: str) -> str:
        """Add an adaptive output layer; see its `forward`."""
        graph, clusters = self.graph, layer.clusters
        head = self.linear("decoder.output.head", layer.head, rows)
        frequent, *totals = graph.split(head, 1, layer.frequent_words, *[1] * len(clusters))
        rare = []
        for number, (total, cluster) in enumerate(zip(totals, clusters, strict=True)):
            name, words = f"decoder.output.tails.{number}", cluster.words
            features = self.linear(f"{name}.features", cluster.features, rows)  # (N, D), no bound
            logits = self.precision.product(
                graph, f"{name}.words", features, words.weight, words.bias
            )
            rare.append(graph.apply("Add", graph.apply("LogSoftmax", logits, axis=1), total))
        return graph.join([frequent, *rare], axis=1)

    def run_layers(self, inputs: list[str], state: list[str]) -> tuple[str, list[str]]:
        """Add the recurrent layers.

        Args:
            inputs: of the first layer, which are side by side in a row.
            state: its parts, each (L, N, H).

        Returns:
            Names of the outputs (N, H) and of the parts of the new state, each (L, N, H).
        """
        graph, layers = self.graph, self.config.layers
        first = graph.integers(0)
        parts = [
            [graph.apply("Squeeze", each, first) for each in graph.split(part, 0, *[1] * layers)]
            for part in state
        ]  # by part and layer, each (N, H)
        finals: list[list[str]] = []
        output = ""
        for number, layer in enumerate(self.decoder.recurrent.layers):
            before = [part[number] for part in parts]
            name = f"decoder.layer_{number}"
            after = apply_cell(graph, self.precision, name, self.config.cell, layer, inputs, before)
            output = after[0]
            if self.config.residual and number:
                output = graph.apply("Add", output, inputs[0])
            inputs = [output]
            finals.append([graph.apply("Unsqueeze", part, first) for part in after])
        return output, [graph.join(parts, axis=0) for parts in zip(*finals, strict=True)]

    def attend(self, attention: Attention, output: str, grouped: bool) -> tuple[str, str]:
        """Add attention with the layers' output (N, H) as queries, `grouped` as of `step_graph`.

        Returns:
            Names of the context vectors beside the queries (N, 2 H), and of the weights (N, S).
        """
        graph, hidden = self.graph, self.config.hidden_size
        shape = ("sentences", "source_tokens")
        values = graph.input("values", np.float32, *shape, hidden)
        keys = values
        if attention.key is not None:
            keys = graph.input("keys", np.float32, *shape, hidden)
        padding = graph.input("padding", np.bool_, *shape)
        queries = output
        if attention.query is not None:
            queries = self.linear("attention.query", attention.query, output)
        if grouped:
            rows = graph.input("rows", np.int64, "sentences", "queries")
            queries = graph.apply("Gather", queries, rows)  # (B, K, H)
        else:
            sentences = graph.apply("Shape", padding, end=1)
            by_sentence = graph.join([sentences, graph.integers(-1, hidden)], axis=0)
            queries = graph.apply("Reshape", queries, by_sentence)  # (B, K, H)
        if attention.energy is not None:
            sums = graph.apply(
                "Add",
                graph.apply("Unsqueeze", queries, graph.integers(2)),
                graph.apply("Unsqueeze", keys, graph.integers(1)),
            )  # (B, K, S, H)
            energy = graph.constant("attention.energy", attention.energy.weight.t())  # (H, 1)
            scores = graph.apply("MatMul", graph.apply("Tanh", sums), energy)  # (B, K, S, 1)
            scores = graph.apply("Squeeze", scores, graph.integers(3))  # (B, K, S)
        else:
            # ONNX Runtime makes one operator of the two.
            scores = graph.apply(
                "MatMul", queries, graph.apply("Transpose", keys, perm=[0, 2, 1])
            )  # (B, K, S)
        outside = graph.apply("Unsqueeze", padding, graph.integers(1))  # (B, 1, S)
        scores = graph.apply("Where", outside, graph.constant("lowest", _LOWEST), scores)
        weights = graph.apply("Softmax", scores, axis=2)  # (B, K, S)
        context = graph.apply("MatMul", weights, values)  # (B, K, H)
        context = graph.apply("Reshape", context, graph.integers(-1, hidden))  # (B K, H)
        source_tokens = graph.apply("Shape", padding, start=1)
        by_query = graph.join([graph.integers(-1), source_tokens], axis=0)
        weights = graph.apply("Reshape", weights, by_query)  # (B K, S)
        if grouped:
            places = graph.input("places", np.int64, "hypotheses")
            context = graph.apply("Gather", context, places)  # (N, H)
            weights = graph.apply("Gather", weights, places)  # (N, S)
        return graph.join([context, output], axis=1), weights
