"""The network against itself done the slow way, and that padding is never read."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2s.config import ModelConfig
from s2s.model.cross_entropy import output_cross_entropy
from s2s.model.dropout import LockedDropout
from s2s.model.seq2seq import DecoderState, Seq2Seq, reversed_positions
from s2s.text.vocabulary import PAD, SOS

LENGTHS = [5, 1, 3]  # of the sources
TARGETS = [2, 6, 4]
KINDS: dict[str, dict[str, Any]] = {
    **{
        f"{cell}-{layers}": {"cell": cell, "layers": layers}
        for cell in ("lstm", "gru", "rnn")
        for layers in (1, 2)
    },
    "bidirectional": {"bidirectional": True, "layers": 2},
    "bidirectional-gru": {"bidirectional": True, "cell": "gru"},
    "backwards": {"reverse_source": True},
    "backwards-dot": {"reverse_source": True, "attention": "dot"},
    "residual": {"residual": True, "layers": 3, "bidirectional": True},
    "dot": {"attention": "dot"},
    "general": {"attention": "general", "bidirectional": True, "layers": 2},
    "additive": {"attention": "additive", "bidirectional": True},
    "feeding": {"attention": "general", "input_feeding": True, "layers": 2},
    "adaptive": {"output": "adaptive", "frequent_words": 5},
    "tied-target": {"tie": "target"},
    "tied-all": {"tie": "all", "attention": "general", "bidirectional": True},
    "tied-feeding": {"tie": "all", "attention": "additive", "input_feeding": True},
}
ATTENDING = [name for name, kind in KINDS.items() if "attention" in kind]


def tokens(lengths: list[int], width: int, seed: int) -> Tensor:
    """Random words of these lengths, padded to a width."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), width), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(4, 20, (length,), generator=random)
    return rows


def made(name: str, **settings: Any) -> Seq2Seq:
    """A model of one of the kinds with random weights."""
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"embedding_size": 6, "hidden_size": 8, **KINDS[name], **settings}
    )
    return Seq2Seq(20, 20, config).eval()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    """A model of each kind with random weights."""
    return made(request.param)


def parts_of(state: DecoderState) -> list[Tensor]:
    """All tensors of a state, sentences first."""
    parts = [part.transpose(0, 1) for part in state.recurrent]
    if state.memory is not None:
        inside = ~state.memory.padding
        parts += [
            inside,
            state.memory.values * inside[:, :, None],
            state.memory.keys * inside[:, :, None],
        ]
    return parts


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
        "loss": output_cross_entropy(hidden[predicted], output, target_out[predicted]),
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
            logits, _, state = model.step(batch["target_in"][row, step : step + 1], state)
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
    clean, noisy = model.encode(source, lengths), model.encode(noise, lengths)
    for plain, other in zip(clean.recurrent, noisy.recurrent, strict=True):
        torch.testing.assert_close(other, plain)


def test_a_sentence_has_one_state_whatever_stands_beside_it(model: Seq2Seq) -> None:
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    together = model.encode(source, lengths)
    for row, length in enumerate(LENGTHS):
        alone = model.encode(source[row : row + 1, :length], lengths[row : row + 1])
        for all_rows, one_row in zip(parts_of(together), parts_of(alone), strict=True):
            torch.testing.assert_close(all_rows[row : row + 1, : one_row.shape[1]], one_row)


def test_what_follows_a_word_does_not_change_its_prediction(model: Seq2Seq) -> None:
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    target = tokens([6, 6, 6], 6, seed=3)
    other = target.clone()
    other[:, 4:] = 9
    changed, plain = (model(source, lengths, words)[:, :4] for words in (other, target))
    torch.testing.assert_close(changed, plain)
    output = model.decoder.output
    torch.testing.assert_close(output(changed), output(plain))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if "tie" not in kind])
def test_the_padding_has_no_gradient_and_stays_zero(name: str) -> None:
    model = made(name)
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
    width = model.decoder.output.in_features
    assert batch["hidden"].shape == (len(TARGETS), max(TARGETS), width)
    assert batch["logits"].shape == (sum(TARGETS), 20)


def test_the_loss_of_nothing_is_zero_with_a_gradient(model: Seq2Seq) -> None:
    # A worker without rows takes its step all the same (batches.py).
    source, target_in = tokens([2], 2, seed=1), tokens([3], 3, seed=2)
    nothing = torch.zeros_like(target_in, dtype=torch.bool)
    hidden = model(source, torch.tensor([2]), target_in)[nothing]
    output = model.decoder.output
    loss = output_cross_entropy(hidden, output, target_in[nothing])
    loss.backward()
    assert loss == 0
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() == 0


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_weights_sum_to_one_and_never_fall_on_padding(name: str) -> None:
    model = made(name)
    source, lengths = tokens(LENGTHS, max(LENGTHS) + 2, seed=1), torch.tensor(LENGTHS)
    state = model.encode(source, lengths)
    words = torch.tensor([SOS, SOS, SOS])
    for _ in range(3):
        logits, weights, state = model.step(words, state)
        assert weights is not None
        assert weights.shape == source.shape
        torch.testing.assert_close(weights.sum(1), torch.ones(len(LENGTHS)))
        assert weights[source == PAD].abs().max() == 0
        assert (weights[source != PAD] > 0).all()
        words = logits.argmax(1)


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
def test_a_word_that_looks_like_padding_is_looked_at(score: str) -> None:
    model = made("dot", attention=score)
    state = model.encode(torch.tensor([[PAD, 5]]), torch.tensor([2]))
    _, weights, _ = model.step(torch.tensor([SOS]), state)
    assert (weights > 0).all()


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
def test_attention_is_what_the_papers_write(score: str) -> None:
    # Luong et al. (2015), equations 5, 7 and 8, and Bahdanau et al. (2015), appendix A.1.2, for one
    # hypothesis of one sentence, word by word.
    model = made("dot", attention=score)
    attention = model.decoder.attention
    assert attention is not None
    random = torch.Generator().manual_seed(1)
    values, query = torch.randn(4, 8, generator=random), torch.randn(8, generator=random)
    energies = []
    for value in values:
        if score == "dot":
            energies.append(query @ value)
        elif score == "general":
            energies.append(query @ attention.key.weight @ value)
        else:
            hidden = torch.tanh(attention.query.weight @ query + attention.key.weight @ value)
            energies.append(attention.energy.weight[0] @ hidden)
    weights = torch.stack(energies).softmax(0)
    context = sum(weight * value for weight, value in zip(weights, values, strict=True))
    memory = attention.memory(values[None], torch.zeros(1, 4, dtype=torch.bool))
    found, given = attention(query[None, None], memory)
    torch.testing.assert_close(given[0, 0], weights)
    torch.testing.assert_close(found[0, 0], context)


def test_a_query_does_not_notice_the_others_of_its_sentence() -> None:
    # The hypotheses of a beam are queries side by side on one memory.
    model = made("additive")
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    state = model.encode(source, lengths)
    each = torch.arange(3).repeat_interleave(2)
    beams = state.reorder(each)
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    logits, weights, _ = model.step(words, beams)
    for place in (0, 1):
        alone, look, _ = model.step(words[place::2], state)
        torch.testing.assert_close(logits[place::2], alone)
        torch.testing.assert_close(weights[place::2], look)


def test_backwards_the_encoder_reads_each_sentence_from_its_end() -> None:
    backwards, forwards = made("backwards-dot"), made("dot")
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    turned = torch.zeros_like(source)
    for row, length in enumerate(LENGTHS):
        turned[row, :length] = source[row, :length].flip(0)
    assert torch.equal(source.gather(1, reversed_positions(source, lengths)), turned)
    found, wanted = backwards.encode(source, lengths), forwards.encode(turned, lengths)
    torch.testing.assert_close(found.recurrent, wanted.recurrent)
    # What is looked back at stands in the order of the sentence all the same.
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(
            found.memory.values[row, :length], wanted.memory.values[row, :length].flip(0)
        )


def test_each_direction_of_the_encoder_reads_alone() -> None:
    model = made("bidirectional-gru")
    source, lengths = tokens(LENGTHS, max(LENGTHS), seed=1), torch.tensor(LENGTHS)
    _, (cells,) = model.encoder(source, lengths)
    [layer] = model.encoder.recurrent.layers
    for row, length in enumerate(LENGTHS):
        halves = []
        for suffix, order in (("", 1), ("_reverse", -1)):
            half = torch.nn.GRU(6, 4, batch_first=True)
            half.load_state_dict(
                {
                    name: getattr(layer, name + suffix)
                    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
                }
            )
            words = source[row : row + 1, :length]
            words = words if order == 1 else words.flip(1)
            halves.append(half(model.encoder.embedding(words))[1])
        both = torch.tanh(model.encoder.bridge[0](torch.cat(halves, dim=2)))
        torch.testing.assert_close(cells[:, row : row + 1], both)


def test_residual_layers_add_their_input() -> None:
    model = made("residual", bidirectional=False, layers=2)
    recurrent = model.decoder.recurrent
    inputs = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    cells = (torch.zeros(2, 2, 8), torch.zeros(2, 2, 8))
    first, _ = recurrent.layers[0](inputs)
    second, _ = recurrent.layers[1](first)
    torch.testing.assert_close(recurrent(inputs, cells)[0], first + second)


def test_locked_dropout_has_one_mask_for_a_sentence() -> None:
    dropout = LockedDropout(0.5).train()
    ones = torch.ones(8, 5, 16)
    dropped = dropout(ones)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[:, :1]).all()
    assert not (dropped[0] == dropped[1]).all()
    lengths = torch.tensor([5, 3, 1, 5, 2, 4, 5, 1])
    packed = pack_padded_sequence(ones, lengths, batch_first=True, enforce_sorted=False)
    unpacked, _ = pad_packed_sequence(dropout.packed(packed), batch_first=True)
    for row, length in zip(unpacked, lengths.tolist(), strict=True):
        assert set(row[:length].unique().tolist()) == {0.0, 2.0}
        assert (row[:length] == row[0]).all()
    assert torch.equal(dropout.eval()(ones), ones)


def test_dropout_is_locked_with_input_feeding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("feeding", dropout=0.5).train()
    given = []

    class Watched(LockedDropout):
        def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
            given.append(mask)
            return super().forward(inputs, mask)

    monkeypatch.setattr(model.decoder.recurrent.dropout, "__class__", Watched)
    forced(model)
    assert len(given) == max(TARGETS)
    assert given[0] is not None
    assert all(mask is given[0] for mask in given)


@pytest.mark.parametrize("setting", ["dropout", "word_dropout"])
def test_dropout_is_for_training_alone(setting: str) -> None:
    plain, dropping = made("general"), made("general", **{setting: 0.5})
    wanted = forced(plain)["logits"]
    torch.testing.assert_close(forced(dropping)["logits"], wanted)
    dropping.train()
    assert not torch.allclose(forced(dropping)["logits"], wanted)


def test_tied_weights_are_one_and_are_saved_once() -> None:
    model = made("tied-all")
    output, decoder, encoder = (
        model.decoder.output.weight,
        model.decoder.embedding.weight,
        model.encoder.embedding.weight,
    )
    assert output is decoder is encoder
    weights = model.named_weights()
    assert sum(weight.shape == output.shape for weight in weights.values()) == 1
    torch.manual_seed(5)
    other = Seq2Seq(
        20,
        20,
        ModelConfig.model_validate({**KINDS["tied-all"], "embedding_size": 6, "hidden_size": 8}),
    )
    other.load_weights(weights)
    torch.testing.assert_close(forced(other.eval())["logits"], forced(model)["logits"])


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"decoder\.attention"):
        made("tied-target").load_weights(made("general").named_weights())
    with pytest.raises(RuntimeError, match="shape"):
        made("dot").load_weights(made("dot", embedding_size=7).named_weights())
