"""The stages of a preparation, run as Ray tasks."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from s2s.distributed.cluster import WorkerResources, cluster
from s2s.distributed.hosts import monitored_hosts
from s2s.distributed.shared_storage import SharedPath, require_shared
from s2s.errors import BadInput, Failed
from s2s.locations import absolute
from s2s.preparation import Source
from s2s.preparation.execution import Executor

_COMPARED = 20  # sources that every host must see before tasks start; others fail as they are read


@contextmanager
def tasks(
    number: int | None,
    wait: float,
    log: Callable[[str], None],
    sources: Sequence[Path],
    folder: SharedPath,
) -> Iterator[Executor]:
    """Yield what runs a stage as Ray tasks of one CPU each.

    Args:
        number: tasks at once; None for one on every CPU.
        wait: seconds to wait for an autoscaling cluster to grow to that.
        sources: local files that tasks read.
        folder: that tasks write to, with its name for messages.

    Raises:
        BadInput: the cluster can never hold so many tasks, or a host does not see a file or the
            folder.
        Failed: it did not grow in time, or no cluster answers.
    """
    begin = time.perf_counter()
    with cluster(log, dashboard=False):
        at_once = number or int(ray.cluster_resources().get("CPU", 1))
        workers = WorkerResources(at_once, wait=wait)
        workers.require(log)
        shared = [SharedPath("source", absolute(file)) for file in sources[:_COMPARED]]
        require_shared([*shared, folder], workers.hosts())
        # The first task of a process imports libraries, some of them only as it reads. Done here,
        # that counts as start-up, whose time does not depend on the corpus.
        ray.get([_warm_up.remote() for _ in range(at_once)])
        log(f"{at_once} Ray tasks at once (started in {time.perf_counter() - begin:.1f} s)")

        def execute(function: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
            shared = ray.put(function)
            waiting = iter(items)
            running: dict[ray.ObjectRef, int] = {}
            try:
                while True:
                    while len(running) < at_once and (item := next(waiting, None)) is not None:
                        running[_run.remote(shared, item)] = item
                    if not running:
                        return
                    (done,), _ = ray.wait(list(running))
                    if (error := ray.get(done)) is not None:
                        raise BadInput(error)
                    yield running.pop(done)
            except ray.exceptions.RayError as error:
                raise Failed(f"a task failed: {_reason(error)}") from None
            finally:
                # Running tasks end within seconds, and would write to a folder that has gone.
                # (To cancel a task that is just ending aborts the whole process in Ray 2.60.)
                if running:
                    ray.wait(list(running), num_returns=len(running), timeout=60)

        with monitored_hosts(log, "its tasks run again on other hosts"):
            yield execute


def _reason(error: ray.exceptions.RayError) -> str:
    """Return why a task failed, in a line."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
        return " ".join(str(error.cause).split()) or type(error.cause).__name__
    return str(error).strip().partition("\n")[0]


def _use_one_cpu() -> None:
    """Keep the libraries of a task's process to one thread."""
    import datasets
    import pyarrow

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    datasets.disable_progress_bars()


@ray.remote(num_cpus=1)
def _warm_up() -> None:
    """Read a corpus of one pair, so that the process has imported what reading needs."""
    from s2s.preparation.discovery import find_origins
    from s2s.preparation.readers import read_origin

    _use_one_cpu()
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.tsv"
        pairs.write_text("a\tb\n", encoding="utf-8")
        source = Source(source=(str(pairs),), source_language="en", target_language="fr")
        for origin in find_origins(source, Path(folder)):
            list(read_origin(origin, source, Path(folder)))
    time.sleep(0.2)  # long enough that every CPU's process takes one of these


@ray.remote(num_cpus=1)
def _run(function: Callable[[int], None], item: int) -> str | None:
    """Process an item, and return what is wrong with the user's input, if anything is."""
    _use_one_cpu()
    try:
        function(item)
    except BadInput as error:
        return str(error)
    return None
