"""The one entry to all searches: greedy decoding, sampling and beam search.

Shapes: B sentences, S source tokens.
"""

import threading
from weakref import WeakKeyDictionary

from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.beam import beam_search
from s2s.decoding.greedy import greedy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.decoding.recorded_beam import RecordedBeam
from s2s.decoding.recorded_greedy import RecordedGreedy
from s2s.decoding.sampling import sample
from s2s.model.seq2seq import Seq2Seq


def decode(
    model: Network,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """Return the `n_best` translations of each sentence, best first, by the settings' search.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: without them, greedy hypotheses have no scores and none has attention, but for
            the `alignment` where unknown tokens are copied by it.
    """
    if settings.temperature is not None:
        return sample(model, source, source_lengths, settings, details)
    if source.is_cuda and not details and isinstance(model, Seq2Seq):
        return decode_recorded(model, source, source_lengths, settings)
    if settings.beam == 1:
        return [[best] for best in greedy(model, source, source_lengths, settings, details)]
    return beam_search(model, source, source_lengths, settings, details)


# Buffers and graphs of a model live as long as the model does.
_RECORDED: WeakKeyDictionary[Seq2Seq, tuple[RecordedGreedy, RecordedBeam]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def decode_recorded(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
) -> list[list[Hypothesis]]:
    """Return what `decode` does without details, by steps that are recorded on a GPU.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
    """
    with _LOCK:
        if model not in _RECORDED:
            _RECORDED[model] = RecordedGreedy(source.device), RecordedBeam(source.device)
        recorded_greedy, recorded_beam = _RECORDED[model]
    if settings.beam == 1:
        return recorded_greedy.decode(model, source, source_lengths, settings)
    return recorded_beam.decode(model, source, source_lengths, settings)
