"""The blocks of a translation of files, run by a pool of actors of Ray Data.

A task on the host of the driver reads the files, so that paths need not be shared, and passes each
block on as one row. An actor translates it, and the driver writes its part. An actor that goes
away is replaced, and its block is translated again.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Datasource, ExecutionResources, ReadTask
from ray.data.block import BlockMetadata

from s2s.bulk.execution import Executor, Work
from s2s.bulk.parts import BlockKey, Translated
from s2s.bulk.translation import BlockTranslator, Form
from s2s.distributed.cluster import WorkerResources, cluster
from s2s.errors import BadInput, Failed, last_line
from s2s.storage import is_uri

_READERS = 2  # tasks that read files at once
_DEATHS = 10  # of actors at one block, after which the block is to blame

# Memory of the object store for blocks on their way: reading never gets far ahead.
_STORE_BYTES, _STORE_BYTES_PER_ACTOR = 64 << 20, 8 << 20

_BLOCK = pa.schema(
    {
        "file": pa.int32(), "block": pa.int64(), "first": pa.int64(), "size": pa.int64(),
        "texts": pa.list_(pa.string()),
    }
)  # fmt: skip
_TRANSLATED = pa.schema(
    {
        "file": pa.int32(), "block": pa.int64(), "size": pa.int64(),
        "outputs": pa.list_(pa.string()), "incomplete": pa.list_(pa.int32()),
    }
)  # fmt: skip


@contextmanager
def actors(
    model: Path,
    settings: Mapping[str, object],
    form: Form,
    workers: WorkerResources,
    device: str,
    log: Callable[[str], None],
) -> Iterator[Executor]:
    """Yield what translates blocks with actors on the cluster of RAY_ADDRESS, or on a local one.

    Args:
        model: a model directory of this host, whose files are sent to the actors.
        settings: of decoding, instead of the model's own.
        form: what is written of each row.
        workers: the actors.
        device: `cpu`, `cuda`, or `auto` for a GPU where the cluster has some.
        log: called with a line of text when something takes its time.

    Raises:
        BadInput: the cluster can never hold the actors.
        Failed: it did not grow in time, or no cluster answers.
    """
    files = {file.name: file.read_bytes() for file in sorted(model.iterdir()) if file.is_file()}
    with cluster(log, dashboard=False):
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        workers = replace(workers, gpu=device == "cuda" or (device == "auto" and has_gpu))
        if workers.gpu_share < 1 and not workers.gpu:
            raise BadInput(f"--gpu-share {workers.gpu_share}: the cluster has no GPU")
        workers.require(log)
        sent = ray.put(files)
        yield partial(_execute, (sent, settings, form, workers), workers)


def _execute(
    arguments: tuple[Any, ...],
    workers: WorkerResources,
    work: Work,
    on_rows: Callable[[int], None],
) -> Iterator[tuple[BlockKey, Translated]]:
    """Translate blocks: an `Executor`, given the arguments of the actors.

    Raises:
        BadInput: a file cannot be read.
        Failed: an actor raised an error, or a block ended one after the other.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(_context(workers.number)):
        translated = _translated(_read(work), arguments, workers)
        try:
            for table in translated.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in table.to_pylist():
                    on_rows(len(row["outputs"]))
                    yield (
                        BlockKey(row["file"], row["block"]),
                        Translated(row["outputs"], row["incomplete"], row["size"]),
                    )
        except ray.exceptions.RayError as error:
            if (bad := _bad_input(error)) is not None:
                raise bad from None
            raise Failed(f"translating failed: {last_line(error)}") from None


def _context(actors: int) -> DataContext:
    """Return the settings of Ray Data for the blocks."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Each row is a block of its own, and is passed on at once.
    context.target_max_block_size = 1
    # A part has its number: no block waits for another.
    context.execution_options.preserve_order = False
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=_STORE_BYTES + actors * _STORE_BYTES_PER_ACTOR
    )
    context.max_consecutive_actor_init_deaths = 3
    return context


def _read(work: Work) -> ray.data.Dataset:
    """Return the pending blocks, read by tasks on this host."""
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    # The tasks run in another folder than the driver.
    files = [
        file
        if is_uri(file.location)
        else replace(file, location=str(Path(file.location).absolute()))
        for file in work.files
    ]
    source = _Blocks(replace(work, files=files))
    return ray.data.read_datasource(
        source,
        override_num_blocks=len(source.shares),
        concurrency=len(source.shares),
        # The CPUs are for the actors, which wait if nobody reads.
        num_cpus=0,
        label_selector=here,
    )


def _translated(
    blocks: ray.data.Dataset, arguments: tuple[Any, ...], workers: WorkerResources
) -> ray.data.Dataset:
    """Return the translations of blocks by actors."""
    with warnings.catch_warnings():
        # The limit has no other place in this version of Ray: without it, a block that ends its
        # actor would do so for ever.
        warnings.simplefilter("ignore")
        return blocks.map_batches(
            _Actor,
            fn_constructor_args=arguments,
            batch_size=1,  # a block
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(size=workers.number, max_tasks_in_flight_per_actor=2),
            num_cpus=workers.cpus,
            num_gpus=workers.gpu_share if workers.gpu else None,
            max_task_retries=_DEATHS,
        )


class _Blocks(Datasource):
    """The pending blocks of files, as a source of Ray Data: a row for each block."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work
        numbers = range(len(work.files))
        readers = min(len(numbers), _READERS)
        self.shares = [numbers[reader::readers] for reader in range(readers)]

    def get_name(self) -> str:
        """Return the name in what Ray shows."""
        return "Blocks"

    def estimate_inmemory_data_size(self) -> int:
        """Return the size of all blocks, roughly."""
        return sum(file.size for file in self._work.files)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return what reads each share of the files."""
        return [
            ReadTask(
                partial(_rows, self._work, share),
                BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None),
                _BLOCK,
            )
            for share in self.shares
        ]


def _rows(work: Work, numbers: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the pending blocks of some files as tables of one row."""
    for block in work.pending(numbers):
        columns = ([block.key.file], [block.key.block], [block.first], [block.size], [block.texts])
        yield pa.table(dict(zip(_BLOCK.names, columns, strict=True)), schema=_BLOCK)


class _Actor:
    """Translates blocks in an actor of its own.

    Args:
        model: the files of a model directory, by name, in the object store.
        settings: of decoding, instead of the model's own.
        form: what is written of each row.
        workers: the resources of an actor.
    """

    def __init__(
        self,
        model: Any,
        settings: Mapping[str, object],
        form: Form,
        workers: WorkerResources,
    ) -> None:
        import os

        import torch

        from s2s.decoding.translator import Translator

        os.environ["TOKENIZERS_PARALLELISM"] = str(workers.cpus > 1).lower()
        torch.set_num_threads(workers.cpus)
        with tempfile.TemporaryDirectory(prefix="s2s-model-") as folder:
            for name, content in ray.get(model).items():
                (Path(folder) / name).write_bytes(content)
            translator = Translator.load(Path(folder), "cuda" if workers.gpu else "cpu")
        self._translator = BlockTranslator(translator.with_settings(**settings), form)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the translations of blocks, a row for each."""
        rows = []
        for block in table.to_pylist():
            done = self._translator.translate(block["texts"], block["first"], block["size"])
            row = (block["file"], block["block"], done.size, done.outputs, done.incomplete)
            rows.append(dict(zip(_TRANSLATED.names, row, strict=True)))
        return pa.Table.from_pylist(rows, _TRANSLATED)


def _bad_input(error: BaseException | None) -> BadInput | None:
    """Return what a task raised, if that was wrong with the user's input."""
    while error is not None:
        if isinstance(error, BadInput):
            return BadInput(str(getattr(error, "cause", error)))
        error = getattr(error, "cause", None) or error.__cause__
    return None
