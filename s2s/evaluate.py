"""The scores of a model directory on a part of a corpus."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from s2s.batches import Batches
from s2s.bundle import Bundle
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.loop import validate
from s2s.metrics import score
from s2s.text import EOS
from s2s.translator import Translator


def evaluate(
    model: Path,
    corpus: Path,
    part: str,
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> dict[str, Any]:
    """Loss and accuracies under teacher forcing, and BLEU and chrF of greedy translations.

    The sentences of the corpus are encoded anew with the model's own vocabularies, so a model can
    be scored on a corpus that it was not trained on. Rows of one source are one sentence with
    several references, which are the sentences as read; where the model normalises its target, a
    second set of scores has normalised references. A source without a word for the model ("123"
    under `tutorial`) is counted as wordless: it has an empty translation, and no part in loss and
    accuracies.

    Args:
        on_batch: told the number of sentences of each translated batch.

    Raises:
        BadInput: either directory is broken, they are of different languages, or the corpus has
            no such part.
    """
    bundle = Bundle.load(model)
    opened = Corpus.open(corpus)
    ours, theirs = (
        (config.source_language, config.target_language)
        for config in (bundle.config, opened.manifest.config)
    )
    if ours != theirs:
        raise BadInput(f"{model} translates {'-'.join(ours)}, {corpus} holds {'-'.join(theirs)}")
    rows = opened.part(part)

    encoded = Dataset.from_dict(
        {
            "source_ids": bundle.source.encode(rows["source"][:]),
            "target_ids": [[*ids, EOS] for ids in bundle.target.encode(rows["target"][:])],
        }
    )
    spoken = [row for row, ids in enumerate(encoded["source_ids"]) if ids]
    if not spoken:
        raise BadInput(f"{corpus}: no source sentence of {part!r} has a word that {model} reads")
    batches = Batches(encoded.select(spoken), bundle.config.train.batch_size)
    sums = validate(bundle.model, batches, torch.device("cpu"))
    longest = max(opened.manifest.longest["target"], batches.longest_target)

    references: dict[str, list[str]] = {}
    for source, target in zip(rows["source"][:], rows["target"][:], strict=True):
        references.setdefault(source, []).append(target)
    translations = Translator(bundle).translate(list(references), on_batch)
    scores = score(translations, list(references.values()), "as read")
    if bundle.config.text.normaliser != "lossless":
        normalised = [[*map(bundle.target.normalise, group)] for group in references.values()]
        scores += score(translations, normalised, "normalised")
    return {
        "part": part,
        "pairs": len(rows),
        "sentences": len(references),
        "wordless": len(rows) - len(spoken),
        "loss": sums.mean_loss,
        "token_accuracy": sums.token_accuracy,
        "padded_accuracy": sums.padded_accuracy(longest),
        "scores": [asdict(result) for result in scores],
    }
