"""The encoder–decoder of Sutskever et al. (2014), https://arxiv.org/abs/1409.3215, at any size.

Shapes: B sentences, S source tokens, T target tokens, E embedding size, H hidden size, L layers,
V target words.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from s2s.config import ModelConfig
from s2s.text import PAD

# The recurrent state: hidden and cell state of an LSTM, the hidden state alone of other cells.
State = tuple[Tensor, ...]  # each (L, B, H)

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Recurrent(nn.Module):
    """A stack of recurrent layers with one form of state for all cells."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = _CELLS[config.cell](
            config.embedding_size, config.hidden_size, config.layers, batch_first=True
        )

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs (B, T, H) and last state for inputs (B, T, E)."""
        outputs, last = self.layers(inputs, state if len(state) > 1 else state[0])
        return outputs, _state(last)

    def last_state(self, inputs: Tensor, lengths: Tensor) -> State:
        """The state after each row's own last input, (B, S, E) and (B,); padding is never read."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        if inputs.device.type == "cpu":
            # Sentences drop out step by step, and oneDNN would compile, and keep, code for every
            # number of them that is left; float32 takes another library (docs/log.md).
            with torch.autocast("cpu", enabled=False):
                return _state(self.layers(packed)[1])
        return _state(self.layers(packed)[1])


class Encoder(nn.Module):
    """Reads the source; its last state is the context vector."""

    def __init__(self, words: int, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, config.embedding_size, padding_idx=PAD)
        self.recurrent = Recurrent(config)

    def forward(self, source: Tensor, lengths: Tensor) -> State:
        """The context vector of source tokens (B, S) of true lengths (B,), which are on the CPU."""
        return self.recurrent.last_state(self.embedding(source), lengths)


class Decoder(nn.Module):
    """Begins in the encoder's last state and predicts the target word by word."""

    def __init__(self, words: int, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, config.embedding_size, padding_idx=PAD)
        self.recurrent = Recurrent(config)
        self.output = nn.Linear(config.hidden_size, words)

    def forward(self, target_in: Tensor, state: State) -> tuple[Tensor, State]:
        """Hidden states (B, T, H) and last state after reading target tokens (B, T)."""
        hidden, state = self.recurrent(self.embedding(target_in), state)
        return hidden, state


class Seq2Seq(nn.Module):
    """Encoder and decoder, as they are trained (`forward`) and used (`encode`, `step`)."""

    def __init__(self, source_words: int, target_words: int, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(source_words, config)
        self.decoder = Decoder(target_words, config)

    def forward(self, source: Tensor, source_lengths: Tensor, target_in: Tensor) -> Tensor:
        """Teacher forcing: the decoder reads the true target, whatever it would have said.

        Args:
            source: (B, S) tokens, padded at the end.
            source_lengths: (B,) true lengths, each at least 1, on the CPU.
            target_in: (B, T) tokens, `<sos>` first.

        Returns:
            (B, T, H) states; `decoder.output` makes the logits of the next words of them.
        """
        hidden: Tensor
        hidden, _ = self.decoder(target_in, self.encode(source, source_lengths))
        return hidden

    def encode(self, source: Tensor, source_lengths: Tensor) -> State:
        """The state in which the decoder begins, for source tokens (B, S) of lengths (B,)."""
        state: State = self.encoder(source, source_lengths)
        return state

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, V) of the word after words (B,), and the state after them."""
        hidden, state = self.decoder(words[:, None], state)  # (B, 1, H)
        logits: Tensor = self.decoder.output(hidden[:, 0])  # (B, V)
        return logits, state


def _state(state: Tensor | State) -> State:
    return (state,) if isinstance(state, Tensor) else state
