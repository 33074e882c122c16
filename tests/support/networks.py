"""Networks of every kind, with weights drawn from a seed, and sources for them."""

import numpy as np
import torch

from s2s.config import ModelConfig
from s2s.decoding.runtime import WithoutOutputLayer
from s2s.decoding.shortlist import Shortlist
from s2s.decoding.shortlisted import ShortlistedNetwork
from s2s.model.adaptive import AdaptiveOutput
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import EOS

KINDS: dict[str, dict[str, object]] = {
    "none": {},
    "gru": {"cell": "gru", "layers": 2},
    "general": {"attention": "general", "bidirectional": True},
    "feeding": {"attention": "additive", "input_feeding": True, "layers": 2},
    "adaptive": {"attention": "general", "output": "adaptive", "frequent_words": 5},
    "tied": {"attention": "dot", "tie": "all", "reverse_source": True},
}


def made(name: str, words: int = 12, sharpness: float = 4.0) -> Seq2Seq:
    """A model of a kind, with random weights that make it surer than fresh ones are."""
    torch.manual_seed(3)
    config = ModelConfig.model_validate({"embedding_size": 8, "hidden_size": 16, **KINDS[name]})
    model = Seq2Seq(words, words, config).eval()
    with torch.no_grad():
        output_bias(model).normal_()
        for weight in model.parameters():
            weight *= sharpness
    return model


def output_bias(model: Seq2Seq) -> torch.Tensor:
    """The bias of the output layer, or that of an adaptive one's head."""
    output = model.decoder.output
    return output.head.bias if isinstance(output, AdaptiveOutput) else output.bias


def reluctant(name: str) -> Seq2Seq:
    """A model of a kind that seldom ends a translation, and so often loops."""
    model = made(name)
    with torch.no_grad():
        output_bias(model)[EOS] -= 12
    return model


def some_sources(count: int = 12, words: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sentences of 1 to 6 words."""
    random = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, 7, (count,), generator=random)
    source = torch.randint(4, words, (count, 6), generator=random)
    return source * (torch.arange(6) < lengths[:, None]), lengths


# Of 12 words, each source word has two likely target words; the first two are frequent.
SHORTLIST_OF_NUMBERS = Shortlist(
    likely=np.array([4 + n * 3 % 8 for n in range(24)], np.int32),
    offsets=np.arange(0, 26, 2),
    frequent=np.arange(4, 12, dtype=np.int32),
    vocabularies="",
)


def shortlisted(model: Seq2Seq, size: int = 2) -> ShortlistedNetwork:
    """A network of a model of 12 words whose translations have likely words alone."""
    output = model.decoder.output
    return ShortlistedNetwork(WithoutOutputLayer(model), output, SHORTLIST_OF_NUMBERS, size)
