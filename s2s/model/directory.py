"""The model directory: all that a translator is, readable without this code.

config.json, model.safetensors, source.json and target.json (tokenizers), metrics.json, README.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from s2s.config import Config
from s2s.errors import BadInput
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import Vocabulary


class _ConfigFile(Config):
    """`config.json`: the config, with the version of the directory's layout."""

    format_version: Literal[2] = 2


@dataclass(frozen=True)
class ModelDirectory:
    """A model with its config and vocabularies."""

    config: Config
    source: Vocabulary
    target: Vocabulary
    model: Seq2Seq

    @classmethod
    def new(cls, config: Config, source: Vocabulary, target: Vocabulary) -> Self:
        """A directory with fresh weights, drawn from torch's current random state.

        Raises:
            BadInput: the model needs one vocabulary, and these are two.
        """
        if config.model.tie == "all" and source.tokens != target.tokens:
            raise BadInput("model.tie all needs a corpus that was prepared with text.shared")
        return cls(config, source, target, Seq2Seq(len(source), len(target), config.model))

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """The directory in a model directory, ready for use.

        Raises:
            BadInput: `path` is no complete model directory of this version.
        """
        config = read_config(path)
        source = Vocabulary.load(path / "source.json")
        directory = cls.new(config, source, Vocabulary.load(path / "target.json"))
        try:
            directory.model.load(load_file(path / "model.safetensors"))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"{path / 'model.safetensors'} cannot be loaded: {reason}") from None
        directory.model.to(device).eval()
        return directory

    @classmethod
    def mean(cls, paths: Sequence[Path]) -> Self:
        """The directory whose weights are the mean of those in some model directories of one run.

        Averaging lessens the noise of the last steps (Vaswani et al., 2017).

        Raises:
            BadInput: one of them is no complete model directory.
        """
        bundles = [cls.load(path) for path in paths]
        weights = [directory.model.weights() for directory in bundles]
        mean = {name: torch.stack([w[name] for w in weights]).mean(0) for name in weights[0]}
        bundles[0].model.load(mean)
        return bundles[0]

    def save(
        self,
        path: Path,
        metrics: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the model directory, which must exist.

        Args:
            weights: to write instead of the model's own.
        """
        text = _ConfigFile(**dict(self.config)).to_json()
        (path / "config.json").write_text(text, encoding="utf-8")
        save_file(dict(weights or self.model.weights()), path / "model.safetensors")
        self.source.save(path / "source.json")
        self.target.save(path / "target.json")
        write_metrics(path, metrics)


def read_config(path: Path) -> Config:
    """The config of a model directory.

    Raises:
        BadInput: `config.json` is absent, broken or of another version.
    """
    try:
        text = (path / "config.json").read_bytes()
    except OSError:
        raise BadInput(f"{path} is no model directory: it has no config.json") from None
    file = _ConfigFile.from_json(text, str(path / "config.json"))
    return Config(**{key: getattr(file, key) for key in Config.model_fields})


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json`, and the model card `README.md` that is drawn from it."""
    (path / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (path / "README.md").write_text(_card(read_config(path), metrics), encoding="utf-8")


_SCORES = {
    "loss (nats per token)": "valid_loss",
    "token accuracy (real tokens)": "valid_token_accuracy",
    "padded accuracy (the Keras metric)": "valid_padded_accuracy",
}


def _card(config: Config, metrics: Mapping[str, Any]) -> str:
    model, epochs = config.model, metrics["epochs"]
    # A checkpoint in the first epoch has no scores yet; a finished model has those of its weights.
    scores = metrics.get("valid") or metrics["best"] or {}
    rows = [(name, f"{scores[key]:.4f}") for name, key in _SCORES.items() if key in scores]
    rows += [
        (
            f"{score['name']}, {metrics['decoding']}, references {score['references']}",
            f"{score['score']:.2f}",
        )
        for score in metrics.get("scores", [])
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    weights = metrics.get("weights") or f"those after {len(epochs)} epochs"
    return f"""# {config.source_language} → {config.target_language}

A {model.cell.upper()} encoder–decoder made by s2s {metrics["versions"]["s2s"]}:
layers {model.layers}, embedding {model.embedding_size}, hidden {model.hidden_size},
{"bidirectional, " * model.bidirectional}attention {model.attention}. Its weights are {weights}.

| on the `valid` part | |
| --- | --- |
{table}

Trained on {metrics["corpus"]["pairs"]:,} pairs of `{", ".join(metrics["corpus"]["sources"])}` with
{metrics["workers"]} worker(s) on {metrics["device"]}. `metrics.json` has every epoch, the
signatures of the scores and the versions; `config.json` the exact settings.

    s2s translate THIS_DIRECTORY
    s2s serve THIS_DIRECTORY
"""
