"""Which trackers a run has: their names on the command line, and what makes them."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s2s import extras
from s2s.errors import BadInput
from s2s.suggestions import did_you_mean
from s2s.training.trackers.json_lines import JsonLines
from s2s.training.trackers.mlflow import MLflow
from s2s.training.trackers.tensorboard import TensorBoard
from s2s.training.trackers.tracker import Log, TrackedRun, Tracker, Trackers, left_out
from s2s.training.trackers.wandb import Wandb

MakeTracker = Callable[[TrackedRun, Log], Tracker]

_NAMES = ("mlflow", "tensorboard", "wandb")


def begin_trackers(
    names: Sequence[str], run: TrackedRun, log: Log, further: Sequence[Tracker] = ()
) -> Trackers:
    """Return the trackers of a run: JSON lines, those of the names, and further ones.

    One that cannot begin, as its server is gone, is logged and left out.

    Raises:
        BadInput: as `find_tracker`, or a tracker cannot be used as it is set up here.
    """
    trackers: list[Tracker] = [JsonLines(run)]
    for name in names:
        make = find_tracker(name)
        try:
            trackers.append(make(run, log))
        except BadInput:
            raise
        except Exception as error:  # of HTTP, of a server, of a class that is not ours
            log(left_out(name, error))
    return Trackers([*trackers, *further], log)


def find_tracker(name: str) -> MakeTracker:
    """Return what makes a tracker.

    Args:
        name: `tensorboard`, `mlflow` or `mlflow:URI`, `wandb` or `wandb:PROJECT`, or the path of a
            class as `package.module:Class`.

    Raises:
        BadInput: there is no such tracker or class, or its package is not installed.
    """
    kind, _, value = name.partition(":")
    if kind not in _NAMES:
        return _make_own(name)
    if kind == "tensorboard":
        if value:
            raise BadInput(f"--track {name}: tensorboard takes no value; its files are in OUT.run")
        return lambda run, log: TensorBoard(run)
    if find_spec(kind) is None:
        raise BadInput(extras.advice(f"--track {kind}", ModuleNotFoundError(name=kind)))
    if kind == "wandb":
        return lambda run, log: Wandb(run, value or None, log)
    if not value and "MLFLOW_TRACKING_URI" not in os.environ:
        raise BadInput(
            "--track mlflow: name the server, as in mlflow:http://localhost:5000, or set "
            "MLFLOW_TRACKING_URI"
        )
    return lambda run, log: MLflow(run, value or None)


def _make_own(name: str) -> MakeTracker:
    """Return what makes a tracker of a user's own class.

    Raises:
        BadInput: there is no such class, or it is no tracker.
    """
    path, colon, attribute = name.partition(":")
    hint = did_you_mean(path, _NAMES)
    if not colon:
        raise BadInput(f"unknown tracker {name!r} (your own is package.module:Class){hint}")
    here = str(Path.cwd())
    if here not in sys.path:  # the `s2s` command does not look there by itself
        sys.path.append(here)
    try:
        module = import_module(path)
    except Exception as error:  # a user's own module may raise any
        is_unknown = isinstance(error, ModuleNotFoundError) and error.name == path
        raise BadInput(f"--track {name}: {error}{hint if is_unknown else ''}") from None
    kind: Any = getattr(module, attribute, None)
    if kind is None:
        classes = [each for each, value in vars(module).items() if isinstance(value, type)]
        known = did_you_mean(attribute, classes)
        raise BadInput(f"--track {name}: {path} has no class {attribute!r}{known}")
    if not callable(kind) or not all(hasattr(kind, method) for method in ("log", "close")):
        raise BadInput(f"--track {name}: a tracker is a class with the methods log and close")
    make: Callable[[TrackedRun], Tracker] = kind
    return lambda run, log: make(run)
