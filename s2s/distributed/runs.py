"""Runs that can be interrupted: the folder where one keeps its checkpoints, and how it stops."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2s.errors import BadInput, Stopped


def claim(out: Path, run: dict[str, Any], restart: bool) -> Path:
    """The run folder of `out`, which then belongs to the run of this description.

    Args:
        run: all that the outcome depends on. A folder that holds a run of another description is
            never gone on with.
        restart: drop what is in the folder, and let `out` be replaced.

    Raises:
        BadInput: `out` is there already, or the folder holds another run.
    """
    folder = out.with_name(f"{out.name}.run")
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    elif out.exists():
        raise BadInput(f"{out} exists already; --restart begins anew and replaces it")
    file = folder / "run.json"
    run = json.loads(json.dumps(run))
    try:
        if file.exists() and json.loads(file.read_bytes()) != run:
            raise BadInput(
                f"{folder} holds another run (other settings or another corpus); "
                "--restart drops it, or name another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(run, indent=2) + "\n")
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: {error}") from None
    return folder


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C, or SIGTERM as `ray job stop` sends it, end the work of the block in good order.

    Raises:
        Stopped: one of the two came.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A shell starts commands in the background with SIGINT ignored; here it always counts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ray ends its workers on SIGINT, and then exits
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
