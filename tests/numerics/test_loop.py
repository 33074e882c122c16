"""The training loop: it learns, it resumes, workers agree, and its sums are what they say."""

import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from s2s.config import Config, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.corpus.batches import Batch, Batches
from s2s.errors import BadInput, Failed
from s2s.evaluation.evaluate import evaluate
from s2s.evaluation.teacher_forcing import validate
from s2s.files import sha256
from s2s.model.directory import ModelDirectory
from s2s.model.loss import TokenSums
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.text.vocabulary import PAD
from s2s.training import step_log
from s2s.training.checkpoints import CheckpointManifest, Checkpoints, FileHash
from s2s.training.host import Progress, SilentHost
from s2s.training.run import Watch
from s2s.training.signals import Signals
from s2s.training.state import STATE
from s2s.training.trackers.json_lines import JsonLines, read_samples
from s2s.training.trackers.tracker import TrackedRun
from tests.support.corpora import Prepare
from tests.support.training import (
    Weights,
    facts,
    looking,
    settings,
    together,
    train,
    trained,
)

Pairs = list[tuple[str, str]]


class Recorder(SilentHost):
    """A host that records all calls, and sends signals before one step."""

    def __init__(self, signals: Signals | None = None, at: int = 0) -> None:
        self.lines: list[str] = []
        self.reports: list[Progress] = []
        self.epochs: list[EpochRecord] = []
        self._signals, self._left = signals, at

    def log(self, line: str) -> None:
        self.lines.append(line)

    def report_progress(self, progress: Progress) -> None:
        self.reports.append(progress)

    def report_epoch(self, metrics: RunMetrics) -> None:
        self.epochs.append(metrics.epochs[-1])

    def signals(self) -> Signals:
        self._left -= 1
        return self._signals if self._signals is not None and self._left == 0 else Signals()


def same(one: Weights, other: Weights) -> bool:
    """Whether weights are equal to the bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def odd(pairs: Pairs, prepared: Prepare) -> Corpus:
    """49 rows to train on: in batches of 8, the last has one."""
    corpus = prepared(pairs[:55], split="random", test=0)
    assert corpus.manifest.rows == {"train": 49, "valid": 6}
    return corpus


# ---- learning -----------------------------------------------------------------------------------


def test_copying_is_learned(prepared: Prepare, tmp_path: Path) -> None:
    chance = random.Random(0)
    words = ["ab", "cd", "ef", "gh", "ij", "kl"]
    lines = {" ".join(chance.choices(words, k=chance.randint(2, 4))) for _ in range(2_000)}
    corpus = prepared([(line, line) for line in sorted(lines)], test=0, clean={"identical": False})
    config = Config(
        model=ModelConfig(embedding_size=32, hidden_size=64),
        train=TrainConfig(epochs=30, batch_size=32, learning_rate=5e-3),
    )
    _, metrics = trained(corpus, config, tmp_path)
    assert metrics.best is not None
    assert metrics.best.valid_token_accuracy >= 0.98


def test_a_seed_decides_the_weights_to_the_bit(odd: Corpus, tmp_path: Path) -> None:
    first, expected = trained(odd, settings(seed=1), tmp_path / "one")
    second, actual = trained(odd, settings(seed=1), tmp_path / "two")
    assert same(first, second)
    assert facts(expected) == facts(actual)


def test_another_seed_gives_other_weights(odd: Corpus, tmp_path: Path) -> None:
    first, second = (
        trained(odd, settings(seed=seed, epochs=1), tmp_path / str(seed))[0] for seed in (1, 2)
    )
    assert not torch.equal(first["decoder.output.weight"], second["decoder.output.weight"])


def test_the_record_tells_every_epoch_and_the_best(odd: Corpus, tmp_path: Path) -> None:
    host = Recorder()
    _, metrics = trained(odd, settings(epochs=3), tmp_path, host=host)
    assert [record.epoch for record in metrics.epochs] == [1, 2, 3]
    assert [record.steps for record in metrics.epochs] == [7, 14, 21]
    assert host.epochs == list(metrics.epochs)
    assert metrics.best == min(metrics.epochs, key=lambda record: record.valid_loss)
    assert metrics.epochs[-1].train_loss < metrics.epochs[0].train_loss
    assert metrics.workers == 1
    assert metrics.corpus.pairs == 49


def test_a_checkpoint_has_the_metrics_so_far_as_text(odd: Corpus, tmp_path: Path) -> None:
    # The format of metrics.json is frozen: order of the keys, indentation, no field that is unset.
    _, metrics = trained(odd, settings(epochs=1, checkpoint_steps=3), tmp_path)
    first, *_, last = sorted((tmp_path / "checkpoints").glob("step-*/metrics.json"))
    text = first.read_text()
    known = json.loads(text)
    assert text == json.dumps(known, indent=2) + "\n"
    assert list(known) == [
        "epochs", "best", "workers", "device", "threads", "precision", "seed", "corpus", "versions",
    ]  # fmt: skip
    assert (known["epochs"], known["best"]) == ([], None)
    assert list(known["corpus"]) == ["sources", "pairs"]
    assert json.loads(last.read_text())["epochs"] == [asdict(metrics.epochs[0])]
    assert last.read_text() == metrics.to_json()


@pytest.mark.parametrize(
    ("changes", "steps"), [({}, range(7, 8)), ({"batch_tokens": 40}, range(8, 50))]
)
def test_the_train_loss_is_the_mean_over_all_tokens_of_all_rows(
    changes: dict[str, Any], steps: range, odd: Corpus, tmp_path: Path
) -> None:
    # With a learning rate of next to nothing, it is the loss of the first weights.
    config = settings(epochs=1, learning_rate=1e-12, **changes)
    weights, metrics = trained(odd, config, tmp_path)
    directory = ModelDirectory.new(config, odd.source, odd.target)
    directory.model.load_state_dict(weights)
    sums = validate(directory.model, Batches(odd.split("train"), 16))
    assert metrics.epochs[0].train_loss == pytest.approx(sums.mean_loss, rel=1e-5)
    assert metrics.epochs[0].steps in steps


def test_steps_are_reported_and_logged(
    odd: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_log, "_REPORT_SECONDS", 0)
    host, file = Recorder(), tmp_path / "metrics.jsonl"
    config = settings(log_steps=3, clip_norm=0.5)
    trained(
        odd,
        config,
        tmp_path,
        host=host,
        make_tracker=lambda step: JsonLines(TrackedRun("run", tmp_path, {}, step)),
    )
    assert [(p.epoch, p.step, p.steps) for p in host.reports] == [
        (epoch, step, 7) for epoch in (1, 2) for step in range(1, 8)
    ]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7, 9, 12, 14]
    assert lines[0]["train/learning_rate"] == 1e-2
    assert lines[0]["train/gradient_norm"] > 0
    assert 0 <= lines[0]["train/data_wait_share"] <= 1
    assert lines[2]["valid/loss"] == host.epochs[0].valid_loss


def test_accumulated_parts_give_the_gradient_of_the_whole(odd: Corpus, tmp_path: Path) -> None:
    whole, expected = trained(odd, settings(), tmp_path / "whole")
    parts, actual = trained(odd, settings(accumulate=3), tmp_path / "parts")
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=1e-3, atol=1e-4)
    for one, other in zip(facts(expected), facts(actual), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_a_run_without_patience_left_ends_early(odd: Corpus, tmp_path: Path) -> None:
    # So small a step changes no weight that is not about zero: epochs are hardly any better.
    _, metrics = trained(odd, settings(epochs=9, learning_rate=1e-12, patience=2), tmp_path)
    losses = [record.valid_loss for record in metrics.epochs]
    assert len(losses) < 9
    assert min(losses) == losses[-3]


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bw"), reason="needs a CPU with AVX-512"
)
def test_bf16_trains_nearly_as_fp32_does(odd: Corpus, tmp_path: Path) -> None:
    weights, exact = trained(odd, settings(epochs=5), tmp_path / "fp32")
    others, rounded = trained(odd, settings(epochs=5, precision="bf16"), tmp_path / "bf16")
    assert rounded.precision == "bf16"
    assert not same(weights, others)  # else it was computed in float32
    assert rounded.epochs[-1].valid_loss == pytest.approx(exact.epochs[-1].valid_loss, rel=0.05)


def test_bf16_on_a_cpu_without_avx512_is_bad_input() -> None:
    code = """if True:
        import torch
        from s2s.training.precision import choose_precision
        choose_precision("bf16", torch.device("cpu"))"""
    older = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=older, capture_output=True, text=True)
    assert "BadInput: --train.precision bf16 needs a CPU with AVX-512" in done.stderr


def test_fp16_on_a_cpu_is_bad_input(odd: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--train\.precision fp16 needs a GPU"):
        trained(odd, settings(precision="fp16"), tmp_path)


# ---- translations -------------------------------------------------------------------------------


def test_translating_valid_changes_neither_weights_nor_random_numbers(
    odd: Corpus, tmp_path: Path
) -> None:
    config = looking(settings(epochs=3), dropout=0.3, word_dropout=0.1)
    weights, expected = trained(odd, config, tmp_path / "plain")
    state = torch.get_rng_state()
    watch = Watch(samples=3, print_samples=True, bleu_every=1)
    host = Recorder(Signals(stop=True), at=11)
    train(odd, config, tmp_path / "watched", watch=watch, host=host)
    # It is resumed, and watched in another way.
    others, actual = trained(odd, config, tmp_path / "watched", watch=Watch(samples=1))
    assert same(weights, others)
    assert torch.equal(torch.get_rng_state(), state)
    assert [record.valid_bleu is None for record in actual.epochs] == [False, True, True]
    told = facts(actual)
    del told[0]["valid_bleu"], told[0]["valid_chrf"]
    assert told == facts(expected)


def test_scores_of_an_epoch_are_those_of_its_weights(odd: Corpus, tmp_path: Path) -> None:
    watch = Watch(samples=0, bleu_every=2)
    _, metrics = trained(odd, settings(epochs=5, learning_rate=3e-2), tmp_path, watch=watch)
    scored = [record.epoch for record in metrics.epochs if record.valid_bleu is not None]
    assert scored == [2, 4]
    [folder] = (tmp_path / "checkpoints").glob(f"step-*{metrics.epochs[3].steps}")
    [bleu, chrf, *_] = evaluate(ModelDirectory.load(folder), odd, "valid").scores
    assert metrics.epochs[3].valid_bleu == pytest.approx(bleu.score)
    assert metrics.epochs[3].valid_chrf == pytest.approx(chrf.score)
    assert bleu.score > 0


def test_samples_are_the_same_rows_after_every_epoch(odd: Corpus, tmp_path: Path) -> None:
    host, run = Recorder(), TrackedRun("run", tmp_path, {})
    watch = Watch(samples=3, print_samples=True)
    trained(
        odd, settings(), tmp_path, host=host, watch=watch, make_tracker=lambda step: JsonLines(run)
    )
    samples = read_samples(tmp_path)
    assert [step for step, _ in samples] == [7, 7, 7, 14, 14, 14]
    valid = odd.split("valid")
    rows = [(valid[row]["source"], valid[row]["target"]) for row in (0, 2, 5)]
    assert [(sample.source, sample.reference) for _, sample in samples] == rows * 2
    [shown, _] = [line for line in host.lines if line.startswith("  source")]
    assert f"  source       {rows[0][0]}\n  reference    {rows[0][1]}\n  translation  " in shown


# ---- explosions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [8, 64])  # of one step an epoch, only the validation tells
def test_an_exploding_loss_fails_and_keeps_its_batches(
    batch_size: int, odd: Corpus, tmp_path: Path
) -> None:
    config = settings(learning_rate=1e38, batch_size=batch_size)
    with pytest.raises(Failed, match="learning-rate") as caught:
        trained(odd, config, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    dump = json.loads((tmp_path / "bad-batch.json").read_text())
    rows = odd.split("train")
    assert 1 <= len(dump["steps"]) <= 2
    for step in dump["steps"]:
        assert step["learning_rate"] == 1e38
        assert 0 < len(step["pairs"]) <= batch_size
        for pair in step["pairs"]:
            row = rows[pair["row"]]
            assert (pair["source"], pair["target"]) == (row["source"], row["target"])
        assert step["tokens"] == sum(len(rows[p["row"]]["target_ids"]) for p in step["pairs"])
    assert Checkpoints(tmp_path / "checkpoints").all() == []


# ---- workers ------------------------------------------------------------------------------------

CRAFTED = {"accumulate": 2, "clip_norm": 0.5, "label_smoothing": 0.1, "batch_tokens": 60}


@pytest.mark.parametrize(
    ("changes", "shares_memory", "tolerance"),
    [
        ({}, True, 1e-4),
        ({}, False, 1e-4),
        (CRAFTED, True, 1e-4),
        (CRAFTED, False, 1e-4),
        ({"compress_gradients": True}, False, 3e-2),
    ],
    ids=["plain", "plain by gloo", "crafted", "crafted by gloo", "compressed by gloo"],
)
def test_two_workers_train_as_one_does(
    changes: dict[str, Any], shares_memory: bool, tolerance: float, odd: Corpus, tmp_path: Path
) -> None:
    config = settings(epochs=3, **changes)
    alone, expected = trained(odd, config, tmp_path / "one")
    shared, actual = together(2, odd, config, tmp_path / "two", shares_memory=shares_memory)
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=10 * tolerance, atol=tolerance)
    for one, two in zip(facts(expected), facts(actual), strict=True):
        assert two == pytest.approx(one, rel=tolerance)


def test_two_workers_train_attention_and_tied_weights_as_one_does(
    odd: Corpus, tmp_path: Path
) -> None:
    config, watch = looking(settings(epochs=2)), Watch(samples=2, bleu_every=2)
    alone, _ = trained(odd, config, tmp_path / "one")
    shared, metrics = together(2, odd, config, tmp_path / "two", watch)
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-3, atol=1e-4)
    # Both have the score that the first one computed.
    assert [record.valid_bleu is None for record in metrics.epochs] == [True, False]


def test_a_run_goes_on_with_another_number_of_workers(odd: Corpus, tmp_path: Path) -> None:
    _, expected = trained(odd, settings(epochs=3), tmp_path / "one")
    folder = tmp_path / "elastic"
    for epochs, world in ((1, 1), (2, 2), (3, 1)):
        config = settings(epochs=epochs)
        if world == 1:
            _, actual = trained(odd, config, folder)
        else:
            together(world, odd, config, folder)
    for one, other in zip(facts(expected), facts(actual), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


# ---- resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 6, 7, 8, 13])  # an epoch has 7
def test_a_stopped_run_goes_on_to_the_same_weights(step: int, odd: Corpus, tmp_path: Path) -> None:
    config = settings(epochs=3, schedule="cosine", warmup_steps=4)
    weights, expected = trained(odd, config, tmp_path / "whole")
    host = Recorder(Signals(stop=True), at=step)
    _, stopped = train(odd, config, tmp_path / "parts", host=host)
    assert stopped.stopped_at == step
    host = Recorder()
    resumed, actual = trained(odd, config, tmp_path / "parts", host=host)
    assert any(f"resuming from the checkpoint of step {step} " in line for line in host.lines)
    assert same(resumed, weights)
    assert facts(actual) == facts(expected)


def test_dropout_drops_the_same_after_a_stop(odd: Corpus, tmp_path: Path) -> None:
    config = looking(settings(epochs=2), dropout=0.3, word_dropout=0.1, input_feeding=True)
    weights, _ = trained(odd, config, tmp_path / "whole")
    train(odd, config, tmp_path / "parts", host=Recorder(Signals(stop=True), at=5))
    resumed, _ = trained(odd, config, tmp_path / "parts")
    assert same(resumed, weights)
    assert not same(weights, trained(odd, looking(settings(epochs=2)), tmp_path / "plain")[0])


def test_one_vocabulary_is_needed_to_tie_all(odd: Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"text\.shared"):
        trained(odd, looking(settings(), tie="all"), tmp_path)


def cut(whole: Path, copy: Path) -> Path:
    """Copy the folder of a run without the later half of its checkpoints."""
    shutil.copytree(whole, copy)
    kept = Checkpoints(copy / "checkpoints", last=99).all()
    assert len(kept) >= 2
    for checkpoint in kept[len(kept) // 2 :]:
        shutil.rmtree(copy / "checkpoints" / checkpoint.name)
    return copy


@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_run_that_lost_its_last_steps_goes_on_to_the_same_weights(
    every: int, odd: Corpus, tmp_path: Path
) -> None:
    config = settings(epochs=2, checkpoint_steps=every, batch_tokens=50)
    weights, expected = trained(odd, config, tmp_path / "whole")
    resumed, actual = trained(odd, config, cut(tmp_path / "whole", tmp_path / "cut"))
    assert same(resumed, weights)
    assert facts(actual) == facts(expected)


def test_three_workers_that_lost_their_last_steps_go_on_to_the_same_weights(
    odd: Corpus, tmp_path: Path
) -> None:
    config = settings(epochs=2, checkpoint_steps=3)
    weights, expected = together(3, odd, config, tmp_path / "whole")
    resumed, actual = together(3, odd, config, cut(tmp_path / "whole", tmp_path / "cut"))
    assert same(resumed, weights)
    assert facts(actual) == facts(expected)


def test_random_numbers_depend_on_where_a_run_stands(odd: Corpus, tmp_path: Path) -> None:
    trained(odd, settings(), tmp_path / "whole")
    whole = torch.get_rng_state()
    train(odd, settings(), tmp_path / "parts", host=Recorder(Signals(stop=True), at=9))
    torch.rand(5)
    trained(odd, settings(), tmp_path / "parts")
    assert torch.equal(torch.get_rng_state(), whole)


def test_a_requested_checkpoint_is_there_at_once(odd: Corpus, tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Asking(Recorder):
        def checkpoint_saved(self) -> None:
            seen.append([kept.steps for kept in Checkpoints(tmp_path / "checkpoints").all()])

    trained(odd, settings(epochs=1), tmp_path, host=Asking(Signals(save=True), at=4))
    assert seen == [[4]]


def test_minutes_between_checkpoints_are_kept(odd: Corpus, tmp_path: Path) -> None:
    trained(odd, settings(epochs=1, checkpoint_minutes=1e-9), tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints").all()
    assert [checkpoint.steps for checkpoint in kept] == [1, 2, 3, 4, 5, 6, 7]


def test_a_finished_run_resumed_trains_no_more(odd: Corpus, tmp_path: Path) -> None:
    trained(odd, settings(), tmp_path)
    host = Recorder()
    _, metrics = trained(odd, settings(), tmp_path, host=host)
    assert host.epochs == []
    assert len(metrics.epochs) == 2


def test_a_model_to_begin_with_gives_its_weights(odd: Corpus, tmp_path: Path) -> None:
    first, expected = trained(odd, settings(epochs=3), tmp_path / "first")
    [*_, newest] = Checkpoints(tmp_path / "first/checkpoints").all()
    start = ModelDirectory.load(tmp_path / "first/checkpoints" / newest.name)
    config = settings(epochs=1, learning_rate=1e-12)
    second, actual = trained(odd, config, tmp_path / "second", start=start)
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=1e-9)
    assert actual.epochs[0].valid_loss == pytest.approx(expected.epochs[-1].valid_loss, rel=1e-5)


@pytest.fixture
def checkpoint(odd: Corpus, tmp_path: Path) -> Path:
    """The folder of a run's one checkpoint, after two epochs, whose hashes are not looked at."""
    trained(odd, settings(epochs=2), tmp_path)
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder / "step-000000007")
    manifest = folder / "step-000000014/checkpoint.json"
    known = CheckpointManifest.from_json(manifest.read_text(), "here")
    manifest.write_text(known.model_copy(update={"files": {}}).to_json())
    return manifest.parent


def rehash(checkpoint: Path) -> None:
    """Write the hashes of the files as they are into the manifest."""
    manifest = checkpoint / "checkpoint.json"
    known = CheckpointManifest.from_json(manifest.read_text(), "here")
    files = {
        path.name: FileHash(bytes=path.stat().st_size, sha256=sha256(path))
        for path in checkpoint.iterdir()
        if path != manifest
    }
    manifest.write_text(known.model_copy(update={"files": files}).to_json())


def test_a_checkpoint_is_a_model_directory(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    loaded = ModelDirectory.load(checkpoint).model.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("content", [None, b"", b"junk", "cut"])
def test_a_checkpoint_that_was_written_wrongly_is_bad_input(
    content: bytes | str | None, odd: Corpus, checkpoint: Path
) -> None:
    whole = (checkpoint / STATE).read_bytes()
    (checkpoint / STATE).unlink()
    if content is not None:
        (checkpoint / STATE).write_bytes(whole[:999] if isinstance(content, str) else content)
    rehash(checkpoint)
    with pytest.raises(BadInput, match=STATE):
        trained(odd, settings(epochs=3), checkpoint.parents[1])


class Mischief:
    """What a pickle that runs code is made of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_cannot_run_code(odd: Corpus, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / STATE).write_bytes(pickle.dumps(Mischief(tmp_path / "touched"), 2))
    rehash(checkpoint)
    with pytest.raises(BadInput, match=STATE):
        trained(odd, settings(epochs=3), checkpoint.parents[1])
    torch.save({"optimizer": Mischief(tmp_path / "touched")}, checkpoint / STATE)
    rehash(checkpoint)
    with pytest.raises(BadInput, match=STATE):
        trained(odd, settings(epochs=3), checkpoint.parents[1])
    assert not (tmp_path / "touched").exists()


# ---- sums ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(model_dir: Path) -> ModelDirectory:
    """The tiny model, made a little worse, so that it is wrong here and there."""
    directory = ModelDirectory.load(model_dir)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in directory.model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return directory


def predictions(directory: ModelDirectory, batch: Batch) -> torch.Tensor:
    """The logits of all positions, padding included, (B, T, V)."""
    with torch.no_grad():
        hidden = directory.model(batch.source, batch.source_lengths, batch.target_in)
        logits: torch.Tensor = directory.model.decoder.output(hidden)
    return logits


def test_sums_are_the_same_however_the_rows_are_batched(
    directory: ModelDirectory, corpus: Corpus
) -> None:
    rows = corpus.split("train")
    whole = validate(directory.model, Batches(rows, len(rows)))
    for size in (1, 7, 16):
        sums = validate(directory.model, Batches(rows, size))
        assert sums.loss == pytest.approx(whole.loss, rel=1e-5)
        assert replace(sums, loss=0.0) == replace(whole, loss=0.0)


def test_sums_of_the_parts_add_up_to_the_sums_of_all(
    directory: ModelDirectory, corpus: Corpus
) -> None:
    rows = corpus.split("train")
    whole = validate(directory.model, Batches(rows, 16))
    shares = [
        validate(directory.model, Batches(rows, 16, rank=rank, world_size=3)) for rank in range(3)
    ]
    assert sum(share.loss for share in shares) == pytest.approx(whole.loss, rel=1e-5)
    assert sum(share.correct for share in shares) == whole.correct
    assert sum(share.tokens for share in shares) == whole.tokens
    assert sum(share.sentences for share in shares) == whole.sentences == len(rows)


def test_the_loss_is_the_mean_over_real_tokens(directory: ModelDirectory, corpus: Corpus) -> None:
    rows = corpus.split("valid")
    losses = []
    [step] = Batches(rows, len(rows)).epoch(0)
    for batch in step.micro_batches:
        surprise = -predictions(directory, batch).log_softmax(dim=-1)
        for row, target in zip(surprise, batch.target_out.tolist(), strict=True):
            losses += [float(row[i, word]) for i, word in enumerate(target) if word != PAD]
    sums = validate(directory.model, Batches(rows, 4))
    assert sums.mean_loss == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)


def test_both_accuracies_equal_a_count_over_the_whole_padded_matrix(
    directory: ModelDirectory, corpus: Corpus
) -> None:
    rows = corpus.split("valid")
    longest = corpus.manifest.longest["target"] + 3
    [step] = Batches(rows, len(rows)).epoch(0)
    [batch] = step.micro_batches
    width = batch.target_out.shape[1]
    target = torch.nn.functional.pad(batch.target_out, (0, longest - width), value=PAD)
    predicted = torch.full_like(target, PAD)
    predicted[:, :width] = predictions(directory, batch).argmax(dim=-1)
    predicted[target == PAD] = PAD  # decoding has stopped
    sums = validate(directory.model, Batches(rows, 4))
    assert sums.padded_accuracy(longest) == pytest.approx(
        float((predicted == target).double().mean())
    )
    real = target != PAD
    assert sums.token_accuracy == pytest.approx(float((predicted == target)[real].double().mean()))
    assert 0 < sums.token_accuracy < sums.padded_accuracy(longest) < 1


def test_accuracies_are_simple_shares() -> None:
    sums = TokenSums(loss=10.0, correct=6.0, tokens=8.0, sentences=2.0)
    assert sums.mean_loss == 10 / 8
    assert sums.token_accuracy == 6 / 8
    assert sums.padded_accuracy(10) == (6 + 20 - 8) / 20
