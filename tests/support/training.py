"""Runs of the training loop without Ray, by one process or several."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.model.metrics import RunMetrics
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training, TrainingResult
from s2s.training.run import Watch

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
    return [
        {k: v for k, v in asdict(e).items() if k not in SPEEDS and v is not None}
        for e in metrics.epochs
    ]


# Each is a fork of a process that has imported all this, and has neither threads nor a state.
PROCESSES = mp.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def work(
    rank: int,
    world: int,
    corpus: Path,
    config: str,
    folder: Path,
    watch: Watch | None,
    shares_memory: bool,
) -> None:
    """Train as one of several processes; the first leaves its weights, and each its record."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    meet = f"file://{folder}/meet-{world}"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    try:
        read = Config.from_json(config, "here")
        checkpoints = Checkpoints(folder / "checkpoints", last=99)
        training = Training(
            Corpus.open(corpus), read, CPU, checkpoints, folder,
            watch=watch, shares_memory=shares_memory,
        )  # fmt: skip
        result = training.run()
        assert result.stopped_at is None
    finally:
        dist.destroy_process_group()
        (folder / f"meet-{world}").unlink(missing_ok=True)
    (folder / f"{rank}.json").write_text(result.metrics.to_json())
    weights = {name: weight.clone() for name, weight in training.model.named_weights().items()}
    save_file(weights, folder / f"{rank}.safetensors")


def together(
    world: int,
    corpus: Corpus,
    config: Config,
    folder: Path,
    watch: Watch | None = None,
    *,
    shares_memory: bool = True,
) -> tuple[Weights, RunMetrics]:
    """Train with several worker processes, of which this is one; return weights and metrics.

    All processes end with the same weights, to the bit.
    """
    folder.mkdir(exist_ok=True)
    shared = (world, corpus.path, config.to_json(), folder, watch, shares_memory)
    others = [PROCESSES.Process(target=work, args=(rank, *shared)) for rank in range(1, world)]
    for other in others:
        other.start()
    work(0, *shared)
    for other in others:
        other.join()
        assert other.exitcode == 0
    records = [
        RunMetrics.model_validate_json((folder / f"{rank}.json").read_text())
        for rank in range(world)
    ]
    assert all(facts(record) == facts(records[0]) for record in records)
    assert len(records[0].epochs) == config.train.epochs
    assert records[0].workers == world
    first, *others = (load_file(folder / f"{rank}.safetensors") for rank in range(world))
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    return first, records[0]
