"""A made-up language: its pairs, and corpora and models made of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from s2s.config import (
    Config,
    DataConfig,
)
from s2s.corpus import Corpus, Manifest
from s2s.model.directory import ModelDirectory
from s2s.preparation import Source, prepare
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training

Pairs = list[tuple[str, str]]
Prepare = Callable[..., Corpus]
SUBJECTS = {"I": "je", "you": "tu", "we": "nous", "they": "ils"}
VERBS = {"see": "vois", "don't see": "ne vois pas", "want": "veux", "it's said that": "on dit :"}
NOUNS = {"school": "l'école", "bread": "le pain", "trees": "les arbres", "Paris": "Paris"}
ENDS = {".": ".", "!": " !", "?": " ?"}


def prepare_file(path: Path | str, config: DataConfig, out: Path, **options: object) -> Manifest:
    """Prepare one source of English and French into the corpus directory `out`."""
    source = Source(source=(str(path),), source_language="en", target_language="fr")
    return prepare(source, config, out, **options)


def train_model(corpus: Corpus, config: Config, out: Path) -> None:
    """Train in this process and make the model directory `out` of the best epoch."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints")
        result = Training(corpus, config, torch.device("cpu"), checkpoints, Path(folder)).run()
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            out.mkdir(exist_ok=True)
            ModelDirectory.load(best).save(out, result.metrics)
