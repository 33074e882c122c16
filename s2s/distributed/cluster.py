"""The one Ray that a command uses, and whether it can hold the workers."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import ray
import ray._private.worker
from ray.autoscaler.sdk import request_resources
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

from s2s.errors import BadInput, Failed


@contextmanager
def cluster(*, dashboard: bool = True) -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or else start a local one and end it.

    A connection that the process has already is used and left as it is.

    Args:
        dashboard: start a local cluster with one; tasks alone do without.

    Raises:
        Failed: RAY_ADDRESS names no cluster that answers.
    """
    address = os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        try:
            yield
        finally:
            _set_address(address)
        return
    # Ray's clean-up of ended trials asks the dashboard who has ended: without one, a sweep stands
    # still once the first trials have taken all CPUs.
    local = {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
    # Ray pushes lines of its own ("8 PYTHON worker processes have been started") to the driver
    # whatever it is told of logging; all that a user has to know is told by our own lines.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Failed(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()
        _set_address(address)


def pin_address() -> None:
    """Make Ray Train's helper actors talk to the cluster that this process is connected to.

    They look for a cluster by themselves, and take another one on the same host for theirs: a run
    then loses its workers' places, or an ended trial keeps them for ever.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")


def _set_address(address: str | None) -> None:
    if address is None:
        os.environ.pop("RAY_ADDRESS", None)
    else:
        os.environ["RAY_ADDRESS"] = address


@dataclass(frozen=True)
class Workers:
    """The workers of a run, and what each of them owns."""

    number: int
    most: int | None = None  # of an elastic run, which begins with `number` or more
    gpu: bool = False
    share: float = 1.0  # of a GPU, for each
    cpus: int = 1  # of each
    wait: float = 600.0  # seconds for an autoscaling cluster to grow
    resize: float = 30.0  # seconds between two looks at whether an elastic run can grow

    @classmethod
    def parse(cls, text: str, *, cpus: int = 1, **others: Any) -> Self:
        """The workers that a command line names: `4`, or `1:4` for one to four.

        Raises:
            BadInput: the text is neither.
        """
        try:
            least, *rest = map(int, text.split(":"))
            fine = least > 0 and cpus > 0 and (not rest or [least, *rest] == sorted([least, *rest]))
        except ValueError:
            fine = False
        if not fine or len(rest) > 1:
            raise BadInput(
                f"--workers {text} with {cpus} CPUs: at least 1, or MIN:MAX such as 1:4, is needed"
            )
        share = others.get("share", 1.0)
        if not 0 < share <= 1:
            raise BadInput(f"--gpu-share {share}: more than 0 and at most 1 is needed")
        if share < 1 and (least > 1 or rest or not others.get("gpu")):
            raise BadInput(
                f"--gpu-share {share}: --gpu and one worker are needed, since NCCL connects no two "
                "workers on one GPU"
            )
        if others.get("resize", 1) <= 0:
            raise BadInput(f"--resize {others['resize']}: seconds, more than 0, are needed")
        return cls(least, rest[0] if rest else None, cpus=cpus, **others)

    @property
    def each(self) -> dict[str, float]:
        """The resources of a worker."""
        return {"CPU": float(self.cpus), **({"GPU": self.share} if self.gpu else {})}

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What Ray must find room for."""
        return [self.each] * self.number

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
                "ask for fewer, or add nodes"
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
    """Whether the cluster has an autoscaler that can add nodes; asked on the head node."""
    port = ray.get_runtime_context().gcs_address.rsplit(":", 1)[1]
    answer: bool = ray.get(_head_autoscales.remote(port))
    return answer


@ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})
def _head_autoscales(gcs_port: str) -> bool:
    """Every head runs the autoscaler's monitor; it has a config where it may add nodes.

    KubeRay runs the autoscaler beside the head instead, and then starts Ray without a monitor.
    """
    import psutil  # comes with ray

    kuberay = os.environ.get("KUBERAY_GEN_RAY_START_CMD")
    if kuberay is not None:
        return "--no-monitor" in kuberay
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        monitor = any(word.endswith("/autoscaler/_private/monitor.py") for word in command) or any(
            word.endswith("/autoscaler/v2/monitor.py") for word in command
        )
        if monitor and any(
            word.startswith("--gcs-address=") and word.endswith(f":{gcs_port}") for word in command
        ):
            return any(word.startswith("--autoscaling-config=") for word in command)
    return False
