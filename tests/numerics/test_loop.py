"""The training loop: it learns, it resumes, workers agree, and its sums are what they say."""

import json
import math
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from s2s.batches import Batch, Batches
from s2s.bundle import Bundle
from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput, Failed
from s2s.loop import STATE, Run, train, validate
from s2s.loss import Sums
from s2s.text import PAD
from tests.conftest import Prepare

CPU = torch.device("cpu")
SPEEDS = ("pairs_per_second", "target_tokens_per_second", "seconds", "valid_seconds")
Pairs = list[tuple[str, str]]
Weights = dict[str, torch.Tensor]


def settings(**changes: Any) -> Config:
    """A small config with some training settings."""
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **changes}
    return Config(
        model=ModelConfig(embedding_size=16, hidden_size=16),
        train=TrainConfig(**values),
        decode=DecodeConfig(max_length=10),
    )


def trained(corpus: Corpus, config: Config, **others: Any) -> tuple[Weights, dict[str, Any]]:
    """The last weights of a run and what it says of itself."""
    runs: list[Run] = []
    metrics = train(corpus, config, CPU, runs.append, **others)
    return runs[-1].bundle.model.state_dict(), metrics


def facts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The epochs of a run without their speeds, which differ each time."""
    return [{k: v for k, v in e.items() if k not in SPEEDS} for e in metrics["epochs"]]


@pytest.fixture(scope="module")
def odd(pairs: Pairs, prepared: Prepare) -> Corpus:
    """49 rows to train on: in batches of 8, the last has one."""
    corpus = prepared(pairs[:55], split="random", test=0)
    assert corpus.manifest.rows == {"train": 49, "valid": 6}
    return corpus


@pytest.fixture
def checkpoint(odd: Corpus, tmp_path: Path) -> Path:
    """A checkpoint after two epochs."""
    train(odd, settings(epochs=2), CPU, lambda run: run.save(tmp_path))
    return tmp_path


# ---- learning -----------------------------------------------------------------------------------


def test_copying_is_learned(prepared: Prepare) -> None:
    chance = random.Random(0)  # noqa: S311
    words = ["ab", "cd", "ef", "gh", "ij", "kl"]
    lines = {" ".join(chance.choices(words, k=chance.randint(2, 4))) for _ in range(2_000)}
    corpus = prepared([(line, line) for line in sorted(lines)], test=0, clean={"identical": False})
    config = Config(
        model=ModelConfig(embedding_size=32, hidden_size=64),
        train=TrainConfig(epochs=30, batch_size=32, learning_rate=5e-3),
    )
    _, metrics = trained(corpus, config)
    assert metrics["best"]["valid_token_accuracy"] >= 0.98


def test_a_seed_decides_the_weights_to_the_bit(odd: Corpus) -> None:
    (first, said), (second, again) = (trained(odd, settings(seed=1)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert facts(said) == facts(again)


def test_another_seed_gives_other_weights(odd: Corpus) -> None:
    first, second = (trained(odd, settings(seed=seed, epochs=1))[0] for seed in (1, 2))
    assert not torch.equal(first["decoder.output.weight"], second["decoder.output.weight"])


def test_the_record_tells_every_epoch_and_the_best(odd: Corpus) -> None:
    _, metrics = trained(odd, settings(epochs=3))
    assert [record["epoch"] for record in metrics["epochs"]] == [1, 2, 3]
    assert metrics["best"] == min(metrics["epochs"], key=lambda record: record["valid_loss"])
    assert metrics["epochs"][-1]["train_loss"] < metrics["epochs"][0]["train_loss"]
    assert metrics["workers"] == 1
    assert metrics["corpus"]["pairs"] == 49


def test_every_step_is_told(odd: Corpus) -> None:
    told: list[tuple[int, int, int]] = []
    train(odd, settings(), CPU, lambda run: None, lambda *step: told.append(step))
    assert told == [(epoch, step, 7) for epoch in (1, 2) for step in range(1, 8)]


def test_a_learning_rate_that_is_far_too_large_fails(odd: Corpus) -> None:
    with pytest.raises(Failed, match="learning-rate") as caught:
        train(odd, settings(learning_rate=1e38), CPU, lambda run: None)
    assert len(str(caught.value).splitlines()) == 1


def test_an_epoch_whose_last_step_ruined_the_weights_is_not_kept(odd: Corpus) -> None:
    # One step: its own loss is still that of the first weights, only the validation's is not.
    kept: list[Run] = []
    with pytest.raises(Failed):
        train(odd, settings(batch_size=64, epochs=1, learning_rate=3e38), CPU, kept.append)
    assert kept == []


# ---- workers ------------------------------------------------------------------------------------


def work(rank: int, world: int, corpus: Path, config: str, folder: Path) -> None:
    """Train as one of several processes; each leaves its weights and its record."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    try:
        weights, metrics = trained(Corpus.open(corpus), Config.from_json(config, "here"))
    finally:
        dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(metrics))
    save_file(weights, folder / f"{rank}.safetensors")


def test_two_workers_train_as_one_does(odd: Corpus, tmp_path: Path) -> None:
    config = settings(epochs=3)
    alone, said = trained(odd, config)
    shared = (2, odd.path, config.to_json(), tmp_path)
    other = mp.get_context("spawn").Process(target=work, args=(1, *shared))
    other.start()
    work(0, *shared)
    other.join()
    assert other.exitcode == 0
    for rank in range(2):
        weights = load_file(tmp_path / f"{rank}.safetensors")
        record = json.loads((tmp_path / f"{rank}.json").read_text())
        for name, weight in alone.items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-4)
        assert record["workers"] == 2
        for one, two in zip(facts(said), facts(record), strict=True):
            assert two == pytest.approx(one, rel=1e-4)


# ---- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_equals_one_that_never_stopped(odd: Corpus, checkpoint: Path) -> None:
    weights, said = trained(odd, settings(epochs=4))
    resumed, also_said = trained(odd, settings(epochs=4), resume=checkpoint)
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    assert facts(also_said) == facts(said)


def test_a_finished_run_resumed_trains_no_more(odd: Corpus, checkpoint: Path) -> None:
    ended: list[Run] = []
    metrics = train(odd, settings(epochs=2), CPU, ended.append, resume=checkpoint)
    assert ended == []
    assert len(metrics["epochs"]) == 2


def test_a_checkpoint_is_a_model_directory(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    loaded = Bundle.load(checkpoint).model.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("content", [None, b"", b"junk", "cut"])
def test_a_broken_checkpoint_is_bad_input(
    content: bytes | str | None, odd: Corpus, checkpoint: Path
) -> None:
    whole = (checkpoint / STATE).read_bytes()
    (checkpoint / STATE).unlink()
    if content is not None:
        (checkpoint / STATE).write_bytes(whole[:999] if isinstance(content, str) else content)
    with pytest.raises(BadInput, match=STATE):
        train(odd, settings(epochs=3), CPU, lambda run: None, resume=checkpoint)


class Mischief:
    """What a pickle that runs code is made of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_cannot_run_code(odd: Corpus, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / STATE).write_bytes(pickle.dumps(Mischief(tmp_path / "touched"), 2))
    with pytest.raises(BadInput):
        train(odd, settings(epochs=3), CPU, lambda run: None, resume=checkpoint)
    torch.save({"optimizer": Mischief(tmp_path / "touched")}, checkpoint / STATE)
    with pytest.raises(BadInput):
        train(odd, settings(epochs=3), CPU, lambda run: None, resume=checkpoint)
    assert not (tmp_path / "touched").exists()


# ---- sums ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(model_dir: Path) -> Bundle:
    """The tiny model, made a little worse, so that it is wrong here and there."""
    bundle = Bundle.load(model_dir)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in bundle.model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return bundle


def predictions(bundle: Bundle, batch: Batch) -> torch.Tensor:
    """The logits of all positions, padding included, (B, T, V)."""
    everywhere = torch.ones_like(batch.target_out, dtype=torch.bool)
    with torch.no_grad():
        flat = bundle.model(batch.source, batch.source_lengths, batch.target_in, everywhere)
    return flat.view(*batch.target_out.shape, -1)


def test_sums_are_the_same_however_the_rows_are_batched(bundle: Bundle, corpus: Corpus) -> None:
    rows = corpus.part("train")
    whole = validate(bundle.model, Batches(rows, len(rows)).epoch(0), CPU)
    for size in (1, 7, 16):
        sums = validate(bundle.model, Batches(rows, size).epoch(0), CPU)
        assert sums.loss == pytest.approx(whole.loss, rel=1e-5)
        assert replace(sums, loss=0.0) == replace(whole, loss=0.0)


def test_sums_of_the_parts_add_up_to_the_sums_of_all(bundle: Bundle, corpus: Corpus) -> None:
    rows = corpus.part("train")
    whole = validate(bundle.model, Batches(rows, 16).epoch(0), CPU)
    shares = [
        validate(bundle.model, Batches(rows, 16, rank=rank, world=3).epoch(0), CPU)
        for rank in range(3)
    ]
    assert sum(share.loss for share in shares) == pytest.approx(whole.loss, rel=1e-5)
    assert sum(share.correct for share in shares) == whole.correct
    assert sum(share.tokens for share in shares) == whole.tokens
    assert sum(share.sentences for share in shares) == whole.sentences == len(rows)


def test_the_loss_is_the_mean_over_real_tokens(bundle: Bundle, corpus: Corpus) -> None:
    rows = corpus.part("valid")
    losses = []
    for batch, _ in Batches(rows, len(rows)).epoch(0):
        surprise = -predictions(bundle, batch).log_softmax(dim=-1)
        for row, target in zip(surprise, batch.target_out.tolist(), strict=True):
            losses += [float(row[i, word]) for i, word in enumerate(target) if word != PAD]
    sums = validate(bundle.model, Batches(rows, 4).epoch(0), CPU)
    assert sums.mean_loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)


def test_both_accuracies_equal_a_count_over_the_whole_padded_matrix(
    bundle: Bundle, corpus: Corpus
) -> None:
    rows = corpus.part("valid")
    longest = corpus.manifest.longest["target"] + 3
    [(batch, _)] = Batches(rows, len(rows)).epoch(0)
    width = batch.target_out.shape[1]
    target = torch.nn.functional.pad(batch.target_out, (0, longest - width), value=PAD)
    said = torch.full_like(target, PAD)
    said[:, :width] = predictions(bundle, batch).argmax(dim=-1)
    said[target == PAD] = PAD  # decoding has stopped
    sums = validate(bundle.model, Batches(rows, 4).epoch(0), CPU)
    assert sums.padded_accuracy(longest) == pytest.approx(float((said == target).double().mean()))
    real = target != PAD
    assert sums.token_accuracy == pytest.approx(float((said == target)[real].double().mean()))
    assert 0 < sums.token_accuracy < sums.padded_accuracy(longest) < 1


def test_accuracies_are_simple_shares() -> None:
    sums = Sums(loss=10.0, correct=6.0, tokens=8.0, sentences=2.0)
    assert sums.mean_loss == 10 / 8
    assert sums.token_accuracy == 6 / 8
    assert sums.padded_accuracy(10) == (6 + 20 - 8) / 20
