"""Greedy decoding over the model's one `step`.

Shapes: B sentences, S source tokens, T target tokens.
"""

import torch
from torch import Tensor

from s2s.model import Seq2Seq
from s2s.text import EOS, SOS


@torch.inference_mode()
def greedy(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, max_length: int
) -> list[list[int]]:
    """The likeliest next word, again and again, until `<eos>` or `max_length` words.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.

    Returns:
        The words of each sentence, without `<sos>` and `<eos>`.
    """
    state = model.encode(source, source_lengths)
    words = torch.full((len(source),), SOS, device=source.device)  # (B,)
    ended = torch.zeros_like(words, dtype=torch.bool)  # (B,)
    steps = []
    for _ in range(max_length):
        logits, state = model.step(words, state)  # (B, V)
        words = logits.argmax(dim=1)  # (B,)
        steps.append(words)
        ended |= words == EOS
        if ended.all():
            break
    return [_until_eos(row) for row in torch.stack(steps, dim=1).tolist()]  # (B, T)


def _until_eos(words: list[int]) -> list[int]:
    return words[: words.index(EOS)] if EOS in words else words
