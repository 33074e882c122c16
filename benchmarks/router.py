"""What the path around FastAPI's router gains `/translate`.

`python -m benchmarks.router --model MODEL --sentences FILE` starts two servers, each the app and
the engine of `s2s serve` under uvicorn:

- `shortcut`: the app as it is, where a middleware answers `/translate` itself
  (`s2s/serving/http/shortcut.py`);
- `router`: the same app without it, so that FastAPI's router and its handling of exceptions are on
  the way.

They take turns in a closed loop (`benchmarks/load.py`), and each turn tells answers a second, and
the processor time of the HTTP server's process for one answer, which a busy machine disturbs less.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.decode import _lines
from benchmarks.load import Load
from benchmarks.serve import _expected, _generated
from benchmarks.train import _cpu
from s2s.distributed.ports import free_port

WAYS = ("router", "shortcut")
START = 120.0  # seconds for a server to come up


@dataclass(frozen=True)
class Turn:
    """A measurement of one server."""

    rate: float  # answers a second
    processor: float  # microseconds of the HTTP server's process for an answer
    wrong: int  # answers that were not what the translator gives


def main() -> None:
    """Measure, and print a table; or serve, for such a measurement."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.router",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model directory")
    add("--sentences", type=Path, help="a sentence a line; may be .gz")
    add("--rounds", type=int, default=8, help="turns of each server")
    add("--seconds", type=float, default=4, help="of a turn")
    add("--connections", type=int, default=64)
    add("--serve", choices=WAYS, help=argparse.SUPPRESS)
    add("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(given.serve, given.model, given.port)
        return
    turns = _measure(given)
    print(f"{_cpu()}; {' '.join(sys.argv[1:])}")
    print("| way | answers/s | lowest to highest | CPU time of an answer, µs | wrong |")
    for way in WAYS:
        rates = [turn.rate for turn in turns[way]]
        processor = statistics.median(turn.processor for turn in turns[way])
        print(
            f"| {way} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {processor:.0f} | {sum(turn.wrong for turn in turns[way])} |"
        )
    pairs = list(zip(turns["shortcut"], turns["router"], strict=True))
    gains = [shortcut.rate / router.rate for shortcut, router in pairs]
    costs = [shortcut.processor / router.processor for shortcut, router in pairs]
    print(f"shortcut over router, median of turns: answers/s {statistics.median(gains):.3f}, "
          f"CPU time {statistics.median(costs):.3f}")  # fmt: skip


def _measure(given: argparse.Namespace) -> dict[str, list[Turn]]:
    sentences = [line for line in _lines(given.sentences) if line.strip()]
    translations, pair = _expected(given.model, sentences)
    turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        servers = {}
        for way in WAYS:
            port = free_port()
            command = [sys.executable, "-m", "benchmarks.router", "--serve", way]
            command += ["--model", str(given.model), "--port", str(port)]
            process = subprocess.Popen(command)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            servers[way] = (port, psutil.Process(process.pid))
        for port, _ in servers.values():
            _await(port)
        for number in range(-1, given.rounds):  # the first one warms up
            for way in WAYS if number % 2 else WAYS[::-1]:
                port, process = servers[way]
                load = Load(
                    port=port, kind="closed", texts=sentences, answers=translations, pair=pair,
                    each=0, connections=given.connections, most=given.connections, rate=0.0,
                    warm_up=0.5, seconds=given.seconds, seed=number + 1,
                )  # fmt: skip
                before = _processor(process)
                told = _generated(load)
                # The half second before the measurement is as busy as the measurement.
                share = given.seconds / (given.seconds + load.warm_up)
                answers = told["requests_per_second"] * given.seconds / share
                spent = (_processor(process) - before) / answers * 1e6
                if number >= 0:
                    turns[way].append(Turn(told["requests_per_second"], spent, told["mismatches"]))
    return turns


def _processor(process: psutil.Process) -> float:
    """Seconds of processor time that a process has taken, without those of its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _await(port: int) -> None:
    """Return once a server answers."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise SystemExit("a server did not come up")


def _serve(way: str, model: Path, port: int) -> None:
    import gc

    import uvicorn

    from s2s.serving.engine.models import Models
    from s2s.serving.engine.process import EngineOptions
    from s2s.serving.http.app import create_app
    from s2s.serving.http.shortcut import Shortcut

    models = Models(EngineOptions(decode={"beam": 1}).start)
    models.serve([model])
    app = create_app(models)
    if way == "router":
        app.user_middleware = [each for each in app.user_middleware if each.cls is not Shortcut]
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # as a replica does
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    models.close()


if __name__ == "__main__":
    main()
