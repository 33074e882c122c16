"""CUDA graphs: work on a card that is recorded once and then started as a whole.

Small kernels end sooner than Python can start the next one. A graph holds hundreds of them and is
started in one call; what it reads and writes must stay where it was when it was recorded.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress

import torch

# Graphs that are kept at most; work of other shapes is started kernel by kernel.
MOST = 512


class Graphs:
    """The graphs of one kind of work, one for each shape that it has.

    All graphs share one pool of memory, so they need what the largest of them needs. That makes
    their outputs fair game for the next one: what is to last must be written to tensors that were
    there before.

    Args:
        retry: whether work that could not be recorded, for lack of memory, can be begun anew.
    """

    def __init__(self, device: torch.device, *, retry: bool = True) -> None:
        self._device, self._retry = device, retry
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        # By which thread each shape was started last: a thread's libraries prepare themselves at
        # its first start, which must not be recorded.
        self._started: dict[Hashable, int] = {}
        self._full = False  # whether there was no memory for a recording
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """Graphs that are recorded."""
        return len(self._graphs)

    def run(self, shape: Hashable, work: Callable[[], None]) -> None:
        """Do the work of a shape.

        The first time it is done kernel by kernel, so that libraries can choose and prepare; the
        second time it is recorded; from then on the recording is started, and `work` is not called.
        A CPU has no graphs: it does the work every time.
        """
        if self._device.type != "cuda":
            work()
            return
        with torch.cuda.device(self._device):
            graph = self._graphs.get(shape)
            if graph is not None:
                graph.replay()
                return
            # All that is not a replay happens on the stream of the recording: gradients remember
            # the stream that they were made on.
            current, thread = torch.cuda.current_stream(), threading.get_ident()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                if self._started.get(shape) == thread and len(self) < MOST and not self._full:
                    graph = self._recorded(work)
                if graph is None:
                    work()
            current.wait_stream(self._stream)
            if graph is not None:
                self._graphs[shape] = graph
                graph.replay()
            elif len(self._started) < 4 * MOST:
                self._started[shape] = thread

    def _recorded(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """The graph of some work, which was not done; None if there is no memory for one."""
        # While it records, the allocator gives nothing back of what it has kept for other streams.
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        # Threads that prepare batches or write checkpoints may go on meanwhile.
        graph.capture_begin(self._pool, capture_error_mode="thread_local")
        try:
            work()
        except torch.OutOfMemoryError:
            with suppress(RuntimeError):  # it may have ended by that
                graph.capture_end()
            if not self._retry:
                raise
            self._full = True
            torch.cuda.empty_cache()
            return None
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
        return graph

    def clear(self) -> None:
        """Forget all graphs, since what they read or write has moved."""
        self._graphs.clear()
        self._started.clear()
        if self._device.type == "cuda":
            # The old pool goes with the last of its graphs.
            self._pool = torch.cuda.graph_pool_handle()
            torch.cuda.empty_cache()


def power_of_two(number: int, least: int = 1) -> int:
    """The power of two from a number up, at least `least`: there are few of them."""
    return max(least, 1 << (number - 1).bit_length())
