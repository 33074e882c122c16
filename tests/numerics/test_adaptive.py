"""The adaptive softmax against torch's own, and against the plain loss of its logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.config import Config, DecodeConfig, ModelConfig, TextConfig
from s2s.corpus.batches import Batch
from s2s.decoding.runtime import in_torch
from s2s.decoding.shortlisted import full_output
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.model.adaptive import AdaptiveOutput
from s2s.model.cross_entropy import output_cross_entropy
from s2s.model.directory import ModelDirectory
from s2s.model.loss import batch_sums
from s2s.text.vocabulary import PAD, SOS, Vocabulary
from tests.numerics.test_model import made, tokens

HIDDEN, WORDS = 32, 60
FREQUENT, CUTOFFS = 5, [5, 25]


def layer(words: int = WORDS) -> AdaptiveOutput:
    torch.manual_seed(0)
    return AdaptiveOutput(HIDDEN, words, FREQUENT)


def states_and_targets(count: int = 40) -> tuple[Tensor, Tensor]:
    """States with a gradient, and targets of which some are in each cluster."""
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(count, HIDDEN, generator=random).requires_grad_()
    targets = torch.randint(1, WORDS, (count,), generator=random)
    targets[:10] = torch.randint(1, FREQUENT, (10,), generator=random)
    return hidden, targets


def assert_same_gradients(output: nn.Module, hidden: Tensor, loss: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    leaves = [hidden, *output.parameters()]
    for own, other in zip(
        torch.autograd.grad(loss, leaves), torch.autograd.grad(wanted, leaves), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_probabilities_and_loss_are_those_of_torch() -> None:
    output = layer()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, WORDS, CUTOFFS, div_value=4, head_bias=True)
    weights = {f"head.{name}": weight for name, weight in output.head.named_parameters()}
    for number, cluster in enumerate(output.clusters):
        for place, part in enumerate((cluster.features, cluster.words)):
            weights[f"tail.{number}.{place}.weight"] = part.weight
            part.bias.data.zero_()  # theirs has none
    theirs.load_state_dict(weights)
    hidden, targets = states_and_targets()
    torch.testing.assert_close(output(hidden).log_softmax(1), theirs.log_prob(hidden))
    loss = output_cross_entropy(hidden, output, targets)
    torch.testing.assert_close(loss / len(targets), theirs(hidden, targets).loss)


def test_the_loss_is_that_of_all_logits() -> None:
    output, (hidden, targets) = layer(), states_and_targets()
    targets[::7] = PAD
    loss = output_cross_entropy(hidden, output, targets, ignored=PAD)
    wanted = F.cross_entropy(output(hidden), targets, reduction="sum", ignore_index=PAD)
    assert_same_gradients(output, hidden, loss, wanted)


def test_each_softmax_is_smoothed_over_its_own_entries() -> None:
    output, (hidden, targets) = layer(), states_and_targets()

    def smoothed(logits: Tensor, places: Tensor) -> Tensor:
        plain = F.cross_entropy(logits, places, reduction="sum")
        loss = F.cross_entropy(logits, places, reduction="sum", label_smoothing=0.1)
        return loss + (plain - loss).detach()

    wanted = smoothed(output.head(hidden), output.head_targets(targets))
    for (start, end), cluster in zip([(5, 25), (25, 60)], output.clusters, strict=True):
        inside = (targets >= start) & (targets < end)
        assert inside.any()
        logits = cluster.words(cluster.features(hidden[inside]))
        wanted = wanted + smoothed(logits, targets[inside] - start)
    loss = output_cross_entropy(hidden, output, targets, 0.1)
    assert_same_gradients(output, hidden, loss, wanted)


def test_a_cluster_without_targets_has_gradients_of_zero() -> None:
    # DistributedDataParallel waits for the gradient of every weight.
    output, (hidden, _) = layer(), states_and_targets()
    output_cross_entropy(hidden, output, torch.full((len(hidden),), 2)).backward()
    for weight in output.tails.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() == 0


def test_a_small_vocabulary_has_no_clusters() -> None:
    output, (hidden, _) = layer(FREQUENT), states_and_targets()
    assert output.clusters == []
    torch.testing.assert_close(output(hidden), output.head(hidden))


def test_clusters_grow_and_read_fewer_features() -> None:
    output = AdaptiveOutput(64, 50_000, 2_000)
    found = [(each.start, each.end, each.features.out_features) for each in output.clusters]
    assert found == [(2_000, 10_000, 16), (10_000, 50_000, 4)]


def test_sums_of_validation_are_those_of_the_probabilities() -> None:
    model = made("adaptive")
    target_out = tokens([3, 6, 5], 6, seed=2)
    target_in = target_out.roll(1, dims=1)
    target_in[:, 0] = SOS
    batch = Batch(tokens([5, 1, 3], 5, seed=1), torch.tensor([5, 1, 3]), target_in, target_out, 3)
    real = target_out != PAD
    hidden = model(batch.source, batch.source_lengths, target_in)[real]
    logits, targets = model.decoder.output(hidden), target_out[real]
    with torch.no_grad():
        loss = F.cross_entropy(logits, targets, reduction="sum").double()
        correct = (logits.argmax(1) == targets).sum().double()
    wanted = torch.stack([loss, correct, *torch.tensor([14.0, 3.0]).double()])
    torch.testing.assert_close(batch_sums(model, batch), wanted, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_decoding_replaces_the_layers_of_its_own_copy() -> None:
    model, hidden = made("adaptive"), torch.randn(3, 8)
    copy = in_torch(model, DecodeConfig(precision="bf16"))
    wanted = model.decoder.output(hidden)
    assert isinstance(model.decoder.output.head, nn.Linear)
    assert not isinstance(copy.decoder.output.head, nn.Linear)
    torch.testing.assert_close(copy.decoder.output(hidden), wanted, rtol=0, atol=0.02)


@pytest.fixture
def words() -> ModelDirectory:
    """A model of seven words, of which two are in a cluster."""
    config = Config(model=ModelConfig(output="adaptive", frequent_words=7))
    vocabulary = Vocabulary.learn(["one two three four five", "one two three"], config.text)
    return ModelDirectory.new(config, vocabulary, vocabulary)


def test_what_does_not_go_with_it_is_refused(words: ModelDirectory) -> None:
    with pytest.raises(ValueError, match="output adaptive needs tie none"):
        ModelConfig(output="adaptive", tie="target")
    with pytest.raises(BadInput, match=r"needs a model that was trained with model\.output full"):
        full_output(words.model)
    with pytest.raises(BadInput, match=r"trained with model\.output full"):
        Translator(words, DecodeConfig(shortlist=5))
    text = TextConfig(units="bpe", vocabulary_size=20)
    config = words.config.model_copy(update={"text": text})
    with pytest.raises(BadInput, match=r"prepared with text\.units word"):
        ModelDirectory.new(config, words.source, words.target)
