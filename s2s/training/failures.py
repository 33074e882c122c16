"""Failures of a training run that the user can act on: an exploded loss, and a full GPU."""

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from datasets import Dataset

from s2s.errors import Failed
from s2s.files import write_text
from s2s.training.step import PendingStep

# A mean loss of so many times that of a uniform guess counts as exploded.
_EXPLODED = 3.0

DUMP = "bad-batch.json"


def has_exploded(mean_loss: float, vocabulary_size: int) -> bool:
    """Return whether a loss in nats per token is not finite, or far above that of guessing."""
    return not mean_loss < _EXPLODED * math.log(vocabulary_size)


def dump_batches(
    file: Path, mean_loss: float, steps: Iterable[PendingStep], split: Dataset
) -> None:
    """Write the sentence pairs of some steps to a JSON file; do nothing if the disk is full.

    Args:
        split: the split that the rows of the batches belong to.
    """
    dumped = []
    for step in steps:
        rows, pairs = step.batch.rows, split.select(step.batch.rows)
        sides = zip(rows.tolist(), pairs["source"][:], pairs["target"][:], strict=True)
        dumped.append(
            {
                "learning_rate": step.learning_rate,
                "tokens": step.batch.tokens,
                "pairs": [{"row": row, "source": s, "target": t} for row, s, t in sides],
            }
        )
    # An error here would keep this worker from failing together with the others.
    with suppress(OSError):
        write_text(file, json.dumps({"loss": mean_loss, "steps": dumped}, indent=2) + "\n")


def loss_exploded(mean_loss: float, step: int, epoch: int, dump: Path) -> Failed:
    """Return the error for an exploded loss.

    Args:
        dump: the file that `dump_batches` wrote.
    """
    return Failed(
        f"the loss exploded at step {step} (epoch {epoch}): {mean_loss:.4g} nats per token. "
        f"The batches of the last steps are in {dump}; a lower --train.learning-rate, or "
        "--train.clip-norm or --train.warmup-steps, may help"
    )


def out_of_memory(when: str) -> Failed:
    """Return the error for a GPU whose memory is full."""
    return Failed(
        f"the GPU ran out of memory {when}; use a smaller --train.batch-size or "
        "--train.batch-tokens, or a larger --train.accumulate"
    )
