"""Weights & Biases: a run on its server, or offline in the folder of the run."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2s.errors import BadInput
from s2s.files import write_text
from s2s.training.trackers.tracker import Log, TrackedRun, ValidSample

_PROJECT = "s2s"

# Seconds that wandb may wait for its server. Its own defaults (90, and no limit) would hold up all
# workers. WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT have precedence.
_TIMEOUTS = {"init_timeout": 20.0, "finish_timeout": 60.0}


class Wandb:
    """A run in Weights & Biases.

    With WANDB_MODE=offline its files stay in `OUT.run/wandb`, until `wandb sync` uploads them. A
    resumed run is the same one there: its id is in `OUT.run/wandb-run`. Curves are drawn over the
    value `step`, since wandb itself counts calls.

    Args:
        project: or ENTITY/PROJECT; None for that of WANDB_PROJECT, or else `s2s`.
        log: called with a line that says where the run is.

    Raises:
        BadInput: wandb has no valid API key, and is not offline.
    """

    def __init__(self, run: TrackedRun, project: str | None, log: Log) -> None:
        import wandb

        _require_key(wandb)
        memory = run.folder / "wandb-run"
        if not memory.exists():
            write_text(memory, secrets.token_hex(4))
        entity, _, project = (project or os.environ.get("WANDB_PROJECT", _PROJECT)).rpartition("/")
        timeouts = {
            name: seconds
            for name, seconds in _TIMEOUTS.items()
            if f"WANDB_{name.upper()}" not in os.environ
        }
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            entity=entity or None,
            project=project,
            name=run.name,
            id=memory.read_text("utf-8").strip(),
            resume="allow",
            dir=run.folder,
            config=dict(run.parameters),
            allow_val_change=True,
            reinit="create_new",  # the program may have a run of its own
            # Lines for the user are the host's, and the bar must not be recorded as output.
            settings=wandb.Settings(silent=True, console="off", **timeouts),
        )
        self._run.define_metric("*", step_metric="step")
        if self._run.offline:
            log(f"wandb: offline; to upload the run: wandb sync {Path(self._run.dir).parent}")
        elif self._run.url:
            log(f"wandb: {self._run.url}")
        self._closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values."""
        self._run.log({**values, "step": step})

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Record a table of the samples."""
        rows = [[each.source, each.reference, each.translation] for each in samples]
        table = self._wandb.Table(columns=["source", "reference", "translation"], data=rows)
        self._run.log({"valid/samples": table, "step": step})

    def close(self, finished: bool) -> None:
        """Finish the run, as failed unless it is complete: it can be resumed."""
        if not self._closed:
            self._closed = True
            self._run.finish(exit_code=0 if finished else 1)


def _require_key(wandb: Any) -> None:
    """Check that wandb need not ask for an API key.

    Raises:
        BadInput: it would ask, or the key is no key.
    """
    if wandb.setup().settings.mode not in ("online", "run", "shared"):
        return
    try:
        found = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise BadInput(f"wandb: {str(error).splitlines()[0]}") from None
    if not found:
        raise BadInput(
            "wandb has no API key: run `wandb login`, or set WANDB_MODE=offline to track the run "
            "without a server"
        )
