"""A model directory made of a run's checkpoints, and what a run begins with; all without Ray."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from s2s.config import Config, TrainConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput, Failed
from s2s.model.metrics import RunMetrics
from s2s.training.checkpoints import Checkpoints
from s2s.training.export import export
from s2s.training.loop import Training
from s2s.training.run import initial_model_config, run_checkpoints, run_config
from tests.support.corpora import Prepare


@dataclass(frozen=True)
class Run:
    """A run of three epochs that has ended."""

    folder: Path
    config: Config
    metrics: RunMetrics

    def checkpoints(self, **settings: Any) -> tuple[Checkpoints, TrainConfig]:
        changed = self.config.train.model_copy(update=settings)
        return run_checkpoints(self.folder, changed), changed


@pytest.fixture(scope="module")
def run(corpus: Corpus, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    settings = tiny.train.model_copy(update={"epochs": 3, "keep_best": 3})
    config = run_config(corpus, tiny.model, settings, tiny.decode)
    checkpoints = run_checkpoints(folder, config.train)
    result = Training(corpus, config, torch.device("cpu"), checkpoints, folder).run()
    return Run(folder, config, result.metrics)


def weights(checkpoints: Checkpoints, epoch: int) -> dict[str, torch.Tensor]:
    [kept] = [kept for kept in checkpoints.all() if kept.epoch == epoch]
    with checkpoints.open(kept) as path:
        return load_file(path / "model.safetensors")


def test_the_model_is_the_best_epoch_s_with_its_scores(
    run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    checkpoints, settings = run.checkpoints()
    out = tmp_path / "model"
    metrics = export(
        checkpoints, run.metrics, settings, corpus.path, out, 12.5, versions={"ray": "2"}
    )
    assert RunMetrics.load(out) == metrics
    assert run.metrics.best is not None and metrics.valid is not None
    best = run.metrics.best.epoch
    assert metrics.weights == f"of epoch {best}"
    for name, weight in load_file(out / "model.safetensors").items():
        assert torch.equal(weight, weights(checkpoints, best)[name])
    assert metrics.valid.valid_loss == pytest.approx(run.metrics.best.valid_loss)
    assert metrics.total_seconds == 12.5
    assert metrics.versions == {**run.metrics.versions, "ray": "2"}
    assert {score.name for score in metrics.scores} == {"BLEU", "chrF2", "TER"}


@pytest.mark.parametrize(("average", "epochs"), [("last", [2, 3]), ("best", None)])
def test_the_model_is_the_mean_of_some_epochs(
    average: str, epochs: list[int] | None, run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    checkpoints, settings = run.checkpoints(average=average, average_epochs=2)
    out = tmp_path / "model"
    metrics = export(checkpoints, run.metrics, settings, corpus.path, out, 1.0)
    losses = sorted((epoch.valid_loss, epoch.epoch) for epoch in run.metrics.epochs)
    epochs = epochs or sorted(epoch for _, epoch in losses[:2])
    assert metrics.weights == f"the mean of epochs {epochs[0]}, {epochs[1]}"
    one, two = (weights(checkpoints, epoch) for epoch in epochs)
    for name, weight in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(weight, (one[name] + two[name]) / 2)


def test_a_damaged_checkpoint_is_left_out_and_without_any_there_is_no_model(
    run: Run, corpus: Corpus, tmp_path: Path
) -> None:
    checkpoints, settings = run.checkpoints()
    lines: list[str] = []
    damaged = [kept.name for kept in checkpoints.best(3)]
    kept = {name: (run.folder / "checkpoints" / name / "config.json") for name in damaged}
    before = {name: file.read_bytes() for name, file in kept.items()}
    try:
        kept[damaged[0]].write_bytes(b"{}")
        metrics = export(
            checkpoints, run.metrics, settings, corpus.path, tmp_path / "m", 1.0, log=lines.append
        )
        second = checkpoints.best(2)[1].epoch
        assert metrics.weights == f"of epoch {second}"
        assert len(lines) == 1
        assert "is damaged" in lines[0]
        for file in kept.values():
            file.write_bytes(b"{}")
        with pytest.raises(Failed, match="no whole checkpoint"):
            export(checkpoints, run.metrics, settings, corpus.path, tmp_path / "none", 1.0)
        assert not (tmp_path / "none").exists()
    finally:
        for name, file in kept.items():
            file.write_bytes(before[name])


def test_a_run_begins_with_a_model_of_its_corpus_vocabularies_alone(
    corpus: Corpus, model_dir: Path, tiny: Config, prepared: Prepare, tmp_path: Path
) -> None:
    assert initial_model_config(model_dir, corpus) == tiny.model
    other = prepared([(f"word{n} one", f"mot{n} un") for n in range(40)])
    with pytest.raises(BadInput, match=f"--vocabularies {model_dir}"):
        initial_model_config(model_dir, other)
    with pytest.raises(BadInput, match="not a model directory"):
        initial_model_config(tmp_path, corpus)
