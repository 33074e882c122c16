"""The manifest of an exported model: all that a program needs to know besides the graphs."""

from typing import Literal

from s2s.config import DecodeConfig, Section
from s2s.text.scripts import SPACELESS_LETTERS
from s2s.text.vocabulary import EOS, PAD, SOS, UNK

MANIFEST = "manifest.json"


class GraphFile(Section):
    """An ONNX graph."""

    file: str
    """Name of the file."""

    inputs: tuple[str, ...]
    """Names of the inputs."""

    outputs: tuple[str, ...]
    """Names of the outputs."""


class SpecialIds(Section):
    """Numbers of the tokens that stand for no text."""

    pad: int = PAD
    """Of padding, after the end of a source."""

    unk: int = UNK
    """Of an unknown token."""

    sos: int = SOS
    """Of the start of a translation, which the first step reads."""

    eos: int = EOS
    """Of the end of a translation."""


class Checked(Section):
    """What the graphs were compared with the model on."""

    sentences: int
    """Number of sentences that both translated greedily."""

    sentences_from: str
    """Where they are from."""

    changed: int
    """Sentences in which the two took different ones of two tokens with nearly equal scores."""

    score_difference: float
    """Largest difference of the log-probabilities of a token, in nats."""


class ExportManifest(Section):
    """The content of `manifest.json`."""

    format_version: Literal[1] = 1
    """Version of the layout of exported directories."""

    source_language: str
    """Code of the source language."""

    target_language: str
    """Code of the target language."""

    precision: Literal["fp32", "int8"]
    """Precision of the weights, and of products with them."""

    encoder: GraphFile
    """The graph that reads sources. Its outputs are inputs of the step under the same names."""

    step: GraphFile
    """The graph that reads a token of each hypothesis. An output `next_…` is the input of the next
    step."""

    special_ids: SpecialIds = SpecialIds()
    """Numbers of the tokens that stand for no text."""

    spaceless_letters: str = SPACELESS_LETTERS
    """Regular expression for a letter of scripts without spaces between words. A word that has one
    keeps its known tokens where others of them are unknown; any other word is then one unknown
    token."""

    decode: DecodeConfig
    """The model's own decoding settings, among them the limits of length."""

    checked: Checked
    """What the graphs were compared with the model on."""

    versions: dict[str, str]
    """Versions of s2s and of the libraries that wrote the graphs, and of ONNX' operators."""

    sha256: dict[str, str]
    """SHA-256 of each other file."""
