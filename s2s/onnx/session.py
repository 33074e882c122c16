"""The graphs in ONNX Runtime, in the place of the network itself.

Shapes: B sentences, N hypotheses, S source tokens, V target vocabulary.
"""

from typing import Self

import onnxruntime
import torch
from torch import Tensor

from s2s.config import ModelConfig
from s2s.model.seq2seq import DecoderState, Groups, Memory, Seq2Seq
from s2s.onnx.encoder import encoder_graph
from s2s.onnx.names import NEXT, STATE_NAMES
from s2s.onnx.precision import FLOAT32, Precision
from s2s.onnx.step import step_graph


class OnnxModel:
    """A model whose `encode` and `step` are those of `Seq2Seq`, computed by ONNX Runtime on a CPU.

    Args:
        encoder: serialised graph of the encoder.
        step: serialised graph of a step.
        threads: number of threads that compute an operator.
    """

    def __init__(
        self, config: ModelConfig, encoder: bytes, step: bytes, *, threads: int = 1
    ) -> None:
        self._state_names = STATE_NAMES[config.cell]
        self._encoder, self._step = _session(encoder, threads), _session(step, threads)
        self._encoded = [output.name for output in self._encoder.get_outputs()]
        self._stepped = [output.name for output in self._step.get_outputs()]
        self._is_grouped = "places" in {each.name for each in self._step.get_inputs()}
        self._last = "logits" if "logits" in self._stepped else "output"

    @classmethod
    def of(
        cls,
        model: Seq2Seq,
        config: ModelConfig,
        precision: Precision = FLOAT32,
        *,
        output_layer: bool = True,
        threads: int = 1,
    ) -> Self:
        """Return the graphs of a model in ONNX Runtime.

        Args:
            precision: of weights and products.
            output_layer: without it, steps return hidden vectors (N, R) instead of logits.
        """
        step_of = step_graph(model, config, precision, output_layer=output_layer, grouped=True)
        graphs = (encoder_graph(model, config, precision), step_of)
        encoder, step = (graph.SerializeToString() for graph in graphs)
        return cls(config, encoder, step, threads=threads)

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state for source tokens (B, S) of lengths (B,)."""
        found = _run(self._encoder, self._encoded, {"source": source, "lengths": source_lengths})
        memory = None
        if "values" in found:
            memory = Memory(found["values"], found.get("keys", found["values"]), found["padding"])
        recurrent = tuple(found[name] for name in self._state_names)
        return DecoderState(recurrent, memory, found.get("input_feed"))

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token (N,) of each hypothesis.

        Returns:
            Logits (N, V) of the next tokens; with attention, the weights (N, S) of the source
            tokens; the state after `tokens`.
        """
        feeds = {"tokens": tokens, **dict(zip(self._state_names, state.recurrent, strict=True))}
        if state.memory is not None:
            feeds |= {"values": state.memory.values, "padding": state.memory.padding}
            if self._is_grouped:
                groups = state.groups or _equal_groups(len(tokens), len(state.memory.values))
                feeds |= {"rows": groups.rows, "places": groups.places}
            if state.memory.keys is not state.memory.values:
                feeds["keys"] = state.memory.keys
        if state.input_feed is not None:
            feeds["input_feed"] = state.input_feed
        found = _run(self._step, self._stepped, feeds)
        recurrent = tuple(found[NEXT + name] for name in self._state_names)
        new = DecoderState(recurrent, state.memory, found.get(NEXT + "input_feed"))
        return found[self._last], found.get("weights"), new


def _equal_groups(hypotheses: int, sentences: int) -> Groups:
    """Return the groups of so many hypotheses, as many of each sentence."""
    places = torch.arange(hypotheses)
    return Groups(places.view(sentences, -1), places)


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between two calls take the cores from all that happens there (docs/log.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(
    session: onnxruntime.InferenceSession, names: list[str], feeds: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the outputs of a graph by their names."""
    outputs = session.run(names, {name: value.numpy() for name, value in feeds.items()})
    return dict(zip(names, map(torch.from_numpy, outputs), strict=True))
