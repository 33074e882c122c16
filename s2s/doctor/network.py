"""What hosts can see of each other over the network.

Like `s2s.doctor.facts`, it needs the standard library alone.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 90.0  # hosts start one after the other, and each has to find the others there
_AT_ONCE = 32  # connections of a host
_BACKLOG = 1024  # of all hosts
_TIME, _END = b"t", b"e"  # what is asked


@dataclass(frozen=True)
class Target:
    """A port of a host."""

    host: str  # its label
    address: str
    port: int
    answers: bool = False  # whether `answer` listens there


@dataclass(frozen=True)
class Reached:
    """An attempt to reach a port of another host."""

    target: Target
    trouble: str = ""  # why it was not reached
    skew: float | None = None  # seconds by which its clock is ahead
    uncertainty: float = 0.0  # of that, in seconds


def answer(address: str, idle: float = _IDLE_SECONDS) -> Iterator[int]:
    """Listen on a free port of an address, and tell whoever asks there the time of this host.

    It ends when `dismiss` asks it to, or when nobody has connected for a while.

    Args:
        idle: seconds of that while.

    Yields:
        The port, once.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen(_BACKLOG)
        listener.settimeout(idle)
        yield int(listener.getsockname()[1])
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return
            with connection, suppress(OSError):  # that it has gone again
                connection.settimeout(CONNECT_SECONDS)
                asked = connection.recv(1)
                if asked == _END:
                    return
                if asked == _TIME:
                    connection.sendall(json.dumps(time.time()).encode() + b"\n")


def dismiss(address: str, port: int) -> None:
    """End what `answer` does on a port."""
    with suppress(OSError), socket.create_connection((address, port), CONNECT_SECONDS) as asking:
        asking.sendall(_END)


def reach(targets: Sequence[Target], seconds: float = CONNECT_SECONDS) -> list[Reached]:
    """Return which ports this host reaches.

    Args:
        seconds: to wait for each.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(lambda target: _reach(target, seconds), targets))


def _reach(target: Target, seconds: float) -> Reached:
    try:
        with socket.create_connection((target.address, target.port), seconds) as connection:
            if not target.answers:
                return Reached(target)
            before = time.time()
            connection.sendall(_TIME)
            with connection.makefile("rb") as answered:
                line = answered.readline(64)
        after = time.time()
        clock = float(json.loads(line))
    except TimeoutError:
        return Reached(target, f"no answer in {seconds:g} s")
    except OSError as error:
        return Reached(target, _reason(error))
    except ValueError:
        return Reached(target, "something else answers there")
    return Reached(target, "", clock - (before + after) / 2, (after - before) / 2)


def _reason(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return os.strerror(error.errno).lower() if error.errno else str(error)
