"""What computes the network in decoding: on a CPU ONNX Runtime where that is installed, else torch.

A step of the decoder is some dozen operators on small tensors, and Python's call of each takes
longer than its arithmetic. ONNX Runtime runs them all in one call
(docs/decisions/0041-native-step.md).

Shapes: B sentences, N hypotheses, S source tokens, V target vocabulary.
"""

import copy
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.network import Network
from s2s.decoding.output_layer import in_precision
from s2s.errors import BadInput
from s2s.extras import install_command
from s2s.model.directory import ModelDirectory
from s2s.model.onednn import has_bf16
from s2s.model.seq2seq import DecoderState, Seq2Seq


def has_native_step() -> bool:
    """Return whether ONNX Runtime is installed, and the library that makes its graphs."""
    return all(find_spec(module) is not None for module in ("onnx", "onnxruntime"))


def runs_natively(settings: DecodeConfig, device: torch.device) -> bool:
    """Return whether ONNX Runtime computes the steps of these settings on a device.

    It has no bf16 on CPUs: a CPU with instructions for it computes the output layer by torch.

    Raises:
        BadInput: the settings ask for int8 on a CPU, and ONNX Runtime is not installed.
    """
    if device.type != "cpu" or (settings.precision == "bf16" and has_bf16()):
        return False
    if settings.precision == "int8" and not has_native_step():
        raise BadInput(
            f"decode.precision int8 needs ONNX Runtime on a CPU: {install_command('onnx')}"
        )
    return has_native_step()


def network_of(
    directory: ModelDirectory,
    settings: DecodeConfig,
    *,
    output_layer: bool = True,
    native: bool | None = None,
) -> Network:
    """Return the network of a model directory, which stays as it is and shares its weights.

    Args:
        output_layer: without it, steps return hidden vectors (N, R) instead of logits.
        native: whether ONNX Runtime computes the steps; None if it does where it can.

    Raises:
        BadInput: the settings ask for int8 on a CPU, and ONNX Runtime is not installed.
    """
    model = directory.model
    if runs_natively(settings, model.device) if native is None else native:
        from s2s.onnx.precision import FLOAT32, PRECISIONS
        from s2s.onnx.session import OnnxModel

        return OnnxModel.of(
            model,
            directory.config.model,
            PRECISIONS.get(settings.precision, FLOAT32),
            output_layer=output_layer,
            threads=torch.get_num_threads(),
        )
    return in_torch(model, settings) if output_layer else WithoutOutputLayer(model)


@dataclass(frozen=True)
class WithoutOutputLayer:
    """A model whose steps return hidden vectors (N, R) instead of logits."""

    model: Seq2Seq

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state, as `Network` has it."""
        return self.model.encode(source, source_lengths)

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token (N,) of each hypothesis, and return hidden vectors (N, R)."""
        hidden, weights, state = self.model.decoder(tokens[:, None], state)  # (N, 1, R)
        return hidden[:, 0], None if weights is None else weights[:, 0], state


def in_torch(model: Seq2Seq, settings: DecodeConfig) -> Seq2Seq:
    """Return a model of the same weights, with the output layer in the precision of the settings.

    A GPU has no int8 here, and computes in bf16 what asks for it.
    """
    shared: dict[int, object] = {id(weight): weight for weight in model.parameters()}
    own = copy.deepcopy(model, shared)
    dtype = torch.float32 if settings.precision == "fp32" else torch.bfloat16
    own.decoder.add_module("output", in_precision(own.decoder.output, dtype))
    return own
