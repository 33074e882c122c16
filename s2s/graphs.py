"""CUDA graphs: work on a card that is recorded once and then started as a whole.

Small kernels end sooner than Python can start the next one. A graph holds hundreds of them and is
started in one call; what it reads and writes must stay where it was when it was recorded.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from collections.abc import Callable, Hashable

import torch

# Graphs that are kept at most; work of other shapes is started kernel by kernel.
MOST = 512


class Graphs:
    """The graphs of one kind of work, one for each shape that it has.

    All graphs share one pool of memory, so they need what the largest of them needs. That makes
    their outputs fair game for the next one: what is to last must be written to tensors that were
    there before.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_card = device.type == "cuda"
        if self._on_card:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}

    def __len__(self) -> int:
        """Graphs that are recorded."""
        return sum(graph is not None for graph in self._graphs.values())

    def run(self, shape: Hashable, work: Callable[[], None]) -> None:
        """Do the work of a shape.

        The first time it is done kernel by kernel, so that libraries can choose and prepare; the
        second time it is recorded; from then on the recording is started, and `work` is not called.
        A CPU has no graphs: it does the work every time.
        """
        if not self._on_card:
            work()
            return
        current = torch.cuda.current_stream()
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay()
            return
        # All that is not a replay happens on the stream of the recording: gradients remember the
        # stream that they were made on.
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            if shape in self._graphs and len(self) < MOST:
                graph = torch.cuda.CUDAGraph()
                # Threads that prepare batches or write checkpoints may go on meanwhile.
                graph.capture_begin(self._pool, capture_error_mode="thread_local")
                try:
                    work()
                finally:
                    graph.capture_end()
            else:
                work()
        current.wait_stream(self._stream)
        self._graphs[shape] = graph
        if graph is not None:
            graph.replay()

    def clear(self) -> None:
        """Forget all graphs, since what they read or write has moved."""
        self._graphs.clear()
        if self._on_card:
            # The memory of the old pool goes with the last of its graphs.
            self._pool = torch.cuda.graph_pool_handle()
