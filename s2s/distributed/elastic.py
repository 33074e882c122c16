"""The worker group of a run while it grows, shrinks and loses workers.

Ray Train tears a group down without a word before it starts one of another size, and after a node
has died it may wait a minute for places that are gone. The callback here, which runs in Ray's
controller, has the run saved first, and looks at the cluster anew. (Internal interfaces of Ray
2.60: the public callbacks know neither moment.)
"""

import logging
import time
from contextlib import suppress
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.failure_handling import FailureDecision

_SAVED = 10.0  # seconds that a resize waits for a checkpoint
_DEAD = 5.0  # seconds that a failure waits for a node to be known as dead
_COORDINATOR = "AutoscalingCoordinator"


class GroupKeeper(ControllerCallback, WorkerGroupCallback):
    """Saves before a resize, and makes an elastic run see at once what the cluster has left."""

    def __init__(self, board: Any, *, elastic: bool) -> None:
        self._board, self._elastic = board, elastic
        self._nodes: set[str] = set()
        self._resizing = False

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Remember the nodes of the group."""
        self._nodes = {worker.metadata.node_id for worker in worker_group.get_workers()}

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Only between these two states is there a healthy group that is about to go."""
        names = type(previous_state).__name__, type(current_state).__name__
        self._resizing = names == ("ResizingState", "SchedulingState")

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """Ask a group that is about to go for a checkpoint, and wait for it for a while."""
        if not self._resizing:
            return
        # An error here would end the run.
        with suppress(Exception):
            self._say(f"going on with {resize_decision.num_workers} workers")
            before = ray.get(self._board.ask_to_save.remote(), timeout=_SAVED)
            end = time.monotonic() + _SAVED
            while time.monotonic() < end:
                if ray.get(self._board.saved.remote(), timeout=_SAVED) > before:
                    return
                time.sleep(0.1)
            logging.getLogger(__name__).warning("no checkpoint before the resize")

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:
        """Tell the user, and look at what the cluster has left."""
        if failure_decision != FailureDecision.RETRY:
            return
        with suppress(Exception):
            self._say("a worker has failed: starting workers anew from the last checkpoint")
            if not self._elastic:
                return
            end = time.monotonic() + _DEAD
            while time.monotonic() < end and self._nodes <= _alive():
                time.sleep(0.2)
            coordinator = ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)
            ray.get(coordinator.get_reserved_resources.remote("s2s", recompute=True), timeout=5)
            time.sleep(1.1)  # what Ray Train has read of it is good for a second

    def _say(self, line: str) -> None:
        if self._board is not None:
            self._board.pin_line.remote(line)


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def release(run_id: str) -> None:
    """Give back what an elastic run has reserved; else nobody could use it for three minutes."""
    with suppress(Exception):
        coordinator = ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)
        ray.get(coordinator.cancel_request.remote(f"train-{run_id}"), timeout=5)
