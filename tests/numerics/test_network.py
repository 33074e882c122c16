"""Decoding by ONNX Runtime against decoding by torch, and products in int8 against exact ones."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from s2s.config import DecodeConfig, ModelConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.runtime import network_of
from s2s.decoding.search import decode
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.onnx.graph import Graph
from s2s.onnx.precision import FLOAT32, INT8, Float32, Precision
from s2s.onnx.session import OnnxModel
from s2s.onnx.step import step_graph
from tests.numerics.test_model import parts_of
from tests.support.networks import KINDS, made, some_sources

SEARCHES = [
    DecodeConfig(max_length=9),
    DecodeConfig(max_length=9, beam=5, n_best=3, min_ratio=0.5, unknown="copy"),
    DecodeConfig(max_length=9, temperature=0.7, n_best=2),
]


def config_of(name: str) -> ModelConfig:
    """The settings of a kind of model, of the sizes of `made`."""
    return ModelConfig.model_validate({"embedding_size": 8, "hidden_size": 16, **KINDS[name]})


def native(name: str, model: Seq2Seq | None = None, precision: Precision = FLOAT32) -> OnnxModel:
    """A kind of model in ONNX Runtime."""
    return OnnxModel.of(model or made(name), config_of(name), precision)


def assert_same(found: list[list[Hypothesis]], wanted: list[list[Hypothesis]]) -> None:
    assert [[each.ids for each in row] for row in found] == [
        [each.ids for each in row] for row in wanted
    ]
    for own, other in zip(chain(*found), chain(*wanted), strict=True):
        assert own.score == pytest.approx(other.score, abs=1e-4)
        assert own.scores == pytest.approx(other.scores, abs=1e-4)
        assert own.alignment == other.alignment
        assert own.finish_reason == other.finish_reason


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", SEARCHES, ids=lambda how: how.method)
def test_searches_find_the_same_in_onnx_runtime(name: str, how: DecodeConfig) -> None:
    source, lengths = some_sources(16)
    wanted = decode(made(name), source, lengths, how, details=True)
    assert_same(decode(native(name), source, lengths, how, details=True), wanted)


@pytest.mark.parametrize("name", KINDS)
def test_slots_find_the_same_in_onnx_runtime(name: str) -> None:
    how, random = DecodeConfig(max_length=7, max_ratio=3.0), Random(1)
    source, lengths = some_sources(20)
    waiting = [row[:size].tolist() for row, size in zip(source, lengths.tolist(), strict=True)]
    slots: Slots[int] = Slots(native(name), how, 5, torch.device("cpu"))
    found: dict[int, list[int]] = {}
    admitted = 0
    while admitted < len(waiting) or len(slots):
        count = min(slots.free, random.randint(0, 4), len(waiting) - admitted)
        if count:
            owners = list(range(admitted, admitted + count))
            slots.admit([waiting[owner] for owner in owners], owners)
            admitted += count
        found.update((slot.owner, slot.ids) for slot in slots.step())
    wanted = decode(made(name), source, lengths, how)
    assert [found[owner] for owner in range(20)] == [best.ids for [best] in wanted]


# ---- int8 ---------------------------------------------------------------------------------------


def product(
    weight: torch.Tensor, bias: torch.Tensor, bound: float | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The product of weights with rows in int8, as a function of rows."""
    graph = Graph("product")
    rows = graph.input("rows", np.float32, "rows", weight.shape[1])
    result = INT8.product(graph, "layer", rows, weight, bias, bound)
    graph.output("result", result, np.float32, "rows", len(weight))
    session = onnxruntime.InferenceSession(graph.model().SerializeToString())
    return lambda rows: torch.from_numpy(session.run(None, {"rows": rows.numpy()})[0])


@pytest.mark.parametrize("bound", [None, 1.0, 2.0])
def test_products_in_int8_are_nearly_exact(bound: float | None) -> None:
    torch.manual_seed(1)
    weight, bias = torch.randn(40, 96), torch.randn(40)
    rows = torch.rand(33, 96) * 2 - 1
    found, wanted = product(weight, bias, bound)(rows), rows @ weight.t() + bias
    assert (found - wanted).abs().max() < 0.05 * (bound or 1) * wanted.std()
    assert not torch.equal(found, wanted)


@pytest.mark.parametrize("bound", [None, 1.0])
def test_no_sum_saturates(bound: float | None) -> None:
    # x86 CPUs without VNNI add pairs of products in 16 bits, which signed weights overflow.
    rows, weight = torch.ones(8, 64), torch.ones(24, 64)
    weight[1::2] = -1
    found = product(weight, torch.zeros(24), bound)(rows)
    torch.testing.assert_close(found, rows @ weight.t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bound", [None, 1.0])
def test_a_row_in_int8_does_not_depend_on_others(bound: float | None) -> None:
    torch.manual_seed(1)
    layer = product(torch.randn(40, 96), torch.randn(40), bound)
    rows = torch.rand(33, 96) * 2 - 1
    rows[::2] *= 0.01
    together = layer(rows)
    for row in range(33):
        assert torch.equal(layer(rows[row : row + 1])[0], together[row])


def test_a_row_of_zeros_stays_finite() -> None:
    layer = product(torch.ones(4, 8), torch.ones(4), None)
    torch.testing.assert_close(layer(torch.zeros(2, 8)), torch.ones(2, 4))


@pytest.mark.parametrize("name", KINDS)
def test_steps_in_int8_are_nearly_those_in_float32(name: str) -> None:
    source, lengths = some_sources(16)
    model = made(name, sharpness=1.0)
    exact, rounded = native(name, model), native(name, model, INT8)
    with torch.inference_mode():
        states = exact.encode(source, lengths), rounded.encode(source, lengths)
        tokens = torch.arange(16) % 12
        wanted, _, _ = exact.step(tokens, states[0])
        found, _, _ = rounded.step(tokens, states[1])
    assert (found - wanted).abs().max() < 0.05 * wanted.std()
    assert not torch.equal(found, wanted)


@pytest.mark.parametrize("name", KINDS)
def test_a_loop_over_tokens_computes_what_the_recurrent_operator_does(name: str) -> None:
    # Only the one object FLOAT32 takes ONNX's own operators.
    source, lengths = some_sources(16)
    wanted, found = (
        native(name, precision=each).encode(source, lengths) for each in (FLOAT32, Float32())
    )
    for part, other in zip(parts_of(found), parts_of(wanted), strict=True):
        torch.testing.assert_close(part, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_sentences_in_int8_do_not_depend_on_those_beside_them(name: str) -> None:
    source, lengths = some_sources(16)
    rounded = native(name, precision=INT8)
    together = rounded.encode(source, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = rounded.encode(source[row : row + 1, :length], lengths[row : row + 1])
        for part, other in zip(alone.recurrent, together.recurrent, strict=True):
            assert torch.equal(part[:, 0], other[:, row])
        if alone.memory is not None and together.memory is not None:
            assert torch.equal(alone.memory.keys[0], together.memory.keys[row, :length])


def test_embeddings_in_int8_are_nearly_exact() -> None:
    torch.manual_seed(1)
    weight = torch.randn(30, 24)
    weight[3] *= 0.01  # each has a scale of its own
    graph = Graph("embedding")
    tokens = graph.input("tokens", np.int64, "sentences", "source_tokens")
    found = INT8.embed(graph, "layer", tokens, weight)
    graph.output("found", found, np.float32, "sentences", "source_tokens", 24)
    session = onnxruntime.InferenceSession(graph.model().SerializeToString())
    chosen = torch.tensor([[3, 7, 0], [29, 3, 3]])
    [rows] = session.run(None, {"tokens": chosen.numpy()})
    limits = weight[chosen].abs().amax(2, keepdim=True) / 127 / 2 * 1.001
    assert ((torch.from_numpy(rows) - weight[chosen]).abs() <= limits).all()


# ---- which network a translator has -------------------------------------------------------------


def test_a_cpu_translates_by_onnx_runtime(model_dir: Path) -> None:
    translator = Translator.load(model_dir)
    assert isinstance(translator.model, OnnxModel)
    directory = ModelDirectory.load(model_dir)
    texts = ["I see trees.", "we want bread!"]
    in_int8 = translator.with_settings(precision="int8")
    assert in_int8.translate(texts) == translator.translate(texts)
    assert in_int8.model is not translator.model
    assert isinstance(network_of(directory, DecodeConfig(), native=False), Seq2Seq)


@pytest.mark.parametrize("precision", [FLOAT32, INT8])
@pytest.mark.parametrize("name", KINDS)
def test_graphs_are_valid(name: str, precision: Precision) -> None:
    for output_layer in (False, True):
        graph = step_graph(
            made(name), config_of(name), precision, output_layer=output_layer, grouped=True
        )
        onnx.checker.check_model(graph)
