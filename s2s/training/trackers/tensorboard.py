"""TensorBoard: event files in the folder of a run."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from s2s.training.trackers.tracker import TrackedRun, ValidSample, markdown_table

# TensorBoard sorts groups of curves by their names, and the curves of a group: these come first.
_LOSSES = {
    "train/loss": "loss/train",
    "train/epoch_loss": "loss/train_epoch",
    "valid/loss": "loss/valid",
}
# Curves of an epoch that trials are compared by.
_COMPARED = ("valid/token_accuracy", "loss/valid")


class TensorBoard:
    """Event files for `tensorboard --logdir`, one for each session of a run, shown as one curve.

    The losses are a group of their own, `loss`; all other curves have the names of their values.
    Samples are shown as text. The settings that a sweep has chosen are in the tab HPARAMS.
    TensorBoard hides what earlier sessions logged after the step that the run is resumed from.
    """

    def __init__(self, run: TrackedRun) -> None:
        # Not SummaryWriter: when the disk is full, its thread dies and the run waits for ever.
        from tensorboardX.event_file_writer import (
            EventsWriter,
        )
        from tensorboardX.proto import event_pb2

        self._protocol: Any = event_pb2
        folder = run.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # By default the name has whole seconds: a session that begins within the same second would
        # overwrite the file of the one before. TensorBoard reads files in the order of their names.
        self._file: Any = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=run.resumed_from + 1, session_log=start)
        if run.chosen:
            self._write_hparams(run.chosen)
        self._closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value."""
        summary = self._protocol.Event().summary
        for name, value in values.items():
            summary.value.add(tag=_LOSSES.get(name, name), simple_value=value)
        self._write(step=step, summary=summary)

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Add a table of the samples to the texts."""
        from tensorboardX.summary import text

        self._write(step=step, summary=text("valid/samples", markdown_table(samples)))

    def close(self, finished: bool) -> None:
        """Close the file."""
        if not self._closed:
            self._file.close()
        self._closed = True

    def _write_hparams(self, settings: Mapping[str, object]) -> None:
        """Write the settings of a trial, and which curves its sweep may be compared by."""
        from tensorboardX.summary import hparams

        values = {
            name: value if isinstance(value, bool | int | float) else str(value).lower()
            for name, value in settings.items()
        }
        experiment, start, _ = hparams(values, dict.fromkeys(_COMPARED, 0.0))
        for summary in (experiment, start):
            self._write(summary=summary)

    def _write(self, **content: Any) -> None:
        self._file.write_event(self._protocol.Event(wall_time=time.time(), **content))
        self._file.flush()
