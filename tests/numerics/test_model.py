"""The network against itself done the slow way, and that padding is never read."""

from typing import Any

import pytest
import torch
from torch import Tensor

from s2s.config import ModelConfig
from s2s.loss import cross_entropy
from s2s.model import Seq2Seq
from s2s.text import PAD, SOS

LENGTHS = [5, 1, 3]  # of the sources
TARGETS = [2, 6, 4]
KINDS = [(cell, layers) for cell in ("lstm", "gru", "rnn") for layers in (1, 2)]


def tokens(lengths: list[int], width: int, seed: int) -> Tensor:
    """Random words of these lengths, padded to a width."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), width), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(4, 20, (length,), generator=random)
    return rows


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    """A model with random weights."""
    cell, layers = request.param
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, layers=layers, embedding_size=6, hidden_size=8)
    return Seq2Seq(20, 20, config).eval()


def forced(model: Seq2Seq, source_padding: int = 0, target_padding: int = 0) -> dict[str, Any]:
    """States, logits and loss of one batch under teacher forcing, with extra padding."""
    source = tokens(LENGTHS, max(LENGTHS) + source_padding, seed=1)
    target_out = tokens(TARGETS, max(TARGETS) + target_padding, seed=2)
    target_in = target_out.roll(1, dims=1)
    target_in[:, 0] = SOS
    predicted = target_out != PAD
    hidden = model(source, torch.tensor(LENGTHS), target_in)
    output = model.decoder.output
    return {
        "hidden": hidden,
        "logits": output(hidden[predicted]),
        "loss": cross_entropy(hidden[predicted], output.weight, output.bias, target_out[predicted]),
        "source": source,
        "target_in": target_in,
    }


def test_teacher_forcing_equals_decoding_step_by_step(model: Seq2Seq) -> None:
    batch = forced(model)
    stepped = []
    for row, length in enumerate(TARGETS):
        alone = batch["source"][row : row + 1, : LENGTHS[row]]
        state = model.encode(alone, torch.tensor([LENGTHS[row]]))
        for step in range(length):
            logits, state = model.step(batch["target_in"][row, step : step + 1], state)
            stepped.append(logits[0])
    torch.testing.assert_close(batch["logits"], torch.stack(stepped))


@pytest.mark.parametrize(("source", "target"), [(4, 0), (0, 5), (3, 2)])
def test_more_padding_changes_nothing(model: Seq2Seq, source: int, target: int) -> None:
    plain, padded = forced(model), forced(model, source, target)
    torch.testing.assert_close(padded["logits"], plain["logits"])
    torch.testing.assert_close(padded["loss"], plain["loss"])


def test_the_encoder_does_not_read_past_a_sentences_end(model: Seq2Seq) -> None:
    source = tokens(LENGTHS, max(LENGTHS), seed=1)
    noise = torch.where(source == PAD, 7, source)
    lengths = torch.tensor(LENGTHS)
    for clean, noisy in zip(
        model.encode(source, lengths), model.encode(noise, lengths), strict=True
    ):
        torch.testing.assert_close(noisy, clean)


def test_a_sentence_has_one_state_whatever_stands_beside_it(model: Seq2Seq) -> None:
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    together = model.encode(source, lengths)
    for row, length in enumerate(LENGTHS):
        alone = model.encode(source[row : row + 1, :length], lengths[row : row + 1])
        for all_rows, one_row in zip(together, alone, strict=True):
            torch.testing.assert_close(all_rows[:, row : row + 1], one_row)


def test_what_follows_a_word_does_not_change_its_prediction(model: Seq2Seq) -> None:
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    target = tokens([6, 6, 6], 6, seed=3)
    other = target.clone()
    other[:, 4:] = 9
    changed, plain = (model(source, lengths, words)[:, :4] for words in (other, target))
    torch.testing.assert_close(changed, plain)
    output = model.decoder.output
    torch.testing.assert_close(output(changed), output(plain))


def test_the_padding_has_no_gradient_and_stays_zero(model: Seq2Seq) -> None:
    forced(model, source_padding=2, target_padding=2)["loss"].backward()
    for side in (model.encoder, model.decoder):
        gradient = side.embedding.weight.grad
        assert gradient is not None
        assert gradient[PAD].abs().sum() == 0
        assert gradient.abs().sum() > 0
        assert side.embedding.weight[PAD].abs().sum() == 0


def test_every_weight_takes_part(model: Seq2Seq) -> None:
    forced(model)["loss"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_only_wanted_positions_are_projected(model: Seq2Seq) -> None:
    # The network leaves the projection to the loss, which knows the padding.
    batch = forced(model)
    assert batch["hidden"].shape == (len(TARGETS), max(TARGETS), 8)
    assert batch["logits"].shape == (sum(TARGETS), 20)


def test_the_loss_of_nothing_is_zero_with_a_gradient(model: Seq2Seq) -> None:
    # A worker without rows takes its step all the same (batches.py).
    source, target_in = tokens([2], 2, seed=1), tokens([3], 3, seed=2)
    nothing = torch.zeros_like(target_in, dtype=torch.bool)
    hidden = model(source, torch.tensor([2]), target_in)[nothing]
    output = model.decoder.output
    loss = cross_entropy(hidden, output.weight, output.bias, target_in[nothing])
    loss.backward()
    assert loss == 0
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() == 0
