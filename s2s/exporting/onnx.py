"""A model directory as ONNX graphs, tokenizers and a manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import onnx
import onnxruntime
import torch

from s2s import __version__
from s2s.errors import BadInput
from s2s.exporting.manifest import MANIFEST, Checked, ExportManifest, GraphFile
from s2s.exporting.parity import TOLERANCES, compare
from s2s.files import new_directory, sha256, write_text
from s2s.model.directory import ModelDirectory
from s2s.onnx.encoder import encoder_graph
from s2s.onnx.precision import PRECISIONS
from s2s.onnx.session import OnnxModel
from s2s.onnx.step import step_graph
from s2s.text.vocabulary import SPECIALS

# Sentences on which graphs are compared with the model.
_MAX_CHECKED = 1000

# Without sentences of a corpus: so many are made of the model's own tokens, of up to so many each.
_MADE_UP, _LONGEST = 64, 20


def export_to_onnx(
    directory: ModelDirectory,
    out: Path,
    sentences: Sequence[str] = (),
    sentences_from: str = "",
    precision: Literal["fp32", "int8"] = "fp32",
) -> ExportManifest:
    """Write a model as the directory `out`, once its graphs translate as the model does.

    Args:
        sentences: sources to compare the two on, of which the first 1000 are taken. Without any,
            they are made of the model's own tokens.
        sentences_from: where the sentences are from.
        precision: of the weights, and of products with them.

    Raises:
        BadInput: `out` exists, or no sentence has a token.
        Failed: the graphs do not translate as the model does; `out` is not written.
    """
    if out.exists():
        raise BadInput(f"{out} exists already; name another --out")
    ids = [each for each in directory.source.encode(list(sentences[:_MAX_CHECKED])) if each]
    if sentences and not ids:
        raise BadInput(f"{sentences_from} has no sentence to compare the graphs on")
    config = directory.config
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(out) as scratch:
        weights = PRECISIONS[precision]
        encoder = encoder_graph(directory.model, config.model, weights)
        step = step_graph(directory.model, config.model, weights)
        for name, graph in (("encoder", encoder), ("step", step)):
            onnx.checker.check_model(graph)
            onnx.save(graph, scratch / f"{name}.onnx")
        directory.source.save(scratch / "source.json")
        directory.target.save(scratch / "target.json")
        graphs = OnnxModel(
            config.model,
            (scratch / "encoder.onnx").read_bytes(),
            (scratch / "step.onnx").read_bytes(),
            threads=torch.get_num_threads(),
        )
        made_up = _made_up_sentences(len(directory.source))
        tolerance = TOLERANCES[precision]
        parity = compare(directory.model, graphs, ids or made_up, config.decode, tolerance)
        manifest = ExportManifest(
            source_language=config.source_language,
            target_language=config.target_language,
            precision=precision,
            encoder=_described(encoder, "encoder.onnx"),
            step=_described(step, "step.onnx"),
            decode=config.decode,
            checked=Checked(
                sentences=parity.sentences,
                sentences_from=sentences_from or "the model's own tokens",
                changed=parity.changed,
                score_difference=parity.score_difference,
            ),
            versions={
                "s2s": __version__,
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
                "opset": str(encoder.opset_import[0].version),
            },
            sha256={file.name: sha256(file) for file in sorted(scratch.iterdir())},
        )
        write_text(scratch / MANIFEST, manifest.to_json())
    return manifest


def _described(graph: onnx.ModelProto, file: str) -> GraphFile:
    """Return what the manifest says of a graph."""
    return GraphFile(
        file=file,
        inputs=tuple(value.name for value in graph.graph.input),
        outputs=tuple(value.name for value in graph.graph.output),
    )


def _made_up_sentences(vocabulary_size: int) -> list[list[int]]:
    """Return sentences of the tokens of a vocabulary in their order, special ones left out."""
    words = range(len(SPECIALS), vocabulary_size)
    sentences: list[list[int]] = []
    start = 0
    for number in range(_MADE_UP):
        length = number % _LONGEST + 1
        sentences.append([words[(start + place) % len(words)] for place in range(length)])
        start += length
    return sentences
