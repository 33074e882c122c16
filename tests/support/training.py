"""Runs of the training loop in this process."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.model.metrics import RunMetrics
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training, TrainingResult

CPU = torch.device("cpu")
SPEEDS = (
    "pairs_per_second",
    "target_tokens_per_second",
    "seconds",
    "valid_seconds",
    "checkpoint_seconds",
)
Weights = dict[str, torch.Tensor]


def settings(**changes: Any) -> Config:
    """A small config with some training settings."""
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32", **changes}
    return Config(
        model=ModelConfig(embedding_size=16, hidden_size=16),
        train=TrainConfig(**values),
        decode=DecodeConfig(max_length=10),
    )


def looking(config: Config, **others: Any) -> Config:
    """The config with a model that has all there is but the loop over words."""
    model: dict[str, Any] = {
        "attention": "general",
        "bidirectional": True,
        "layers": 2,
        "residual": True,
        "embedding_size": 16,
        "hidden_size": 16,
        "tie": "target",
        **others,
    }
    return config.model_copy(update={"model": ModelConfig.model_validate(model)})


def train(
    corpus: Corpus, config: Config, folder: Path, **options: Any
) -> tuple[Weights, TrainingResult]:
    """Train a run in a folder to its end or until it is stopped."""
    checkpoints = Checkpoints(folder / "checkpoints", last=99)
    result = Training(corpus, config, CPU, checkpoints, folder, **options).run()
    [*_, newest] = checkpoints.all()
    with checkpoints.open(newest) as path:
        return load_file(path / "model.safetensors"), result


def trained(
    corpus: Corpus, config: Config, folder: Path, **options: Any
) -> tuple[Weights, RunMetrics]:
    """Train a run in a folder to its end; return its last weights and its metrics."""
    weights, result = train(corpus, config, folder, **options)
    assert result.stopped_at is None
    return weights, result.metrics


def facts(metrics: RunMetrics) -> list[dict[str, Any]]:
    """The epochs of a run without their speeds, which differ each time."""
    return [{k: v for k, v in asdict(e).items() if k not in SPEEDS} for e in metrics.epochs]
