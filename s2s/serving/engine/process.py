"""The process that a model runs in.

Python runs one thread at a time: a model beside the HTTP server would wait for it after every
operation, and it for the model.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from s2s.errors import BadInput, Failed
from s2s.serving.engine.messages import Wire


@dataclass(frozen=True)
class Host:
    """Where an engine runs."""

    name: str  # of its model
    connection: socket.socket
    alive: Callable[[], bool]
    join: Callable[[], object]  # waits for its end, and gives its status


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs; None leaves a setting of decoding as the model has it."""

    slots: int = 64  # sentences at a time
    device: str = "cpu"  # or `cuda`, or `auto`: a GPU if the process may use one
    beam: int | None = None
    precision: str | None = None

    def start(self, model: Path) -> Host:
        """Start a process that serves a model directory. It ends with this process, if not before.

        It is started anew, not forked: this process may have threads, and need not have torch.
        """
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", "s2s.serving.engine.process", str(model),
                       json.dumps(asdict(self)), str(its.fileno())]  # fmt: skip
            # The tokenisers' library would start a thread for each core to cut one sentence.
            environment = {"TOKENIZERS_PARALLELISM": "false", **os.environ}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            # Ray sets this to the replica's CPUs, of which the event loop has one.
            told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
            threads = int(told) if told.isdigit() else os.cpu_count() or 1
            environment["OMP_NUM_THREADS"] = str(max(1, threads - 1))
            process = subprocess.Popen(
                command, pass_fds=[its.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        return Host(model.name, ours, lambda: process.poll() is None, process.wait)


def main() -> None:
    """Serve a model over a socket: `python -m s2s.serving.engine.process MODEL OPTIONS SOCKET`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's, and ends it first
    model, options, descriptor = sys.argv[1:]
    wire = Wire(socket.socket(fileno=int(descriptor)))
    own = EngineOptions(**json.loads(options))

    from s2s.decoding.translator import Translator
    from s2s.devices import find_device
    from s2s.serving.engine.scheduler import Engine

    try:
        translator = Translator.load(Path(model), find_device(own.device))
        translator = translator.with_settings(beam=own.beam, precision=own.precision)
    except (BadInput, Failed) as error:
        wire.send("unfit", str(error))
        wire.close()
        return
    os.nice(4)  # what comes and goes first: the more has come, the more a step is worth
    gc.collect()
    gc.freeze()  # what is there stays: to look through it again and again would take time
    gc.set_threshold(20_000, 20, 20)
    Engine(translator, wire, own.slots).run()


if __name__ == "__main__":
    main()
