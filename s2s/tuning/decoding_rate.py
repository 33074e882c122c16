"""How fast a model translates, as trials of a sweep are compared by it."""

import time

import numpy as np
import torch

from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.training.checkpoints import Checkpoints

_SENTENCES, _WARM_UP = 256, 8


def words_per_second(checkpoints: Checkpoints, corpus: Corpus, device: torch.device) -> float:
    """Return the words of `valid` that the model of the best checkpoint translates in a second.

    The model decodes greedily, and translates up to 256 sentences, evenly spaced. Words are those
    of the sources, between spaces.

    Raises:
        BadInput: there is no whole checkpoint of the end of an epoch.
    """
    with checkpoints.open(checkpoints.best(1)[0]) as path:
        directory = ModelDirectory.load(path)
    directory.model.to(device).eval()
    greedy = {"beam": 1, "n_best": 1, "temperature": None, "shortlist": None}
    translator = Translator(directory, directory.config.decode.model_copy(update=greedy))
    valid = corpus.split("valid")
    rows = np.linspace(0, len(valid) - 1, min(_SENTENCES, len(valid)), dtype=int)
    sources = valid.select(rows)["source"][:]
    translator.translate_rows(sources[:_WARM_UP])
    begin = time.perf_counter()
    translator.translate_rows(sources)
    return sum(len(source.split()) for source in sources) / (time.perf_counter() - begin)
