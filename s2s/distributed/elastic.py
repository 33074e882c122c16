"""A run's worker group while it waits, grows, shrinks and loses workers.

Ray Train replaces a group by one of another size without notice, says nothing while it waits, and
after a node has died it may wait a minute for resources that have gone. The listener here, which
runs in Ray's controller, has the run save a checkpoint first, says what the run waits for, and has
Ray look at the cluster again.
"""

import logging
import time
from contextlib import suppress
from typing import Any

import ray

from s2s.distributed import ray_internals
from s2s.distributed.cluster import WorkerResources
from s2s.distributed.hosts import Host, answering, list_hosts, living_hosts

_CHECKPOINT_SECONDS = 10.0  # that a resize waits for a checkpoint
_LOST_HOST_SECONDS = 180.0  # that a restart waits until Ray knows that a silent host is lost
_ROOM_SECONDS = 3.0  # that resources take to be free again after a group has ended


class GroupRestarts:
    """Saves a run before its group is resized, and restarts it on what the cluster has left.

    A listener for `ray_internals.worker_group_callback`. It raises nothing: an error would end the
    run.

    Args:
        board: of the run, or None if nobody watches it.
        workers: the run's.
    """

    def __init__(self, board: Any, workers: WorkerResources) -> None:
        self._board, self._workers = board, workers
        self._hosts: list[Host] = []
        self._awaited = ""  # what the log says that the run waits for

    def before_start(self, workers: int) -> None:
        """Say what the run waits for if the cluster has no room for so many workers now."""
        if self._board is None:
            return
        with suppress(Exception):
            end = time.monotonic() + _ROOM_SECONDS
            while awaited := self._lacking(workers):
                if time.monotonic() >= end:
                    self._log_awaited(awaited)
                    return
                time.sleep(0.2)

    def while_waiting(self) -> None:
        """Say what an elastic run waits for, which has fewer resources than it can begin with."""
        with suppress(Exception):
            if awaited := self._lacking(self._workers.number):
                self._log_awaited(awaited)
        time.sleep(0.5)  # Ray's own loop does not pause here

    def on_start(self, nodes: set[str]) -> None:
        """Remember the hosts of the group."""
        self._awaited = ""
        with suppress(Exception):
            self._hosts = [host for host in living_hosts() if host.id in nodes]

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
        """Log the failure, and have Ray take notice of a host that is lost."""
        with suppress(Exception):
            lost = self._lost_hosts()
            not_answering = f"{list_hosts(lost)} do{'es' * (len(lost) == 1)} not answer"
            what = not_answering if lost else "a worker has failed"
            self._log(f"{what}: restarting the workers from the last checkpoint")
            if self._workers.most is not None:
                ray_internals.recompute_reservations()
                time.sleep(1.1)  # Ray Train reads the reservations once a second

    def _lost_hosts(self) -> list[Host]:
        """Return the hosts of the group that have gone, once Ray knows it.

        A worker that has lost its connection to another one may fail earlier than Ray counts the
        host of the other as dead. Workers that are started before would be placed on that host.
        """
        end = time.monotonic() + _LOST_HOST_SECONDS
        while True:
            living = {host.id for host in living_hosts()}
            unknown = [host for host in self._hosts if host.id in living]
            if len(answering(unknown)) == len(unknown) or time.monotonic() >= end:
                return [host for host in self._hosts if host.id not in living]
            time.sleep(0.5)

    def _lacking(self, workers: int) -> str | None:
        return self._workers.awaited(workers, list(ray_internals.free_resources().values()))

    def _log_awaited(self, awaited: str) -> None:
        if awaited != self._awaited:
            self._awaited = awaited
            self._log(f"waiting for {awaited}")

    def _log(self, line: str) -> None:
        if self._board is not None:
            self._board.post_line.remote(line)
