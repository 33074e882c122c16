"""The records of a sweep in the folder of its run: what each trial is and has done so far.

    trials/0001/trial.json    the record of trial 1, next to the files of its training run
    clock.json                wall time of the sweep, over its sessions

The records alone say what a sweep has done: a sweep is resumed and extended from them.
"""

import json
import time
from pathlib import Path

from s2s.errors import BadInput
from s2s.files import write_text
from s2s.model.metrics import METRICS, EpochRecord, RunMetrics
from s2s.training.checkpoints import Checkpoints
from s2s.tuning.trials import Trial

_TRIALS, _RECORD, _CLOCK = "trials", "trial.json", "clock.json"


class Records:
    """The records in a folder.

    Args:
        folder: of the sweep's run.

    Raises:
        BadInput: the clock cannot be read.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begin = time.monotonic()
        self._earlier = self._read_clock()

    def trial_folder(self, number: int, seed_index: int = 0) -> Path:
        """Return the folder of a trial's run, or of its run with a further seed."""
        name = f"{number:04}" + (f"-{seed_index}" if seed_index else "")
        return self.folder / _TRIALS / name

    def load(self) -> list[Trial]:
        """Return the records of all trials that have begun, by their numbers.

        Raises:
            BadInput: a record cannot be read.
        """
        files = sorted((self.folder / _TRIALS).glob(f"*/{_RECORD}"))
        return [Trial.from_json(file.read_bytes(), str(file)) for file in files]

    def epochs(self, number: int, seed_index: int) -> tuple[EpochRecord, ...]:
        """Return the epochs that a trial's run has saved, none if it has no checkpoint yet."""
        checkpoints = Checkpoints(self.trial_folder(number, seed_index) / "checkpoints")
        saved = checkpoints.all()
        if not saved:
            return ()
        with checkpoints.open(saved[-1], {METRICS}) as path:
            return RunMetrics.load(path).epochs

    def save(self, trial: Trial) -> None:
        """Write the record of a trial, and the clock."""
        folder = self.trial_folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _RECORD, trial.to_json())
        self.save_clock()

    @property
    def seconds(self) -> float:
        """Wall time of the sweep so far, over its sessions."""
        return self._earlier + time.monotonic() - self._begin

    def save_clock(self) -> None:
        """Write the wall time of the sweep so far."""
        write_text(self.folder / _CLOCK, json.dumps({"seconds": round(self.seconds, 1)}) + "\n")

    def _read_clock(self) -> float:
        file = self.folder / _CLOCK
        try:
            return float(json.loads(file.read_bytes())["seconds"])
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{file} cannot be read: {error}") from None
