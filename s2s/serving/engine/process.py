"""The process that a model runs in.

Python runs one thread at a time: a model beside the HTTP server would wait for it after every
operation, and the server for the model.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from s2s.errors import BadInput, Failed
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import PROTOCOL, Unusable


@dataclass(frozen=True)
class EngineProcess:
    """A process that an engine runs in, and the connection to it."""

    name: str  # of its model
    connection: socket.socket
    alive: Callable[[], bool]
    join: Callable[[], object]  # waits for its end, and returns its status


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs."""

    slots: int = 64  # sentences that are translated at a time
    device: Literal["auto", "cpu", "cuda"] = "cpu"  # auto: a GPU if the process may use one
    decode: Mapping[str, object] = field(default_factory=dict)  # instead of the model's settings

    def start(self, model: Path) -> EngineProcess:
        """Start a process for a model directory. It ends with this process, if not before.

        It is started afresh, not forked: this process may have threads, and need not have torch.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "s2s.serving.engine.process", str(model),
                       json.dumps(asdict(self)), str(theirs.fileno())]  # fmt: skip
            # The tokenisers' library would start a thread for each core to split one sentence.
            environment = {"TOKENIZERS_PARALLELISM": "false", **os.environ}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            # Ray sets this to the replica's CPUs, of which the event loop has one.
            cores = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
            threads = int(cores) if cores.isdigit() else os.cpu_count() or 1
            environment["OMP_NUM_THREADS"] = str(max(1, threads - 1))
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                process_group=0,  # which Ctrl-C in a terminal does not reach
            )
        return EngineProcess(model.name, ours, lambda: process.poll() is None, process.wait)


def main() -> None:
    """Serve a model over a socket: `python -m s2s.serving.engine.process MODEL OPTIONS SOCKET`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends its models itself
    model, settings, descriptor = sys.argv[1:]
    connection = Connection(socket.socket(fileno=int(descriptor)))
    options = EngineOptions(**json.loads(settings))

    from s2s.decoding.translator import Translator
    from s2s.devices import find_device
    from s2s.model.directory import ModelDirectory
    from s2s.serving.engine.scheduler import Scheduler

    try:
        directory = ModelDirectory.load(Path(model), find_device(options.device))
        translator = Translator(directory, directory.config.decode.changed(**options.decode))
    except (BadInput, Failed) as error:
        connection.send(Unusable(PROTOCOL, str(error)))
        connection.close()
        return
    # The event loop goes first: the more requests have come, the more a step is worth.
    os.nice(4)
    gc.collect()
    gc.freeze()  # what is loaded stays: to search it for garbage would only take time
    gc.set_threshold(20_000, 20, 20)
    Scheduler(translator, connection, options.slots).run()


if __name__ == "__main__":
    main()
