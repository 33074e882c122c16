"""The one Ray that a command uses, and whether it can hold the workers."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray._private.state
from ray.autoscaler.sdk import request_resources
from ray.experimental import internal_kv

from s2s.errors import BadInput, Failed


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or else start a local one and end it.

    A connection that the process has already is used and left as it is.

    Raises:
        Failed: RAY_ADDRESS names no cluster that answers.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else {"include_dashboard": False}),
        )
    except ConnectionError as error:
        raise Failed(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Workers:
    """The workers of a run: one CPU each, or one GPU."""

    number: int
    gpu: bool = False
    wait: float = 600.0

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What Ray must find room for."""
        return [{"GPU": 1.0, "CPU": 1.0} if self.gpu else {"CPU": 1.0}] * self.number

    def require(self, say: Callable[[str], None]) -> None:
        """Return once the cluster has the resources of the workers.

        Raises:
            BadInput: the cluster is of fixed size and too small, or there are no workers.
            Failed: an autoscaling cluster did not grow in `wait` seconds.
        """
        if self.number < 1:
            raise BadInput(f"--workers {self.number}: at least 1 is needed")
        if not (lacking := self._lacking()):
            return
        if not _autoscales():
            raise BadInput(
                f"{self.number} workers need {lacking} more than the cluster has; "
                "ask for fewer --workers, or add nodes"
            )
        say(f"waiting up to {self.wait:.0f} s for the cluster to grow by {lacking}")
        request_resources(bundles=self.bundles)
        try:
            end = time.monotonic() + self.wait
            while lacking := self._lacking():
                if time.monotonic() >= end:
                    raise Failed(
                        f"the cluster did not grow to {self.number} workers in {self.wait:.0f} s: "
                        f"{lacking} more are needed (--wait says how long to wait)"
                    )
                time.sleep(1)
        finally:
            request_resources(bundles=[])  # from here on the workers themselves are the demand

    def _lacking(self) -> str:
        """The resources that the cluster does not have, whoever uses them now, or nothing."""
        has = ray.cluster_resources()
        needs = {kind: sum(b[kind] for b in self.bundles) for kind in self.bundles[0]}
        lacks = {kind: need - has.get(kind, 0) for kind, need in needs.items()}
        return ", ".join(f"{lack:g} {kind}s" for kind, lack in lacks.items() if lack > 0)


def _autoscales() -> bool:
    """Whether the cluster has an autoscaler that can add nodes.

    Every cluster has an autoscaler's monitor; on one of fixed size it only reads, and calls each
    node `node_` and its id for want of node types. The newer autoscaler (v2, KubeRay's) leaves its
    config with the cluster.
    """
    if ray._private.state.state.get_cluster_config() is not None:
        return True
    status = json.loads(internal_kv._internal_kv_get("__autoscaling_status") or "{}")
    report = status.get("autoscaler_report") or {}
    kinds = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
    return any(not kind.startswith("node_") for kind in kinds)
