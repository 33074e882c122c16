"""The network as searches see it.

Shapes: B sentences, N hypotheses, S source tokens, V target vocabulary.
"""

from typing import Protocol

from torch import Tensor

from s2s.model.seq2seq import DecoderState


class Network(Protocol):
    """What searches need of a network: `Seq2Seq` is one."""

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state for source tokens (B, S) of lengths (B,)."""
        ...

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token (N,) of each hypothesis.

        Returns:
            Logits (N, V) of the next tokens, or of those that the state's `tokens_of` names; with
            attention, the weights (N, S) of the source tokens; the state after `tokens`.
        """
        ...
