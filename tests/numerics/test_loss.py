"""The loss against PyTorch's own, made the plain way: all logits at once."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s2s.config import ModelConfig
from s2s.corpus.batches import Batch
from s2s.model import cross_entropy as module
from s2s.model import loss as loss_module
from s2s.model import onednn
from s2s.model.cross_entropy import CHUNK_BYTES, ROWS, cross_entropy
from s2s.model.loss import TokenSums, TrainingLoss, batch_sums
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import PAD, SOS

WORDS, HIDDEN = 50, 12
COUNTS = [1, 63, 64, 65, 300]

# What the three gradients and the loss in bf16 may differ from float32, by their norms. bf16 keeps
# 8 bits: each number is off by up to 0.4 %. Where the model is sure of most words, the gradient is
# a small difference of probabilities near 1, and off by more.
BF16, BF16_SURE = 0.01, 0.04

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def parts(count: int, words: int = WORDS, hidden: int = HIDDEN, seed: int = 0) -> Parts:
    """States, weight, bias and targets; the first three are leaves."""
    random = torch.Generator().manual_seed(seed)
    states = torch.randn(count, hidden, generator=random)
    weight = torch.randn(words, hidden, generator=random) / 2
    bias = torch.randn(words, generator=random)
    for part in (states, weight, bias):
        part.requires_grad_()
    return states, weight, bias, torch.randint(words, (count,), generator=random)


def plain(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float
) -> Tensor:
    """What `cross_entropy` says it equals: gradients of the smoothed loss, value of the other."""
    logits = F.linear(hidden, weight, bias)
    smoothed = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    value = F.cross_entropy(logits, targets, reduction="sum")
    return smoothed + (value - smoothed).detach()


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def chunks_of(monkeypatch: pytest.MonkeyPatch, rows: int, words: int = WORDS) -> None:
    """Let a chunk have so many rows of float32 logits."""
    monkeypatch.setattr(module, "CHUNK_BYTES", rows * words * 4)
    monkeypatch.setattr(loss_module, "VALID_CHUNK_BYTES", rows * words * 4)


# ---- float32 --------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, ROWS, 2 * ROWS, 3 * ROWS + 5, 10_000])
@pytest.mark.parametrize("count", COUNTS)
def test_values_and_gradients_are_those_of_the_plain_loss(
    count: int, rows: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks_of(monkeypatch, rows)
    *leaves, targets = parts(count)
    mine, theirs = (
        loss(*leaves, targets, smoothing)  # type: ignore[operator]
        for loss in (cross_entropy, plain)
    )
    assert mine.dtype == torch.float32
    assert mine.shape == ()
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    for own, other in zip(gradients(mine, *leaves), gradients(theirs, *leaves), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_targets_are_no_loss_and_gradients_of_zero(smoothing: float) -> None:
    *leaves, targets = parts(0)
    loss = cross_entropy(*leaves, targets, smoothing)
    assert loss == 0
    for leaf, gradient in zip(leaves, gradients(loss, *leaves), strict=True):
        assert gradient.shape == leaf.shape
        assert gradient.abs().sum() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_may_be_a_part_of_a_larger_graph(smoothing: float) -> None:
    *leaves, targets = parts(70)
    inner = torch.randn(HIDDEN, HIDDEN, requires_grad=True)

    def larger(loss: Any) -> list[Tensor]:
        hidden, weight, bias = leaves
        nats = loss((hidden @ inner).tanh(), weight, bias, targets, smoothing)
        whole = 0.01 * nats.square() - 3 * nats / 70 + weight.square().sum() + hidden.sum()
        return gradients(whole, *leaves, inner)

    for own, other in zip(larger(cross_entropy), larger(plain), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-4)


def test_gradients_of_two_calls_add_up() -> None:
    *leaves, targets = parts(100)
    hidden, weight, bias = leaves
    whole = gradients(plain(*leaves, targets, 0.1) / 100, *leaves)
    for part in (slice(0, 37), slice(37, 100)):
        (cross_entropy(hidden[part], weight, bias, targets[part], 0.1) / 100).backward()
    for leaf, gradient in zip(leaves, whole, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-5, atol=1e-6)


def test_a_second_backward_pass_is_refused_rather_than_wrong() -> None:
    *leaves, targets = parts(10)
    loss = 2 * cross_entropy(*leaves, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError):
        loss.backward()


def test_a_layer_that_is_not_trained_gets_no_gradient() -> None:
    hidden, weight, bias, targets = parts(10)
    weight, bias = weight.detach(), bias.detach()
    cross_entropy(hidden, weight, bias, targets).backward()
    [wanted] = gradients(plain(hidden, weight, bias, targets, 0.0), hidden)
    torch.testing.assert_close(hidden.grad, wanted, rtol=1e-5, atol=1e-6)
    assert weight.grad is None


def test_inputs_stay_as_they_were() -> None:
    *leaves, targets = parts(70)
    before = [leaf.detach().clone() for leaf in (*leaves, targets)]
    cross_entropy(*leaves, targets, 0.1).backward()
    for leaf, copy in zip((*leaves, targets), before, strict=True):
        assert torch.equal(leaf, copy)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gap", [20.0, 80.0, 1000.0])
def test_words_that_are_all_but_impossible_leave_all_finite(gap: float, smoothing: float) -> None:
    # The gradient is exact; the loss counts a probability of zero as the least that there is.
    hidden, weight, _, targets = parts(40)
    bias = torch.zeros(WORDS)
    bias[targets[0]] = -gap
    bias.requires_grad_()
    leaves = hidden, weight, bias
    mine, theirs = cross_entropy(*leaves, targets, smoothing), plain(*leaves, targets, smoothing)
    for own, other in zip(gradients(mine, *leaves), gradients(theirs, *leaves), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    if gap < 87:
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)
    else:
        assert 87 < mine < theirs


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_state_is_seen_in_the_loss(broken: float, smoothing: float) -> None:
    hidden, weight, bias, targets = parts(40)
    with torch.no_grad():
        hidden[33, 2] = broken
    assert not cross_entropy(hidden, weight, bias, targets, smoothing).isfinite()


# ---- low precision --------------------------------------------------------------------------


def distance(one: Tensor, other: Tensor) -> float:
    """How far off a tensor is, relative to the norm of the right one."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("states", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", COUNTS)
def test_bf16_is_float32_within_its_rounding(
    count: int, smoothing: float, states: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks_of(monkeypatch, ROWS, words=500)  # bf16: twice the rows
    *leaves, targets = parts(count, words=500, hidden=32)
    exact = plain(*leaves, targets, smoothing)
    wanted = gradients(exact, *leaves)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(leaves[0].to(states), *leaves[1:], targets, smoothing)
    assert loss.dtype == torch.float32
    assert distance(loss, exact) < BF16
    for leaf, own, other in zip(leaves, gradients(loss, *leaves), wanted, strict=True):
        assert own.dtype == leaf.dtype
        assert distance(own, other) < BF16


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bf16_is_near_float32_for_a_model_that_is_sure_of_its_words(smoothing: float) -> None:
    *leaves, targets = parts(300, words=500, hidden=32)
    with torch.no_grad():
        leaves[0].copy_(1.5 * leaves[1][targets])
        leaves[2].zero_()
        logits = F.linear(*leaves)
        probabilities = logits.softmax(dim=1)[torch.arange(300), targets]
        assert 0.9 < probabilities.median() < 0.9999
    exact = plain(*leaves, targets, smoothing)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(*leaves, targets, smoothing)
    assert distance(loss, exact) < BF16
    wanted = gradients(exact, *leaves)
    for own, other in zip(gradients(loss, *leaves), wanted, strict=True):
        assert distance(own, other) < BF16_SURE


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_fp16_is_that_of_float32_for_a_large_vocabulary(smoothing: float) -> None:
    # Fresh weights give each of 100,000 words a probability below the least normal one of fp16.
    *leaves, targets = parts(33, words=100_000, hidden=4)
    with torch.no_grad():
        leaves[1].mul_(0.02)
        leaves[2].mul_(0.02)
        exact = plain(*leaves, targets, smoothing)
        with torch.autocast("cpu", torch.float16):
            loss = cross_entropy(*leaves, targets, smoothing)
    assert distance(loss, exact) < 0.02


@pytest.mark.skipif(not onednn.has_bf16(), reason="needs a CPU with instructions for bf16")
@pytest.mark.parametrize("rows", [ROWS, 7 * ROWS])
def test_logits_in_bf16_are_those_of_weights_in_torch_order_to_the_bit(rows: int) -> None:
    hidden, weight, bias, _ = (part.detach().bfloat16() for part in parts(rows, words=500))
    logits = module._output_layer(weight, bias)(hidden)
    assert torch.equal(logits, torch.addmm(bias, hidden, weight.t()))


@pytest.mark.parametrize("rows", [ROWS, 7 * ROWS])
def test_logits_in_float32_are_those_of_the_plain_layer(rows: int) -> None:
    hidden, weight, bias, _ = parts(rows, words=500)
    with torch.no_grad():
        logits = module._output_layer(weight, bias)(hidden)
        torch.testing.assert_close(logits, F.linear(hidden, weight, bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", [module._FEW_FEATURES, module._FEW_FEATURES + 1])
def test_gradients_of_few_and_many_features_are_those_of_the_plain_loss(features: int) -> None:
    *leaves, targets = parts(70, hidden=features)
    mine, theirs = cross_entropy(*leaves, targets), plain(*leaves, targets, 0.0)
    for own, other in zip(gradients(mine, *leaves), gradients(theirs, *leaves), strict=True):
        assert own.is_contiguous()
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


# ---- memory ---------------------------------------------------------------------------------


class Logits(TorchDispatchMode):
    """Records the tensors with a column for each word: the largest, and all that live at a time.

    A tensor is known by its storage, so a view of one, or a result written into one, is not
    another.
    """

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words, self.largest, self.peak, self.rows = words, 0, 0, 0
        self.made: list[weakref.ref[Tensor]] = []
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, Tensor) and made.dim() == 2 and made.shape[1] == self.words:
                # The output layer's weight, turned, and gradients of weight and bias.
                if len(made) in (1, HIDDEN, HIDDEN + 1):
                    continue
                self._record(made)
                if "addmm" in str(func) or "linear" in str(func):
                    self.rows += len(made)
        return result

    def _record(self, made: Tensor) -> None:
        self.made.append(weakref.ref(made))
        self.dtypes.add(made.dtype)
        live = [tensor.untyped_storage() for ref in self.made if (tensor := ref()) is not None]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in live}
        self.largest = max(self.largest, made.untyped_storage().nbytes())
        self.peak = max(self.peak, sum(sizes.values()))


@contextmanager
def recorded(words: int) -> Iterator[Logits]:
    with Logits(words) as mode:
        yield mode


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_a_large_vocabulary_never_exist_all_at_once(
    dtype: torch.dtype, smoothing: float
) -> None:
    words, count = 50_000, 300
    *leaves, targets = parts(count, words=words)
    size = count * words * dtype.itemsize
    assert size > 1.5 * CHUNK_BYTES  # else this tests nothing
    with (
        recorded(words) as logits,
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        cross_entropy(*leaves, targets, smoothing).backward()
    assert logits.dtypes == {dtype}
    assert CHUNK_BYTES / 2 < logits.largest <= CHUNK_BYTES
    assert logits.peak <= CHUNK_BYTES
    assert count <= logits.rows < count + ROWS  # each is computed once


def test_the_plain_loss_would_be_seen_to_make_them_all() -> None:
    # Of the recorder itself.
    *leaves, targets = parts(300, words=5000)
    with recorded(5000) as logits:
        plain(*leaves, targets, 0.0).backward()
    assert logits.largest == 300 * 5000 * 4
    assert logits.peak >= 2 * logits.largest


# ---- of a model -----------------------------------------------------------------------------


def batch_of(sentences: int, longest: int, seed: int = 0) -> Batch:
    """Random sentences, the first of the longest length."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (sentences,), generator=random)
    lengths[0] = longest
    inside = torch.arange(longest) < lengths[:, None]
    source, target = (
        torch.randint(4, WORDS, (sentences, longest), generator=random).where(inside, PAD)
        for _ in range(2)
    )
    target_in = target.roll(1, dims=1)
    target_in[:, 0] = SOS
    return Batch(source, lengths, target_in, target, sentences)


@pytest.fixture
def model() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(WORDS, WORDS, ModelConfig(embedding_size=6, hidden_size=HIDDEN)).eval()


def token_by_token(model: Seq2Seq, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Loss, tokens predicted right, tokens and sentences, without any batch of tokens."""
    loss, correct, tokens = torch.zeros(()), 0, 0
    hidden = model(batch.source, batch.source_lengths, batch.target_in)
    for sentence, words in zip(hidden, batch.target_out, strict=True):
        for state, word in zip(sentence, words, strict=True):
            if word != PAD:
                logits = model.decoder.output(state)
                loss = loss + F.cross_entropy(logits, word, label_smoothing=smoothing)
                correct += int(logits.argmax() == word)
                tokens += 1
    others = torch.tensor([correct, tokens, batch.sentences]).double()
    return torch.cat([loss.double()[None], others])


@pytest.mark.parametrize("rows", [1, 2 * ROWS, 10_000])
def test_totals_are_those_counted_token_by_token(
    model: Seq2Seq, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks_of(monkeypatch, rows)
    batch = batch_of(30, 8)
    with torch.no_grad():  # an output layer that is right now and then
        model.decoder.output.bias[batch.target_out[0, 0]] += 9
    found = batch_sums(model, batch)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, token_by_token(model, batch).detach(), rtol=1e-5, atol=1e-5)
    sums = TokenSums.from_tensor(found)
    assert 0 < sums.correct < sums.tokens == int((batch.target_out != PAD).sum())
    assert sums.sentences == 30


def test_totals_of_hopeless_tokens_are_exact(model: Seq2Seq) -> None:
    batch = batch_of(30, 8)
    with torch.no_grad():  # no probability of a float is as small as the wanted words' now
        model.decoder.output.bias.fill_(-300).index_fill_(0, torch.tensor([PAD]), 300)
    found = batch_sums(model, batch)
    assert found[0] > 599 * found[2]
    torch.testing.assert_close(found, token_by_token(model, batch).detach(), rtol=1e-6, atol=0)


def test_totals_add_up_over_batches(model: Seq2Seq) -> None:
    batch = batch_of(20, 6)
    halves = [
        Batch(
            *(t[part] for t in (batch.source, batch.source_lengths)),
            *(t[part] for t in (batch.target_in, batch.target_out)),
            10,
        )
        for part in (slice(0, 10), slice(10, 20))
    ]
    together = batch_sums(model, halves[0]) + batch_sums(model, halves[1])
    torch.testing.assert_close(together, batch_sums(model, batch), rtol=1e-6, atol=1e-6)


def test_totals_of_a_share_without_rows_are_zero(model: Seq2Seq) -> None:
    share = batch_of(1, 3)
    nothing = Batch(
        share.source, share.source_lengths, share.target_in, share.target_out * 0 + PAD, 0
    )
    assert batch_sums(model, nothing).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_objective_is_the_loss_of_every_token_with_its_gradients(
    model: Seq2Seq, smoothing: float
) -> None:
    batch, weights = batch_of(9, 5), list(model.parameters())
    mine = TrainingLoss(model, smoothing)(batch)
    theirs = token_by_token(model, batch, smoothing)[0]
    value = token_by_token(model, batch, 0.0)[0]  # comparable with the loss on valid
    torch.testing.assert_close(mine.double(), value, rtol=1e-5, atol=1e-5)
    for own, other in zip(gradients(mine, *weights), gradients(theirs, *weights), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_the_padding_is_not_projected(model: Seq2Seq) -> None:
    batch = batch_of(100, 20)
    tokens = int((batch.target_out != PAD).sum())
    assert tokens + ROWS < batch.target_out.numel()
    with recorded(WORDS) as logits:
        TrainingLoss(model)(batch)
    assert tokens <= logits.rows < tokens + ROWS
    with recorded(WORDS) as logits:
        batch_sums(model, batch)
    assert logits.rows == tokens


def test_sums_are_divided_once_at_the_end() -> None:
    sums = TokenSums(loss=30.0, correct=12.0, tokens=20.0, sentences=5.0)
    assert sums.mean_loss == 1.5
    assert sums.token_accuracy == 0.6
    # 5 sentences of 8 positions: 12 right, 8 wrong, and 20 after the sentences' ends.
    assert sums.padded_accuracy(8) == (12 + 20) / 40


def test_sums_of_fp16_do_not_overflow_however_many_tokens_there_are() -> None:
    """All tokens are one word, whose bias has the largest sum that there can be."""
    count = 3000
    hidden, weight, bias, _ = parts(count)
    targets = torch.full((count,), 7)
    with torch.no_grad():
        loss, *found = module._loss_and_gradients(
            hidden, weight, bias, targets, 0.0, None, torch.float16
        )
    wanted = gradients(plain(hidden, weight, bias, targets, 0.0), hidden, weight, bias)
    assert loss.isfinite()
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.float() - theirs).norm() < 0.01 * theirs.norm()
