"""A run's worker group while it grows, shrinks and loses workers.

Ray Train replaces a group by one of another size without notice, and after a node has died it may
wait a minute for resources that have gone. The listener here, which runs in Ray's controller, has
the run save a checkpoint first, and has Ray look at the cluster again.
"""

import logging
import time
from contextlib import suppress
from typing import Any

import ray

from s2s.distributed import ray_internals

_CHECKPOINT_SECONDS = 10.0  # that a resize waits for a checkpoint
_DEAD_NODE_SECONDS = 5.0  # that a restart waits until Ray knows that a node is dead


class GroupRestarts:
    """Saves a run before its group is resized, and restarts it on what the cluster has left.

    A listener for `ray_internals.worker_group_callback`. It raises nothing: an error would end the
    run.

    Args:
        board: of the run, or None if nobody watches it.
        elastic: the run may continue with fewer workers.
    """

    def __init__(self, board: Any, *, elastic: bool) -> None:
        self._board, self._elastic = board, elastic
        self._nodes: set[str] = set()

    def on_start(self, nodes: set[str]) -> None:
        """Remember the nodes of the group."""
        self._nodes = nodes

    def before_resize(self, workers: int) -> None:
        """Ask for a checkpoint, and wait for it for a while."""
        with suppress(Exception):
            self._log(f"continuing with {workers} workers")
            before = ray.get(self._board.request_save.remote(), timeout=_CHECKPOINT_SECONDS)
            end = time.monotonic() + _CHECKPOINT_SECONDS
            while time.monotonic() < end:
                saves = ray.get(self._board.saves.remote(), timeout=_CHECKPOINT_SECONDS)
                if saves > before:
                    return
                time.sleep(0.1)
            logging.getLogger(__name__).warning("no checkpoint before the resize")

    def before_restart(self) -> None:
        """Log the failure, and have Ray take notice of a node that is dead."""
        with suppress(Exception):
            self._log("a worker has failed: restarting the workers from the last checkpoint")
            if not self._elastic:
                return
            end = time.monotonic() + _DEAD_NODE_SECONDS
            while time.monotonic() < end and self._nodes <= _nodes_alive():
                time.sleep(0.2)
            ray_internals.recompute_reservations()
            time.sleep(1.1)  # Ray Train reads the reservations once a second

    def _log(self, line: str) -> None:
        if self._board is not None:
            self._board.post_line.remote(line)


def _nodes_alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
