"""The model of a run that has not finished: one of its checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2s.errors import BadInput
from s2s.locations import extended
from s2s.mirrors import local_copy
from s2s.runs import read_run, run_location
from s2s.training.checkpoints import CheckpointManifest, Checkpoints


@contextmanager
def model_path(out: str | Path, which: str | None) -> Iterator[Path]:
    """Yield a model directory: `out`, or that of a checkpoint, which is removed after the block.

    Args:
        out: model directory that a run makes, at a path or URI.
        which: `best` (least loss on `valid`), `newest`, or the number of a step; None for `out`.

    Raises:
        BadInput: there is no such run or checkpoint, or the checkpoint is damaged.
    """
    if which is None:
        yield local_copy(out)
        return
    folder = run_location(out)
    description = read_run(out)
    if description is None:
        raise BadInput(f"--checkpoint {which}: there is no training run in {folder}")
    root = description.get("checkpoints")
    store = Checkpoints(str(root or extended(folder, "/checkpoints")), run=folder if root else "")
    with store.open(_chosen(store, which)) as path:
        yield path


def _chosen(store: Checkpoints, which: str) -> CheckpointManifest:
    """Return the checkpoint that the user has named.

    Raises:
        BadInput: there is none.
    """
    complete = store.all()
    if not complete:
        raise BadInput(f"--checkpoint {which}: {store.root} has no complete checkpoint yet")
    if which == "newest":
        return complete[-1]
    if which == "best":
        if best := store.best(1):
            return best[0]
        raise BadInput("--checkpoint best: no epoch has ended yet; --checkpoint newest is there")
    for manifest in complete:
        if which == str(manifest.steps):
            return manifest
    steps = ", ".join(str(manifest.steps) for manifest in complete)
    raise BadInput(f"--checkpoint {which}: name best, newest or a step of {steps}")
