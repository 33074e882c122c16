"""Recurrent layers on a GPU by cuDNN, over padded sentences.

Packed sentences cost a few kernels for every token, over a set of rows that shrinks and whose
lengths the CPU must know. Padded, cuDNN computes all tokens of a layer in one call, and the shape
of a batch is all that the CPU needs. Padding must then leave the state as it was: an input feature
of its own closes the gates.

Shapes: N sentences, T tokens, D features of an input, W width of a layer and direction, G gates of
its cell.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

# By torch's name of a layer's kind.
_SEQUENCES: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
}

# What a token of padding adds to each of a cell's gates, in torch's order, so that the state stays
# as it is: an LSTM forgets nothing and lets nothing in, a GRU updates nothing. It is so large that
# a sigmoid is 0 or 1 to the last bit, and finite in fp16. A plain RNN has no such gate.
_CLOSED = 1e4
_HOLDING_GATES = {"lstm": (-_CLOSED, _CLOSED, 0.0, 0.0), "gru": (0.0, _CLOSED, 0.0)}

# Input features that mark padding, of which the first alone is not zero: tensor cores want a
# multiple of this.
_PADDING_FEATURES = 8

# cuDNN keeps the weights of a layer up to so wide on the chip, in float32 but not in bf16; up to so
# many numbers of a state, rows times width, that is the faster of the two (docs/gpu.md).
_NARROW_WIDTH, _SMALL_STATE = 128, 32_768

# cuDNN wants all weights in one piece, and copies them there where they are not.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")


def can_hold_state(cell: str) -> bool:
    """Return whether a kind of cell has gates that can keep its state over padding."""
    return cell in _HOLDING_GATES


def padding_weights(cell: str, width: int) -> Tensor:
    """Return the weights (G W, _PADDING_FEATURES) of the input features that mark padding."""
    gates = torch.tensor(_HOLDING_GATES.get(cell, (0.0,))).repeat_interleave(width)  # (G W,)
    return nn.functional.pad(gates[:, None], (0, _PADDING_FEATURES - 1))


def layer_weights(layer: nn.Module) -> list[Tensor]:
    """Return the weights of a recurrent layer, in the order in which torch's functions take them.

    For each direction: of the inputs, of the state, and the biases of both.
    """
    return [weight for _, weight in layer.named_parameters()]


def run_layer(layer: nn.Module, inputs: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run a layer over sentences without padding.

    Args:
        inputs: (N, T, D).
        state: the parts of the initial state, each (directions, N, W).

    Returns:
        Outputs (N, T, directions × W), and the parts of the final state.
    """
    return _run(cast(nn.RNNBase, layer), inputs, state, layer_weights(layer))


def run_padded_layer(
    layer: nn.Module,
    inputs: Tensor,
    state: Sequence[Tensor],
    padding: Tensor,
    weights_of_padding: Tensor,
) -> tuple[Tensor, ...]:
    """Run a layer over padded sentences, through whose padding it keeps its state.

    Args:
        inputs: (N, T, D).
        state: the parts of the initial state, each (directions, N, W).
        padding: (N, T, 1), 1 where a token is padding and 0 elsewhere.
        weights_of_padding: (G W, _PADDING_FEATURES), as of `padding_weights`.

    Returns:
        Outputs (N, T, directions × W), and the parts of the final state.
    """
    features = nn.functional.pad(padding, (0, _PADDING_FEATURES - 1))  # (N, T, _PADDING_FEATURES)
    inputs = torch.cat([inputs, features.to(inputs.dtype)], dim=2)  # (N, T, D + …)
    weights = layer_weights(layer)
    for start in range(0, len(weights), 4):  # the weights of the inputs, of each direction
        weights[start] = torch.cat([weights[start], weights_of_padding], dim=1)  # (G W, D + …)
    return _run(cast(nn.RNNBase, layer), inputs, state, weights)


def _run(
    layer: nn.RNNBase, inputs: Tensor, state: Sequence[Tensor], weights: list[Tensor]
) -> tuple[Tensor, ...]:
    """Run a layer with given weights, in a dtype that is chosen here.

    Autocast to bf16 would compute it in fp16, whose small gradients vanish.
    """
    dtype = inputs.dtype
    if torch.is_autocast_enabled("cuda"):
        small = layer.hidden_size * len(inputs) <= _SMALL_STATE
        narrow = layer.hidden_size <= _NARROW_WIDTH and small
        dtype = torch.float32 if narrow else torch.get_autocast_dtype("cuda")
    state = tuple(part.to(dtype) for part in state)
    with torch.autocast("cuda", enabled=False):
        return _SEQUENCES[layer.mode](
            inputs.to(dtype),
            state if len(state) > 1 else state[0],
            [weight.to(dtype) for weight in weights],
            True,  # with biases
            1,  # layer
            0.0,  # dropout
            layer.training,
            layer.bidirectional,
            True,  # batch first
        )
