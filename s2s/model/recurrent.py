"""Stacks of recurrent layers, with one form of state for LSTM, GRU and plain RNN cells.

Shapes: N sentences, or hypotheses of sentences; T tokens, D features of an input, H hidden size,
L layers, W width of a layer and direction (H, or H / 2 in a bidirectional stack).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from s2s.config import ModelConfig
from s2s.model import cudnn
from s2s.model.dropout import LockedDropout

# What recurrent layers carry from token to token: hidden and cell state of an LSTM, the hidden
# state alone of other cells.
RecurrentState = tuple[Tensor, ...]  # each (L, N, H)

_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_CELLS: dict[str, Callable[..., Tensor | RecurrentState]] = {
    "lstm": torch.lstm_cell,
    "gru": torch.gru_cell,
    "rnn": torch.rnn_tanh_cell,
}
STATE_PARTS = {"lstm": 2, "gru": 1, "rnn": 1}


class RecurrentStack(nn.Module):
    """A stack of recurrent layers that reads one way, or both (then for encoding alone).

    Args:
        input_size: features of the first layer's inputs.
    """

    padding_weights: Tensor  # of the features that mark padding on a GPU

    def __init__(
        self, input_size: int, config: ModelConfig, *, bidirectional: bool = False
    ) -> None:
        super().__init__()
        make_layer, hidden = _LAYERS[config.cell], config.hidden_size
        width = hidden // 2 if bidirectional else hidden
        self.layers = nn.ModuleList(
            make_layer(
                input_size if layer == 0 else hidden,
                width,
                batch_first=True,
                bidirectional=bidirectional,
            )
            for layer in range(config.layers)
        )
        self.dropout = LockedDropout(config.dropout)
        self.residual = config.residual
        self._cell = config.cell
        padding_weights = cudnn.padding_weights(config.cell, width)
        self.register_buffer("padding_weights", padding_weights, persistent=False)

    def forward(
        self, inputs: Tensor, state: RecurrentState, masks: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Continue from a state.

        Args:
            inputs: (N, T, D).
            masks: of the dropout before each layer but the first; drawn here if None.

        Returns:
            Outputs (N, T, H), and the state after the last input.
        """
        finals = []
        masks = masks or [None] * len(self.layers)
        for number, layer in enumerate(self.layers):
            if number:
                inputs = self.dropout(inputs, masks[number - 1])
            initial = tuple(part[number : number + 1] for part in state)  # each (1, N, H)
            outputs, final = self._run_layer(layer, inputs, initial)
            finals.append(final)
            inputs = outputs + inputs if self.residual and number else outputs
        return inputs, _stack_layers(finals)

    def _run_layer(
        self, layer: nn.Module, inputs: Tensor, state: RecurrentState
    ) -> tuple[Tensor, RecurrentState]:
        if inputs.shape[1] == 1 and not torch.is_grad_enabled():
            # A sequence of one token has much to set up and little to compute: the bare cell takes
            # a third of the time for one sentence (docs/log.md).
            cell, before = _CELLS[self._cell], tuple(part[0] for part in state)  # each (N, H)
            after = cell(inputs[:, 0], _to_torch(before), *cudnn.layer_weights(layer))
            final = tuple(part[None] for part in _from_torch(after))  # each (1, N, H)
            return final[0].transpose(0, 1), final
        if inputs.device.type == "cuda":
            outputs, *parts = cudnn.run_layer(layer, inputs, state)
            return outputs, tuple(parts)
        outputs, final = layer(inputs, _to_torch(state))
        return outputs, _from_torch(final)

    def encode(
        self, inputs: Tensor, lengths: Tensor
    ) -> tuple[Tensor | PackedSequence, RecurrentState]:
        """Read whole sentences from a state of zeros, without their padding.

        In a bidirectional stack each direction has half of every state, and the backward one's last
        input is the first token.

        Args:
            inputs: (N, T, D), padded at the end.
            lengths: (N,) true lengths, each at least 1.

        Returns:
            Outputs, and the state after each sentence's own last input. Outputs are (N, T, H) on a
            GPU, where those of padding mean nothing; they are packed elsewhere.
        """
        if inputs.device.type == "cuda" and cudnn.can_hold_state(self._cell):
            return self._encode_padded(inputs, lengths)
        return self._encode_packed(inputs, lengths.cpu())

    def _encode_packed(
        self, inputs: Tensor, lengths: Tensor
    ) -> tuple[PackedSequence, RecurrentState]:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        # Sentences drop out step by step, and oneDNN would compile, and keep, code for every number
        # of them that is left; float32 takes another library (docs/log.md). On a GPU, autocast to
        # bf16 would compute in fp16.
        with torch.autocast(inputs.device.type, enabled=False):
            return self._run_packed(packed._replace(data=packed.data.float()))

    def _run_packed(self, packed: PackedSequence) -> tuple[PackedSequence, RecurrentState]:
        finals = []
        for number, layer in enumerate(self.layers):
            if number:
                packed = self.dropout.packed(packed)
            outputs, final = layer(packed)
            finals.append(_join_directions(_from_torch(final)))
            if self.residual and number:
                outputs = outputs._replace(data=outputs.data + packed.data)
            packed = outputs
        return packed, _stack_layers(finals)

    def _encode_padded(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, RecurrentState]:
        lengths = lengths.to(inputs.device)
        positions = torch.arange(inputs.shape[1], device=inputs.device)  # (T,)
        padding = (positions >= lengths[:, None])[:, :, None].to(inputs.dtype)  # (N, T, 1)
        last = (lengths - 1)[:, None, None]  # (N, 1, 1)
        finals = []
        for number, layer in enumerate(self.layers):
            if number:
                inputs = self.dropout(inputs)
            directions = 2 if layer.bidirectional else 1
            width: int = layer.hidden_size  # type: ignore[assignment]
            zeros = inputs.new_zeros(directions, len(inputs), width)
            initial = (zeros,) * STATE_PARTS[self._cell]
            outputs, *final = cudnn.run_padded_layer(
                layer, inputs, initial, padding, self.padding_weights
            )  # (N, T, H), each (directions, N, W)
            if self._cell == "lstm":
                # The cell state is held, but what it lets out depends on the input: the forward
                # direction's hidden state is taken where the sentence ended. The backward one
                # begins with padding.
                hidden = outputs[:, :, :width].gather(1, last.expand(-1, 1, width))  # (N, 1, W)
                final[0] = torch.cat([hidden.transpose(0, 1), final[0][1:]])  # (directions, N, W)
            finals.append(_join_directions(final))
            inputs = outputs + inputs if self.residual and number else outputs
        return inputs, _stack_layers(finals)


def _to_torch(state: RecurrentState) -> Tensor | RecurrentState:
    """Return a layer's state in the form that torch's layers take."""
    return state if len(state) > 1 else state[0]


def _from_torch(state: Tensor | RecurrentState) -> RecurrentState:
    """Return a layer's state from the form that torch's layers give."""
    return (state,) if isinstance(state, Tensor) else state


def _join_directions(state: Sequence[Tensor]) -> RecurrentState:
    """Return a layer's state, each part (1, N, H), of parts (directions, N, W)."""
    return tuple(torch.cat([*part], dim=1)[None] for part in state)


def _stack_layers(states: list[RecurrentState]) -> RecurrentState:
    """Return the state of a stack, each part (L, N, H), of its layers' states (1, N, H)."""
    if len(states) == 1:
        return states[0]
    return tuple(torch.cat(parts) for parts in zip(*states, strict=True))
