"""The ONNX graphs in ONNX Runtime against the network that they are made of."""

import onnx
import pytest
import torch

from s2s.config import ModelConfig
from s2s.model.seq2seq import DecoderState, Seq2Seq
from s2s.onnx.encoder import encoder_graph
from s2s.onnx.names import NEXT
from s2s.onnx.session import OnnxModel
from s2s.onnx.step import step_graph
from s2s.text.vocabulary import SOS
from tests.numerics.test_model import KINDS, LENGTHS, made, parts_of, tokens

BEAM = 3


def config_of(name: str) -> ModelConfig:
    """The settings of a kind of model, of the sizes of `made`."""
    return ModelConfig.model_validate({"embedding_size": 6, "hidden_size": 8, **KINDS[name]})


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest) -> tuple[Seq2Seq, OnnxModel]:
    """A model of each kind, and its graphs in ONNX Runtime."""
    model = made(request.param)
    return model, OnnxModel.of(model, config_of(request.param))


def assert_same_state(found: DecoderState, wanted: DecoderState) -> None:
    for part, other in zip(parts_of(found), parts_of(wanted), strict=True):
        torch.testing.assert_close(part, other, atol=1e-5, rtol=1e-5)
    assert (found.input_feed is None) == (wanted.input_feed is None)
    if found.input_feed is not None:
        torch.testing.assert_close(found.input_feed, wanted.input_feed, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_graphs_compute_what_the_network_computes(both: tuple[Seq2Seq, OnnxModel]) -> None:
    model, graphs = both
    source, lengths = tokens(LENGTHS, max(LENGTHS) + 2, seed=1), torch.tensor(LENGTHS)
    wanted, found = model.encode(source, lengths), graphs.encode(source, lengths)
    assert_same_state(found, wanted)
    rows = torch.arange(len(LENGTHS)).repeat_interleave(BEAM)
    wanted, found = wanted.reorder(rows), found.reorder(rows)
    words = torch.full((len(rows),), SOS)
    for step in range(4):
        logits, weights, wanted = model.step(words, wanted)
        own_logits, own_weights, found = graphs.step(words, found)
        torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=1e-5)
        assert (weights is None) == (own_weights is None)
        if weights is not None:
            torch.testing.assert_close(own_weights, weights, atol=1e-5, rtol=1e-5)
        assert_same_state(found, wanted)
        words = tokens([len(rows)], len(rows), seed=step)[0]


@torch.inference_mode()
def test_a_graph_runs_for_any_number_of_sentences_and_tokens() -> None:
    model = made("feeding")
    graphs = OnnxModel.of(model, config_of("feeding"))
    for lengths in ([1], [4, 9], [2, 2, 2, 2, 2]):
        source = tokens(lengths, max(lengths), seed=1)
        assert_same_state(
            graphs.encode(source, torch.tensor(lengths)),
            model.encode(source, torch.tensor(lengths)),
        )


@torch.inference_mode()
def test_a_row_of_padding_alone_has_finite_logits() -> None:
    # Free slots of continuous batching have no source tokens.
    model = made("general")
    graphs = OnnxModel.of(model, config_of("general"))
    state = graphs.encode(tokens([2], 2, seed=1), torch.tensor([2]))
    assert state.memory is not None
    state.memory.padding.fill_(True)
    logits, _, _ = graphs.step(torch.tensor([SOS]), state)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", KINDS)
def test_graphs_are_valid_and_a_step_takes_what_was_given_before(name: str) -> None:
    # By these names alone the programs that read the graphs connect them.
    model, config = made(name), config_of(name)
    graphs = encoder_graph(model, config), step_graph(model, config)
    for graph in graphs:
        onnx.checker.check_model(graph)
    encoder, step = (graph.graph for graph in graphs)
    encoded = {value.name for value in encoder.output}
    assert {value.name for value in step.input} == {"tokens", *encoded}
    stepped = {value.name for value in step.output}
    changed = {"hidden", "cell", "input_feed"} & encoded
    assert stepped - {"logits", "weights"} == {NEXT + each for each in changed}
    assert ("weights" in stepped) == ("values" in encoded)


def test_tied_weights_are_stored_once() -> None:
    graph = step_graph(made("tied-all"), config_of("tied-all")).graph
    shapes = [tuple(each.dims) for each in graph.initializer]
    assert shapes.count((20, 6)) == 1


def test_a_graph_says_its_shapes_and_is_valid() -> None:
    model = step_graph(made("general"), config_of("general"))
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    [logits] = [each for each in inferred.graph.output if each.name == "logits"]
    assert [each.dim_param or each.dim_value for each in logits.type.tensor_type.shape.dim] == [
        "hypotheses",
        20,
    ]
