"""The model directory: all that a translator needs, in formats that other programs read.

config.json, model.safetensors, source.json and target.json (tokenizers), metrics.json, README.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from s2s.config import Config
from s2s.errors import BadInput
from s2s.model.card import model_card
from s2s.model.config_file import ConfigFile, read_config
from s2s.model.metrics import METRICS, RunMetrics
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class ModelDirectory:
    """A model with its config and vocabularies."""

    config: Config
    source: Vocabulary
    target: Vocabulary
    model: Seq2Seq
    path: Path | None = None  # where it was loaded from

    @classmethod
    def new(
        cls, config: Config, source: Vocabulary, target: Vocabulary, path: Path | None = None
    ) -> Self:
        """Return a model with fresh weights, drawn from torch's current random state.

        Raises:
            BadInput: the model needs one shared vocabulary, and these are two; or words, and these
                are subwords.
        """
        if config.model.output == "adaptive" and config.text.units != "word":
            raise BadInput(
                "model.output adaptive needs words in the order of their frequency, of a corpus "
                "that was prepared with text.units word"
            )
        if config.model.tie == "all" and source.tokens != target.tokens:
            raise BadInput("model.tie all needs a corpus that was prepared with text.shared")
        return cls(config, source, target, Seq2Seq(len(source), len(target), config.model), path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """Return the model that `path` holds, on a device and in evaluation mode.

        Raises:
            BadInput: `path` is not a complete model directory of this version.
        """
        config = read_config(path)
        source = Vocabulary.load(path / "source.json")
        directory = cls.new(config, source, Vocabulary.load(path / "target.json"), path)
        weights = path / "model.safetensors"
        try:
            with weights.open("rb"):  # what safetensors says of a file that cannot be read is wrong
                directory.model.load_weights(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise BadInput(f"{weights} cannot be loaded: {reason}") from None
        directory.model.to(device).eval()
        return directory

    @classmethod
    def mean(cls, paths: Sequence[Path]) -> Self:
        """Return the model whose weights are the mean of those in model directories of one run.

        Averaging reduces the noise of the last steps (Vaswani et al., 2017,
        https://arxiv.org/abs/1706.03762).

        Raises:
            BadInput: one of `paths` is not a complete model directory.
        """
        directories = [cls.load(path) for path in paths]
        weights = [directory.model.named_weights() for directory in directories]
        mean = {name: torch.stack([w[name] for w in weights]).mean(0) for name in weights[0]}
        directories[0].model.load_weights(mean)
        return directories[0]

    def save(
        self,
        path: Path,
        metrics: RunMetrics,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the files of a model directory into the folder `path`, which must exist.

        Args:
            weights: tensors to write instead of the model's own.
        """
        text = ConfigFile(**dict(self.config)).to_json()
        (path / "config.json").write_text(text, encoding="utf-8")
        save_file(dict(weights or self.model.named_weights()), path / "model.safetensors")
        self.source.save(path / "source.json")
        self.target.save(path / "target.json")
        write_metrics(path, metrics)


def write_metrics(path: Path, metrics: RunMetrics) -> None:
    """Write `metrics.json` of a model directory, and `README.md`, its model card."""
    (path / METRICS).write_text(metrics.to_json(), encoding="utf-8")
    (path / "README.md").write_text(model_card(read_config(path), metrics), encoding="utf-8")
