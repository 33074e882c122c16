"""Gain of the shortcut around FastAPI's router for `/translate`.

`python -m benchmarks.router --model MODEL --sentences FILE` starts two servers, each the app and
the engine of `s2s serve` under uvicorn:

- `shortcut`: the app as it is, where a middleware answers `/translate` itself
  (`s2s/serving/http/shortcut.py`);
- `router`: the same app without that middleware, so that requests pass FastAPI's router and its
  exception handlers.

The servers take turns in a closed loop (`benchmarks/load.py`). Each turn measures answers per
second, and the CPU time that the HTTP server's process spends on one answer, which other load on
the machine disturbs less.
"""

import argparse
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.decode import read_lines
from benchmarks.load import Load
from benchmarks.serve import expected_translations, generate_load
from benchmarks.server_process import ServerProcess, health_check, started
from benchmarks.train import cpu_name
from s2s.distributed.ports import free_port

WAYS = ("router", "shortcut")


@dataclass(frozen=True)
class Turn:
    """Measurement of one server in one turn."""

    rate: float  # answers/s
    cpu_time: float  # microseconds of the HTTP server's process for an answer
    wrong: int  # answers that differ from the translator's


def main() -> None:
    """Measure both servers and print a table; with `--serve`, be one of the servers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.router",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model directory")
    add("--sentences", type=Path, help="a sentence a line; may be .gz")
    add("--rounds", type=int, default=8, help="turns of each server")
    add("--seconds", type=float, default=4, help="duration of a turn")
    add("--connections", type=int, default=64, help="of the closed loop")
    add("--serve", choices=WAYS, help=argparse.SUPPRESS)
    add("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments.serve, arguments.model, arguments.port)
        return
    turns = _measure(arguments)
    print(f"{cpu_name()}; {' '.join(sys.argv[1:])}")
    print("| way | answers/s | lowest to highest | CPU time of an answer, µs | wrong |")
    for way in WAYS:
        rates = [turn.rate for turn in turns[way]]
        cpu_time = statistics.median(turn.cpu_time for turn in turns[way])
        print(
            f"| {way} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {cpu_time:.0f} | {sum(turn.wrong for turn in turns[way])} |"
        )
    pairs = list(zip(turns["shortcut"], turns["router"], strict=True))
    gains = [shortcut.rate / router.rate for shortcut, router in pairs]
    costs = [shortcut.cpu_time / router.cpu_time for shortcut, router in pairs]
    print(f"shortcut over router, median of turns: answers/s {statistics.median(gains):.3f}, "
          f"CPU time {statistics.median(costs):.3f}")  # fmt: skip


def _measure(arguments: argparse.Namespace) -> dict[str, list[Turn]]:
    sentences = [line for line in read_lines(arguments.sentences) if line.strip()]
    translations, languages = expected_translations(arguments.model, sentences)
    turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        servers: dict[str, tuple[int, ServerProcess]] = {}
        for way in WAYS:
            port = free_port()
            command = ["-m", "benchmarks.router", "--serve", way]
            command += ["--model", str(arguments.model), "--port", str(port)]
            servers[way] = (port, stack.enter_context(started(way, command)))
        for port, server in servers.values():
            server.wait_for_answer(health_check(port))
        for number in range(-1, arguments.rounds):  # the first turn warms up
            for way in WAYS if number % 2 else WAYS[::-1]:
                port, server = servers[way]
                process = psutil.Process(server.process.pid)
                load = Load(
                    port=port, kind="closed", texts=sentences, translations=translations,
                    languages=languages, list_size=0, connections=arguments.connections,
                    max_connections=arguments.connections, rate=0.0, warm_up=0.5,
                    seconds=arguments.seconds, seed=number + 1,
                )  # fmt: skip
                before = _cpu_seconds(process)
                measured = generate_load(load)
                # The CPU time includes the warm-up, which is as busy as the measurement.
                fraction = arguments.seconds / (arguments.seconds + load.warm_up)
                rate = measured["requests_per_second"]
                answers = rate * arguments.seconds / fraction
                cpu_time = (_cpu_seconds(process) - before) / answers * 1e6
                if number >= 0:
                    turns[way].append(Turn(rate, cpu_time, measured["mismatches"]))
    return turns


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time in seconds of a process since its start, without its children's."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _serve(way: str, model: Path, port: int) -> None:
    """Serve until SIGTERM, with or without the shortcut."""
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
        app.front = [each for each in app.front if each.cls is not Shortcut]
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # as a replica does
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    models.close()


if __name__ == "__main__":
    main()
