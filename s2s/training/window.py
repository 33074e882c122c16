"""The values that trackers get: of the steps between two logs, and of an epoch."""

from dataclasses import dataclass

from s2s.model.metrics import EpochRecord
from s2s.training.step import PendingStep, StepResult


@dataclass
class Window:
    """Sums over the steps since the last log."""

    loss: float = 0.0  # nats
    tokens: int = 0  # real target tokens
    pairs: int = 0
    steps: int = 0
    seconds: float = 0.0  # of training
    wait_seconds: float = 0.0  # of these, waiting for batches
    largest_norm: float = 0.0  # of a step's gradient

    def add(self, step: PendingStep, result: StepResult) -> None:
        """Add a step."""
        self.loss += result.loss
        self.tokens += step.batch.tokens
        self.pairs += len(step.batch.rows)
        self.steps += 1
        self.largest_norm = max(self.largest_norm, result.gradient_norm)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to divide by."""
        return not self.tokens or not self.seconds

    @property
    def mean_loss(self) -> float:
        """Nats per real target token."""
        return self.loss / self.tokens

    @property
    def pairs_per_second(self) -> float:
        """Sentence pairs trained on per second, over all workers."""
        return self.pairs / self.seconds

    def log_values(
        self, learning_rate: float, epochs_done: float, *, clipped: bool
    ) -> dict[str, float]:
        """Return the values for trackers, by name.

        Args:
            learning_rate: of the newest step.
            epochs_done: epochs up to the newest step, with a fraction.
            clipped: whether gradients are clipped, so that their norms are known.
        """
        values = {
            "train/loss": self.mean_loss,
            "train/learning_rate": learning_rate,
            "train/epoch": epochs_done,
            "train/pairs_per_second": self.pairs_per_second,
            "train/target_tokens_per_second": self.tokens / self.seconds,
            "train/step_seconds": self.seconds / self.steps,
            "train/data_wait_share": self.wait_seconds / self.seconds,
        }
        if clipped:
            values["train/gradient_norm"] = self.largest_norm
        return values


def epoch_values(record: EpochRecord) -> dict[str, float]:
    """Return the values of an epoch for trackers, by name."""
    values = {
        "valid/loss": record.valid_loss,
        "valid/token_accuracy": record.valid_token_accuracy,
        "valid/padded_accuracy": record.valid_padded_accuracy,
        "valid/seconds": record.valid_seconds,
        "train/epoch": float(record.epoch),
        "train/epoch_loss": record.train_loss,
        "train/epoch_pairs_per_second": record.pairs_per_second,
        "train/epoch_target_tokens_per_second": record.target_tokens_per_second,
        "train/epoch_seconds": record.seconds,
        "train/epoch_checkpoint_seconds": record.checkpoint_seconds,
    }
    if record.valid_bleu is not None:
        values["valid/bleu"] = record.valid_bleu
    if record.valid_chrf is not None:
        values["valid/chrf"] = record.valid_chrf
    return values
