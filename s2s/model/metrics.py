"""The content of `metrics.json` in a model directory: how the model was trained, and its scores."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from s2s.config import describe
from s2s.errors import BadInput

METRICS = "metrics.json"


@dataclass(frozen=True)
class EpochRecord:
    """The record of one pass over the training split."""

    epoch: int  # from 1
    steps: int  # optimizer steps since the run began
    train_loss: float  # nats per real target token, summed up while the weights change
    valid_loss: float  # nats per real target token
    valid_token_accuracy: float
    valid_padded_accuracy: float
    pairs_per_second: float  # of training, over all workers
    target_tokens_per_second: float  # of training, real tokens, over all workers
    seconds: float  # of training, first batch to last optimizer step, without checkpoints
    valid_seconds: float  # with translating `valid`, if its translations are scored
    checkpoint_seconds: float  # that training paused for checkpoints
    valid_bleu: float | None = None  # of greedy translations of `valid`, 0 to 100, if scored
    valid_chrf: float | None = None  # chrF2 of the same


@dataclass(frozen=True)
class Score:
    """A corpus score of sacreBLEU, with the signature that makes it reproducible."""

    name: str
    references: str  # what the translations were compared with
    score: float  # 0 to 100; TER can be above
    signature: str
    low: float | None = None  # lower end of the 95 % confidence interval, if one was computed
    high: float | None = None


class TrainedOn(BaseModel):
    """The corpus that a model was trained on."""

    sources: tuple[str, ...] = ()
    pairs: int = 0


class ValidScores(BaseModel):
    """Scores of the exported weights on `valid`, under teacher forcing."""

    valid_loss: float
    valid_token_accuracy: float
    valid_padded_accuracy: float


class RunMetrics(BaseModel):
    """The content of `metrics.json`.

    A checkpoint has the fields up to `versions`; the rest is added when a finished run is exported.
    A field that was never set is not written. Files of earlier versions may lack fields, which then
    have their defaults and are not in `model_fields_set`.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    epochs: tuple[EpochRecord, ...] = ()
    """A record of every epoch so far."""

    best: EpochRecord | None = None
    """The record of the epoch of least loss on `valid`."""

    workers: int = 1
    """Workers that trained."""

    device: str = "cpu"
    """Type of device of the workers, `cpu` or `cuda`."""

    threads: int = 1
    """Threads of each worker."""

    precision: str = "fp32"
    """Precision of the matrix products."""

    seed: int = 0
    """Seed of the run."""

    corpus: TrainedOn = TrainedOn()
    """Corpus that the model was trained on."""

    versions: dict[str, str] = {}
    """Versions of the libraries by name."""

    weights: str | None = None
    """Epochs that the weights are of, in words."""

    valid: ValidScores | None = None
    """Loss and accuracies of these weights on `valid`, under teacher forcing."""

    decoding: str | None = None
    """Search that the scored translations were decoded with, in words."""

    scores: tuple[Score, ...] = ()
    """Scores of translations of `valid`."""

    total_seconds: float | None = None
    """Wall time of the run, in seconds."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Return the metrics of a model directory.

        Raises:
            BadInput: `metrics.json` is absent, or does not describe a training run.
        """
        path = directory / METRICS
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise BadInput(f"{path} describes no training run: {describe(error)}") from None

    def to_json(self) -> str:
        """Return the text of `metrics.json`."""
        return json.dumps(self.model_dump(exclude_unset=True), indent=2) + "\n"
