"""What only a GPU can show; everything else of it is tested on CPUs (`test_card`)."""

import pickle
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import s2s
from s2s.config import DecodeConfig
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.decoding.search import decode
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator
from s2s.devices import allow_tf32
from s2s.gpu.graphs import GraphCache
from s2s.model.cross_entropy import cross_entropy
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import PAD
from s2s.training.checkpoints import Checkpoints
from s2s.training.device_batches import DeviceCorpus
from s2s.training.loop import Training
from s2s.training.run import Watch
from tests.support.corpora import Pairs, Prepare
from tests.support.networks import KINDS, made, reluctant, shortlisted, some_sources
from tests.support.rows import rows_of
from tests.support.training import CPU, facts, looking, settings, trained

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def odd(pairs: Pairs, prepared: Prepare) -> Corpus:
    """49 rows to train on: in batches of 8, the last has one."""
    return prepared(pairs[:55], split="random", test=0)


@pytest.mark.parametrize("attends", [False, True])
def test_a_gpu_trains_as_a_cpu_does(attends: bool, odd: Corpus, tmp_path: Path) -> None:
    config = settings(epochs=6, clip_norm=0.5)
    config = looking(config) if attends else config
    _, expected = trained(odd, config, tmp_path / "cpu")
    training = Training(odd, config, CUDA, Checkpoints(tmp_path / "gpu"), tmp_path)
    for one, other in zip(facts(expected), facts(training.run().metrics), strict=True):
        assert other == pytest.approx(one, rel=1e-3)
    assert len(training.stepper._graphs) > 1  # type: ignore[attr-defined]


def test_a_gpu_trains_an_adaptive_softmax_as_a_cpu_does(odd: Corpus, tmp_path: Path) -> None:
    config = settings(epochs=6, clip_norm=0.5)
    model = config.model.model_copy(update={"output": "adaptive", "frequent_words": 8})
    config = config.model_copy(update={"model": model})
    _, expected = trained(odd, config, tmp_path / "cpu")
    metrics = Training(odd, config, CUDA, Checkpoints(tmp_path / "gpu"), tmp_path).run().metrics
    for one, other in zip(facts(expected), facts(metrics), strict=True):
        assert other == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_translating_valid_on_a_gpu_changes_no_weight(
    precision: str, odd: Corpus, tmp_path: Path
) -> None:
    config = looking(settings(epochs=3, precision=precision), dropout=0.3)
    results = []
    for watch in (Watch(samples=0), Watch(samples=3, bleu_every=1)):
        folder = tmp_path / str(watch.samples)
        training = Training(odd, config, CUDA, Checkpoints(folder), folder, watch=watch)
        metrics = training.run().metrics
        results.append((training.model.named_weights(), metrics))
    (plain, _), (watched, metrics) = results
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert all(record.valid_bleu is not None for record in metrics.epochs)
    assert torch.backends.cuda.matmul.allow_tf32 == (precision != "fp32")


@pytest.mark.parametrize("words", [50, 8087, 12_161, 70_001])  # the last ones are torch's own work
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_gpu_is_the_plain_one(words: int, smoothing: float) -> None:
    allow_tf32(False)
    torch.manual_seed(0)
    sizes = ((90, 64), (words, 64), (words,))
    leaves = [(torch.randn(*size, device=CUDA) / 4).requires_grad_() for size in sizes]
    targets = torch.randint(1, words, (90,), device=CUDA)
    targets[::5] = PAD
    found = cross_entropy(leaves[0], leaves[1], leaves[2], targets, smoothing, PAD)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    wanted = F.cross_entropy(
        F.linear(*exact), targets, reduction="sum", label_smoothing=smoothing, ignore_index=PAD
    )
    value = F.cross_entropy(F.linear(*exact), targets, reduction="sum", ignore_index=PAD)
    torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, exact), strict=True
    ):
        assert (mine - theirs).norm() < 1e-5 * theirs.norm()


def test_one_kernel_puts_batches_together_as_torch_does() -> None:
    batches = Batches(rows_of(90), 8)
    corpus = DeviceCorpus(CUDA)
    for cached in (False, True):
        if cached:
            assert corpus.cache_tokens(batches)
        for step in corpus.global_batches(batches, 1, 0):
            corpus.load_pool(step.pool)
            [micro_batch] = step.micro_batches
            corpus.select(micro_batch)
            ours = corpus.batch(micro_batch.shape)
            plain = corpus._batch_by_torch(micro_batch.shape)
            for name, value in vars(plain).items():
                mine = getattr(ours, name)
                assert torch.equal(mine, value) if torch.is_tensor(value) else mine == value


def test_a_graph_is_recorded_at_the_second_time_and_replayed_from_then_on() -> None:
    graphs, calls = GraphCache(CUDA), []
    total = torch.zeros(1, device=CUDA)

    def work() -> None:
        calls.append(1)
        total.add_(1)

    for _ in range(5):
        graphs.run("shape", work)
    assert total.item() == 5
    assert len(calls) == 2
    assert len(graphs) == 1
    graphs.clear()
    graphs.run("shape", work)
    assert total.item() == 6


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("beam", [1, 3])
def test_a_gpu_decodes_as_a_cpu_does(name: str, beam: int) -> None:
    allow_tf32(False)
    how = DecodeConfig(max_length=19, min_ratio=0.5, max_ratio=3.0, beam=beam)
    source, lengths = some_sources(40)
    wanted = decode(made(name), source, lengths, how)
    model = made(name).to(CUDA)
    for _ in range(3):  # started, recorded, replayed
        found = decode(model, source.to(CUDA), lengths, how)
        assert [[h.ids for h in told] for told in found] == [
            [h.ids for h in told] for told in wanted
        ]


@pytest.mark.parametrize(
    ("name", "with_shortlist"),
    [(name, False) for name in KINDS] + [("none", True), ("general", True)],
)
@pytest.mark.parametrize("beam", [1, 3])
def test_slots_of_a_gpu_are_those_of_a_cpu(name: str, with_shortlist: bool, beam: int) -> None:
    allow_tf32(False)
    how = DecodeConfig(max_length=19, max_ratio=3.0, min_ratio=0.5, beam=beam)
    source, lengths = some_sources(40)
    ids = [row[:n].tolist() for row, n in zip(source, lengths.tolist(), strict=True)]
    results = []
    for device in (CPU, CUDA):
        model = made(name).to(device)
        network = shortlisted(model) if with_shortlist else model
        slots: Slots[int] = Slots(network, how, 12, device)
        waiting, found = iter(enumerate(ids)), {}
        while len(found) < len(ids):
            coming = list(islice(waiting, slots.free))
            if coming:
                slots.admit([words for _, words in coming], [owner for owner, _ in coming])
            found.update((slot.owner, (slot.ids, slot.alignment)) for slot in slots.step())
        results.append(found)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("beam", [1, 3])
def test_loops_end_on_a_gpu_as_on_a_cpu(name: str, beam: int) -> None:
    allow_tf32(False)
    how = DecodeConfig(max_length=60, beam=beam)
    source, lengths = some_sources(24)

    def ended(model: Seq2Seq, source: torch.Tensor) -> list[tuple[list[int], str]]:
        found = decode(model, source, lengths, how)
        return [(best.ids, best.finish_reason) for [best] in found]

    wanted = ended(reluctant(name), source)
    assert "repetition" in {reason for _, reason in wanted}
    model = reluctant(name).to(CUDA)
    for _ in range(3):  # started, recorded, replayed
        assert ended(model, source.to(CUDA)) == wanted


def test_a_gpu_evaluates_as_a_cpu_does(odd: Corpus, model_dir: Path) -> None:
    allow_tf32(False)
    expected = s2s.evaluate(s2s.load(model_dir), odd, "valid")
    translator = pickle.loads(pickle.dumps(s2s.load(model_dir, "cuda")))  # noqa: S301
    assert isinstance(translator, Translator)
    assert translator.device.type == "cuda"
    found = s2s.evaluate(translator, odd, "valid")
    assert found.translations == expected.translations
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
