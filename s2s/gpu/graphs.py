"""CUDA graphs: work on a GPU that is recorded once and then started as a whole.

Small kernels end sooner than Python can start the next one. A graph holds hundreds of kernels and
is started in one call; the tensors that it reads and writes must stay where they were when it was
recorded.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress

import torch

# Graphs of a cache; work of further shapes is started kernel by kernel.
MAX_GRAPHS = 512


class GraphCache:
    """CUDA graphs of one kind of work, one for each shape of its tensors.

    All graphs share one pool of memory, so they need as much as the largest of them needs. The next
    graph may overwrite the outputs of the last one: what is to last must be written to tensors that
    existed before the recording.

    Args:
        device: a GPU; on a CPU nothing is recorded.
        retry: whether work that could not be recorded, for lack of memory, can be started again. If
            not, `run` raises `torch.OutOfMemoryError`.
    """

    def __init__(self, device: torch.device, *, retry: bool = True) -> None:
        self._device, self._retry = device, retry
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        # The thread that started each shape last: a thread's libraries prepare themselves at its
        # first start, which must not be recorded.
        self._started: dict[Hashable, int] = {}
        self._out_of_memory = False  # whether a recording found too little memory
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """Return how many graphs are recorded."""
        return len(self._graphs)

    def run(self, shape: Hashable, work: Callable[[], None]) -> None:
        """Do the work of a shape.

        At the first call kernels are started one by one, so that libraries can choose and prepare
        them; at the second the work is recorded; from then on the recording is started, and `work`
        is not called. A CPU has no graphs: there `work` is called every time.
        """
        if self._device.type != "cuda":
            work()
            return
        with torch.cuda.device(self._device):
            graph = self._graphs.get(shape)
            if graph is not None:
                graph.replay()
                return
            # All but replays happens on the stream of the recording: gradients remember the stream
            # that they were made on.
            current, thread = torch.cuda.current_stream(), threading.get_ident()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                if self._is_recordable(shape, thread):
                    graph = self._record(work)
                if graph is None:
                    work()
            current.wait_stream(self._stream)
            if graph is not None:
                self._graphs[shape] = graph
                graph.replay()
            elif len(self._started) < 4 * MAX_GRAPHS:
                self._started[shape] = thread

    def _is_recordable(self, shape: Hashable, thread: int) -> bool:
        has_room = len(self) < MAX_GRAPHS and not self._out_of_memory
        return has_room and self._started.get(shape) == thread

    def _record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Return the graph of some work, without doing it; None if there is no memory for one."""
        # While it records, the allocator gives nothing back of what it has kept for other streams.
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        # Threads that prepare batches or write checkpoints may continue meanwhile.
        graph.capture_begin(self._pool, capture_error_mode="thread_local")
        try:
            work()
        except torch.OutOfMemoryError:
            with suppress(RuntimeError):  # the error may have ended the recording
                graph.capture_end()
            if not self._retry:
                raise
            self._out_of_memory = True
            torch.cuda.empty_cache()
            return None
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
        return graph

    def clear(self) -> None:
        """Drop all graphs, because tensors that they read or write have moved."""
        self._graphs.clear()
        self._started.clear()
        if self._device.type == "cuda":
            # The old pool goes with the last of its graphs.
            self._pool = torch.cuda.graph_pool_handle()
            torch.cuda.empty_cache()


def next_power_of_two(number: int, minimum: int = 1) -> int:
    """Return the least power of two that is at least a number, and at least `minimum`.

    Shapes that are rounded up to powers of two are few, and so are their graphs.
    """
    return max(minimum, 1 << (number - 1).bit_length())
