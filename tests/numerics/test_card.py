"""What a GPU does in its own way, computed here on a CPU, against the CPU's way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import Config, DecodeConfig, ModelConfig
from s2s.corpus import Corpus
from s2s.corpus.batches import Batch, Batches
from s2s.decoding.beam import beam_search
from s2s.decoding.greedy import greedy
from s2s.decoding.recorded_beam import RecordedBeam
from s2s.decoding.recorded_greedy import RecordedGreedy
from s2s.decoding.search import decode, decode_recorded
from s2s.devices import find_device
from s2s.errors import BadInput
from s2s.gpu.graphs import GraphCache
from s2s.model.cross_entropy import cross_entropy
from s2s.model.loss import TrainingLoss, batch_sums
from s2s.model.recurrent import RecurrentStack
from s2s.text.vocabulary import PAD
from s2s.training.checkpoints import Checkpoints
from s2s.training.device_batches import BatchShape, DeviceCorpus
from s2s.training.loop import Training
from s2s.training.step import CpuStepper, GpuStepper
from tests.support.corpora import Pairs, Prepare
from tests.support.networks import KINDS, made, some_sources
from tests.support.rows import rows_of
from tests.support.training import CPU
from tests.support.training import settings as small

# ---- batches ------------------------------------------------------------------------------------


def sentences(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """The source, the decoder's input and the target of each real row of a batch, unpadded."""
    rows = []
    for source, length, read, predicted in zip(
        batch.source, batch.source_lengths, batch.target_in, batch.target_out, strict=True
    ):
        size = int((predicted != PAD).sum())
        if size:
            parts = (source[:length], read[:size], predicted[:size])
            rows.append(tuple(part.tolist() for part in parts))
    return rows  # type: ignore[return-value]


@settings(max_examples=15)
@given(
    size=st.integers(1, 40),
    budget=st.one_of(st.none(), st.integers(1, 60)),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    cached=st.booleans(),
)
def test_a_batch_collated_on_a_gpu_is_the_cpus(
    size: int, budget: int | None, world: int, accumulate: int, cached: bool
) -> None:
    for rank in range(world):
        options: dict[str, Any] = {"batch_tokens": budget, "accumulate": accumulate}
        batches = Batches(rows_of(90), size, 1, rank, world, **options)
        corpus = DeviceCorpus(CPU)
        if cached:
            assert corpus.cache_tokens(batches)
        steps = zip(batches.epoch(2), corpus.global_batches(batches, 2, 0), strict=True)
        for expected, step in steps:
            assert step.tokens == expected.tokens
            assert step.rows.tolist() == expected.rows.tolist()
            assert (step.pool.tokens is None) == cached
            corpus.load_pool(step.pool)
            for batch, micro_batch in zip(expected.micro_batches, step.micro_batches, strict=True):
                corpus.select(micro_batch, 1.0)
                found, shape = corpus.batch(micro_batch.shape), micro_batch.shape
                assert found.source.shape == shape[:2]
                assert sentences(found) == sentences(batch)
                assert found.source_lengths.max() <= shape.source
                assert found.target_positions is not None
                positions = found.target_positions[found.target_positions >= 0]
                real = (found.target_out.flatten() != PAD).nonzero()[:, 0]
                assert positions.tolist() == real.tolist()
                assert len(found.target_positions) == shape.real


def test_no_row_of_a_micro_batch_is_longer_than_its_shape() -> None:
    """A row that fills a micro-batch up must not be another one's."""
    batches = Batches(rows_of(900), 8, accumulate=3)
    corpus, filled = DeviceCorpus(CPU), 0
    for step in corpus.global_batches(batches, 1, 0):
        corpus.load_pool(step.pool)
        for micro_batch in step.micro_batches:
            corpus.select(micro_batch)
            batch = corpus.batch(micro_batch.shape, micro_batch.stride)
            assert batch.source_lengths.max() <= micro_batch.shape.source
            filled += len(sentences(batch)) < len(batch.source)
    assert filled > 100


def test_batches_of_a_corpus_have_few_shapes() -> None:
    batches = Batches(rows_of(4000), 16)
    steps = list(DeviceCorpus(CPU).global_batches(batches, 1, 0))
    shapes = {micro_batch.shape for step in steps for micro_batch in step.micro_batches}
    assert len(steps) == 250
    assert len(shapes) < 12
    assert all(shape.real <= shape.sentences * shape.target for shape in shapes)


def test_a_pool_that_does_not_fit_replaces_tensors_and_others_do_not() -> None:
    corpus = DeviceCorpus(CPU)
    small_one, large = (
        next(corpus.global_batches(Batches(rows_of(n), 4), 1, 0)).pool for n in (8, 80)
    )
    assert corpus.load_pool(small_one)
    assert not corpus.load_pool(small_one)
    assert corpus.load_pool(large)
    assert not corpus.load_pool(small_one)
    assert corpus._rows[:8].tolist() == small_one.rows.tolist()


# ---- the padded encoder -------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("layers", "residual"), [(1, False), (3, True)])
def test_padding_changes_nothing_though_it_is_read(
    cell: str, bidirectional: bool, layers: int, residual: bool
) -> None:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"cell": cell, "layers": layers, "residual": residual, "hidden_size": 16}
    )
    stack = RecurrentStack(8, config, bidirectional=bidirectional)
    lengths = torch.tensor([3, 7, 1, 5])
    inputs = torch.randn(4, 7, 8)
    places = torch.arange(7) < lengths[:, None]
    results = []
    for read in (stack._encode_packed, stack._encode_padded):
        stack.zero_grad()
        outputs, cells = read(inputs, lengths)
        if not isinstance(outputs, torch.Tensor):
            outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, True)
        outputs = outputs[places]
        sum((part * (n + 1)).sin().sum() for n, part in enumerate([outputs, *cells])).backward()
        gradients = [parameter.grad.clone() for parameter in stack.parameters()]  # type: ignore[union-attr]
        results.append([outputs, *cells, *gradients])
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(padded, packed, rtol=1e-4, atol=1e-5)


# ---- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_ignored_word_counts_for_nothing(smoothing: float) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True)
                            for shape in ((40, 12), (30, 12), (30,)))  # fmt: skip
    targets = torch.randint(1, 30, (40,))
    targets[::3] = PAD
    real = targets != PAD
    found, wanted = (
        [loss, *torch.autograd.grad(loss, (hidden, weight, bias))]
        for loss in (
            cross_entropy(hidden, weight, bias, targets, smoothing, PAD),
            cross_entropy(hidden[real], weight, bias, targets[real], smoothing),
        )
    )
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_batch_with_room_to_spare_has_the_same_loss() -> None:
    model = made("general").train()
    batches = Batches(rows_of(5), 5)
    batch = next(batches.epoch(1)).micro_batches[0]
    corpus = DeviceCorpus(CPU)
    step = next(corpus.global_batches(batches, 1, 0))
    corpus.load_pool(step.pool)
    corpus.select(step.micro_batches[0])
    shape = step.micro_batches[0].shape
    room = corpus.batch(BatchShape(8, shape.source + 3, shape.target + 2, shape.real + 5))
    limited = [
        Batch(
            b.source % 10,
            b.source_lengths,
            b.target_in % 10,
            b.target_out % 10,
            5,
            b.target_positions,
        )
        for b in (batch, room)
    ]
    losses = [TrainingLoss(model)(each) for each in limited]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(*(batch_sums(model, each).tolist() for each in limited), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


# ---- steps --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(pairs: Pairs, prepared: Prepare) -> Corpus:
    """49 rows to train on: in batches of 8, the last has one."""
    return prepared(pairs[:55], split="random", test=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 3, "clip_norm": 0.5},
        {"batch_tokens": 40, "label_smoothing": 0.1, "schedule": "cosine", "warmup_steps": 4},
    ],
)
def test_steps_of_a_gpu_are_those_of_a_cpu(
    changes: dict[str, Any], odd: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(config: Config, name: str) -> tuple[dict[str, torch.Tensor], list[float]]:
        checkpoints = Checkpoints(tmp_path / name)
        training = Training(odd, config, CPU, checkpoints, tmp_path)
        metrics = training.run().metrics
        return training.model.named_weights(), [epoch.train_loss for epoch in metrics.epochs]

    config = small(epochs=3, **changes)
    wanted, losses = trained(config, "cpu")

    class Emulated(GpuStepper):
        used = 0

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            Emulated.used += 1
            for group in self._state.optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"])

    monkeypatch.setattr("s2s.training.loop.make_stepper", Emulated)
    found, others = trained(config, "gpu")
    assert Emulated.used == 1
    assert losses == pytest.approx(others, rel=1e-5)
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)
    assert CpuStepper.lag < GpuStepper.lag


# ---- recorded decoding --------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=6)
@given(count=st.integers(1, 40), minimum=st.sampled_from([0.0, 0.5]))
def test_recorded_greedy_decoding_is_greedy_decoding(name: str, count: int, minimum: float) -> None:
    how = DecodeConfig(max_length=19, min_ratio=minimum, max_ratio=3.0, unknown="copy")
    source, lengths = some_sources(count)
    wanted = greedy(made(name), source, lengths, how)
    recorded = RecordedGreedy(CPU)
    for _ in range(2):  # in buffers that were used before, too
        found = recorded.decode(made(name), source, lengths, how)
        assert [one for [one] in found] == wanted


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=6)
@given(
    count=st.integers(1, 30),
    width=st.sampled_from([2, 5, 20]),  # of 12 tokens
    minimum=st.sampled_from([0.0, 0.5]),
    alpha=st.sampled_from([0.0, 1.0]),
)
def test_recorded_beam_search_is_beam_search(
    name: str, count: int, width: int, minimum: float, alpha: float
) -> None:
    how = DecodeConfig(max_length=11, min_ratio=minimum, max_ratio=3.0, beam=width, n_best=2,
                       length_penalty=alpha, unknown="copy")  # fmt: skip
    source, lengths = some_sources(count)
    wanted = beam_search(made(name), source, lengths, how)
    recorded = RecordedBeam(CPU)
    for _ in range(2):  # in buffers that were used before, too
        found = recorded.decode(made(name), source, lengths, how)
        for mine, theirs in zip(found, wanted, strict=True):
            assert [h.ids for h in mine] == [h.ids for h in theirs]
            for one, other in zip(mine, theirs, strict=True):
                assert one.alignment == other.alignment
                assert one.score == pytest.approx(other.score, rel=1e-4)
                assert one.scores == pytest.approx(other.scores, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("width", [1, 4])
def test_the_entry_of_a_gpu_finds_what_that_of_a_cpu_does(name: str, width: int) -> None:
    source, lengths = some_sources(20)
    how = DecodeConfig(max_length=9, max_ratio=2.0, beam=width, n_best=width, unknown="copy")
    wanted = decode(made(name), source, lengths, how)
    found = decode_recorded(made(name), source, lengths, how)
    assert [[h.ids for h in own] for own in found] == [[h.ids for h in own] for own in wanted]


@pytest.mark.parametrize("name", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        find_device(name)


def test_a_cpu_does_the_work_every_time() -> None:
    graphs, done = GraphCache(CPU), []
    for _ in range(3):
        graphs.run("shape", lambda: done.append(1))
    assert len(done) == 3
    assert len(graphs) == 0
