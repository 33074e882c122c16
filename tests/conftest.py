"""A synthetic corpus, and a model trained on it, for every test that needs one."""

import os

# Read when the libraries are imported, so they are set before any of them is.
os.environ.update(
    HF_DATASETS_OFFLINE="1",
    HF_HUB_OFFLINE="1",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
)

from itertools import product
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from s2s.config import (
    Config,
    CorpusConfig,
    DataConfig,
    DecodeConfig,
    ModelConfig,
    TrainConfig,
)
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from tests.support.corpora import (
    ENDS,
    NOUNS,
    SUBJECTS,
    VERBS,
    Pairs,
    Prepare,
    prepare_file,
    train_model,
)

torch.set_num_threads(1)
datasets.disable_progress_bars()
# The same examples in every run: a test that fails by chance tells nobody which change broke it.
settings.register_profile("s2s", deadline=None, derandomize=True, database=None)
settings.load_profile("s2s")


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    """192 pairs of a language of our own, with apostrophes, accents and marks."""
    return [
        (f"{s} {v} {n}{e}", f"{SUBJECTS[s]} {VERBS[v]} {NOUNS[n]}{ENDS[e]}")
        for s, v, n, e in product(SUBJECTS, VERBS, NOUNS, ENDS)
    ]


@pytest.fixture(scope="session")
def pairs_file(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs as tab-separated lines."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), "utf-8")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Prepares pairs, the way a user would: from a file into a corpus directory."""

    def run(pairs: Pairs, text: str = "lossless", **settings: object) -> Corpus:
        folder = tmp_path_factory.mktemp("prepared")
        lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
        (folder / "pairs.txt").write_text(lines, "utf-8")
        config = DataConfig.model_validate(
            {"text": {"normaliser": text}, "corpus": {"valid": 0.1, "test": 0.1, **settings}}
        )
        prepare_file(folder / "pairs.txt", config, folder / "corpus")
        return Corpus.open(folder / "corpus")

    return run


@pytest.fixture(scope="session")
def corpus(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus directory of the pairs, opened."""
    out = tmp_path_factory.mktemp("corpora") / "corpus"
    config = DataConfig(corpus=CorpusConfig(valid=0.1, test=0.1))
    prepare_file(pairs_file, config, out)
    return Corpus.open(out)


@pytest.fixture(scope="session")
def tiny() -> Config:
    """Settings of a model that trains in a second."""
    return Config(
        corpus=CorpusConfig(valid=0.1, test=0.1),
        model=ModelConfig(embedding_size=16, hidden_size=16),
        train=TrainConfig(epochs=25, batch_size=16, learning_rate=2e-2),
        decode=DecodeConfig(max_length=12, batch_size=8),
    )


@pytest.fixture(scope="session")
def model_dir(corpus: Corpus, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory trained on the corpus."""
    path = tmp_path_factory.mktemp("models") / "model"
    train_model(corpus, tiny, path)
    return path


@pytest.fixture
def translator(model_dir: Path) -> Translator:
    """The translator of the model directory."""
    return Translator.load(model_dir)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the system tests, which take the longest."""
    items.sort(key=lambda item: "system" not in item.path.parts)


class OneClusterScheduling(LoadFileScheduling):
    """Gives a file of tests to one process, with its servers, and all system tests to one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/system" if file.startswith("tests/system/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneClusterScheduling:
    """Schedule tests by what they share."""
    return OneClusterScheduling(config, log)
