"""Speed of serving: `s2s serve` beside other ways to put the same model behind HTTP.

`python -m benchmarks.serve --model MODEL --sentences FILE` measures, in interleaved rounds,

- `ours`: `s2s serve`, the slot engine on Ray Serve behind HAProxy and in throughput mode;
- `batch`: the same model behind `@serve.batch`, with the same settings of Serve;
- `batch-plain`, `batch-default`: that without HAProxy and throughput mode, and with the defaults of
  `@serve.batch` and `max_ongoing_requests` as well;
- `alone`: every request for itself;
- `echo`: a deployment that gives the text back, with the same settings of Serve;
- `uvicorn`: the app and engine of `s2s serve`, without Ray;
- `in-process`: `Translator.translate` of all sentences in one call, no server.

All of them translate greedily, with as many threads of torch (`--threads`). What they are is in
`benchmarks/servers.py`, how they are asked in `benchmarks/load.py`. One server is alive at a time,
started and ended for each of its measurements: an idle Ray takes a share of a core, which on a
small machine would be taken from whichever is measured. The order is turned around every round.

- `closed`: so many connections, each with one sentence on its way.
- `lists`: the same with lists of 64 sentences and fewer connections.
- `ramp`: closed loops of 4 to 256 connections, which tell how many requests a replica is busy with.
- `open`: random arrivals at a given share of the lower peak of `ours` and `batch`, the same rate
  for all, so that latencies can be compared; they count from the time at which a request was due.
- `overload`: arrivals at a multiple of each server's own peak, which closed loops just before and
  after tell (their mean is what `of peak` is of), and the time afterwards until it
  answers one request as fast as a calm server does (five times its median is near enough).

`open` and `overload` follow when all rounds of the others are done and peaks are known. Every
request has another sentence, in shuffled order, until the file begins anew. A rate counts answers
of status 200 within the seconds of a measurement; each is compared with what `Translator.translate`
gives for the sentence alone in a list of all. The loads come from this machine: its cores are
shared with the server, and `generator` tells how many of them the load took. The mean occupancy is
that of the slots, from what the engine counts. A machine is noisy: compare within a run only.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.decode import _lines
from benchmarks.load import Load
from benchmarks.train import _cpu
from s2s.distributed.ports import free_port

SERVERS = ("ours", "batch", "batch-plain", "batch-default", "alone", "echo", "uvicorn")
SUBJECTS = (*SERVERS, "in-process")
SCENARIOS = ("closed", "lists", "ramp", "open", "overload")
RAMP = (4, 8, 16, 32, 64, 128, 256)  # connections
OPEN = ("ours", "batch", "uvicorn")  # what open loops and overload are measured of, if asked for
LIST = 64  # sentences of a request in `lists`
START = 120.0  # seconds for a server to come up
ROUTED = 10.0  # seconds after which HAProxy has the replicas; until then a slow proxy stands in
SETTLE = 14.0  # seconds after which Ray's metrics have all that was counted
_PEAK = "requests_per_second"  # of a closed loop
CONSOLE = Console(width=190)
NOTES = Console(stderr=True)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    subject: str
    port: int
    folder: Path  # its Ray's, if it has one


@dataclass(frozen=True)
class Result:
    """A measurement."""

    model: str
    subject: str
    scenario: str
    round: int
    told: dict[str, Any] = field(hash=False)  # by `benchmarks.load`


def main() -> None:
    """Measure, and print tables."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended, too
    results: list[Result] = []
    about = {
        "cpu": _cpu(),
        "date": str(date.today()),
        "command": " ".join(sys.argv[1:]),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "ray", "fastapi", "uvicorn")},
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for model in given.model:
            bench = Bench(given, model.resolve(), Path(folder))
            bench.measure()
            results += bench.results
    ratios = [each for model in given.model for each in _ratios(results, str(model.resolve()))]
    _show(about, results, ratios)
    if given.json:
        told = [{**asdict(result), "told": result.told} for result in results]
        given.json.write_text(json.dumps({**about, "results": told, "ratios": ratios}, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, nargs="+", required=True, help="model directories, one by one")
    add("--sentences", type=Path, required=True, help="a sentence a line; may be .gz")
    add("--rounds", type=int, default=3, help="interleaved repetitions")
    add("--seconds", type=float, default=15, help="of a measurement")
    add("--warm-up", type=float, default=3, help="seconds of load before it")
    usual = [name for name in SCENARIOS if name != "ramp"]
    add("--scenarios", nargs="+", choices=SCENARIOS, default=usual)
    add("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    add("--connections", type=int, default=64, help="of closed loops")
    add("--list-connections", type=int, default=8, help="of closed loops with lists")
    add("--most-connections", type=int, default=4096, help="of open loops")
    add("--share", type=float, default=0.6, help="of the peak, the rate of open loops")
    add("--rate", type=float, help="requests/s of open loops instead")
    add("--overload", type=float, default=3, help="times the peak")
    add("--batch-size", type=int, default=64, help="requests, of serve.batch")
    add("--batch-wait", type=float, default=0.005, help="seconds, of serve.batch")
    add("--threads", type=int, default=1, help="of torch; Serve gives a replica one")
    add("--json", type=Path, help="file for all that was measured")
    given = parser.parse_args()
    if "open" in given.scenarios and "closed" not in given.scenarios:
        if not given.rate:
            parser.error("`open` without `closed` needs --rate")
    elif not {"ours", "batch"} & {*given.subjects} and not given.rate:
        given.scenarios = [s for s in given.scenarios if s != "open"]
    return given


class Bench:
    """The measurements of a model.

    Args:
        folder: for what servers write.
    """

    def __init__(self, given: argparse.Namespace, model: Path, folder: Path) -> None:
        self._given, self._model, self._folder = given, model, folder
        self.results: list[Result] = []
        sentences = [line for line in _lines(given.sentences) if line.strip()]
        random.Random(0).shuffle(sentences)  # noqa: S311
        self._sentences = sentences
        self._translations, self._pair = _expected(model, sentences)

    def measure(self) -> None:
        """All rounds: at first what tells the peaks, then open loops."""
        given = self._given
        peaks = [name for name in ("closed", "lists") if name in given.scenarios]
        if "ramp" in given.scenarios:
            peaks += [f"ramp {connections}" for connections in RAMP]
        loops = [name for name in ("open", "overload") if name in given.scenarios]
        for scenarios, subjects in (
            (peaks, given.subjects),
            (loops, [name for name in given.subjects if name in OPEN]),
        ):
            for turn in range(given.rounds if scenarios else 0):
                for subject in subjects if turn % 2 == 0 else subjects[::-1]:
                    self._measure_one(subject, scenarios, turn)

    def _measure_one(self, subject: str, scenarios: list[str], turn: int) -> None:
        if subject == "in-process":
            told = {"sentences_per_second": self._in_process()}
            self._keep(subject, "lists", turn, told)
            return
        with self._served(subject) as server:
            counts: dict[str, float] = {}
            for scenario in scenarios:
                if scenario == "overload":
                    told = self._overloaded(server, turn)
                else:
                    told = _generated(self._load(server, scenario, turn))
                if subject in ("ours", "uvicorn"):
                    before, counts = counts, _counts(server)
                    told["occupancy"] = _occupancy(before, counts)
                self._keep(subject, scenario, turn, told)

    def _overloaded(self, server: Server, turn: int) -> dict[str, Any]:
        """Overload between two closed loops, which tell the server's peak at that time."""
        before = _generated(self._load(server, "closed", turn))[_PEAK]
        told = _generated(self._load(server, "overload", turn, self._given.overload * before))
        after = _generated(self._load(server, "closed", turn))[_PEAK]
        return {**told, "of_peak": 2 * told[_PEAK] / (before + after)}

    def _keep(self, subject: str, scenario: str, turn: int, told: dict[str, Any]) -> None:
        self.results.append(Result(str(self._model), subject, scenario, turn, told))
        NOTES.print(
            f"round {turn + 1}, {subject}, {scenario}: {told['sentences_per_second']:,.0f} "
            f"sentences/s, {told.get('statuses', '')}",
            highlight=False,
        )

    def _load(self, server: Server, scenario: str, turn: int, rate: float = 0.0) -> Load:
        given = self._given
        echo = server.subject == "echo"
        if scenario == "open":
            rate = given.rate or given.share * min(
                self._peak(name) for name in ("ours", "batch") if name in given.subjects
            )
        connections = given.list_connections if scenario == "lists" else given.connections
        if scenario.startswith("ramp"):
            connections = int(scenario.split()[1])
        return Load(
            port=server.port,
            kind=scenario if scenario in ("open", "overload") else "closed",
            texts=self._sentences,
            answers=self._sentences if echo else self._translations,
            pair=self._pair,
            each=LIST if scenario == "lists" else 0,
            connections=connections,
            most=given.most_connections,
            rate=rate,
            warm_up=given.warm_up,
            seconds=given.seconds,
            seed=turn,
        )

    def _peak(self, subject: str) -> float:
        """Requests/s of a closed loop, the median of the rounds."""
        return statistics.median(
            result.told[_PEAK]
            for result in self.results
            if (result.subject, result.scenario) == (subject, "closed")
        )

    def _in_process(self) -> float:
        file = self._folder / "sentences"
        file.write_text("".join(line + "\n" for line in self._sentences), "utf-8")
        command = [sys.executable, "-m", "benchmarks.servers", "in-process", "--model", self._model]
        command += ["--sentences", file, "--seconds", str(self._given.seconds)]
        done = subprocess.run(
            command, env=self._environment(self._folder), stdout=subprocess.PIPE, check=True
        )
        return float(done.stdout)

    def _environment(self, folder: Path) -> dict[str, str]:
        cluster = ("RAY_ADDRESS", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_ENABLE_HA_PROXY")
        kept = {name: value for name, value in os.environ.items() if name not in cluster}
        return {
            **kept,
            "OMP_NUM_THREADS": str(self._given.threads),
            "RAY_TMPDIR": str(folder),  # where its metrics are found, and nothing else
            # Clusters of one host share these ports unless told otherwise, and so their requests.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @contextmanager
    def _served(self, subject: str) -> Iterator[Server]:
        """A server in a process of its own, which is ended at the end."""
        port, given = free_port(), self._given
        if subject == "ours":
            command = [sys.executable, "-m", "s2s.cli", "serve", str(self._model)]
            command += ["--port", str(port), "--beam", "1"]
        else:
            command = [sys.executable, "-m", "benchmarks.servers", subject]
            command += ["--model", str(self._model), "--port", str(port)]
            command += ["--size", str(given.batch_size), "--wait", str(given.batch_wait)]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            log = stack.enter_context((self._folder / f"{subject}.log").open("w+"))
            process = subprocess.Popen(
                command,
                env=self._environment(folder),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
            stack.callback(_end, process)
            server = Server(subject, port, folder)
            self._await(server, process, Path(log.name))
            yield server

    def _await(self, server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
        """Return once a server translates."""
        fields = {"q": self._sentences[0], "source": self._pair[0], "target": self._pair[1]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/translate",
            json.dumps(fields).encode(),
            {"Content-Type": "application/json"},
        )
        end = time.monotonic() + START
        while time.monotonic() < end and process.poll() is None:
            try:
                with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                    time.sleep(0 if server.subject == "uvicorn" else ROUTED)
                    return
            except OSError:
                time.sleep(0.3)
        raise SystemExit(f"{server.subject} did not come up:\n{log.read_text()[-2000:]}")


def _expected(model: Path, sentences: list[str]) -> tuple[list[str], list[str]]:
    from s2s.decoding.translator import Translator

    translator = Translator.load(model).with_settings(beam=1)
    config = translator.config
    return translator.translate(sentences), [config.source_language, config.target_language]


def _generated(load: Load) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return {**told, "rate": load.rate}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ---- occupancy ----------------------------------------------------------------------------------


def _counts(server: Server) -> dict[str, float]:
    """Steps and the slots taken in them since a server's start, if it tells them."""
    if server.subject == "uvicorn":
        told: dict[str, float] = json.loads(_get(f"http://127.0.0.1:{server.port}/counts"))
        return told
    time.sleep(SETTLE)
    counts: dict[str, float] = {}
    for found in server.folder.glob("ray/session_latest/prom_metrics_service_discovery.json"):
        for address in {a for each in json.loads(found.read_text()) for a in each["targets"]}:
            try:
                page = _get(f"http://{address}/metrics")
            except OSError:
                continue
            for name, value in re.findall(
                r"^ray_s2s_serve_(steps|taken_slots)(?:_total)?\{.*\} (\S+)$", page, re.MULTILINE
            ):
                counts[name] = counts.get(name, 0.0) + float(value)
    return counts


def _occupancy(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Slots taken in the mean step between two times, the warm-up's steps among them."""
    steps = after.get("steps", 0) - before.get("steps", 0)
    taken = after.get("taken_slots", 0) - before.get("taken_slots", 0)
    return taken / steps if steps else None


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310
        text: str = page.read().decode()
        return text


# ---- what is told -------------------------------------------------------------------------------

# Scenario, subjects and numbers whose ratios are told, and what they are called.
_RATE, _MEAN, _P99 = "sentences_per_second", "mean", "p99"
_COMPARED = [
    ("closed", "ours", "echo", _RATE),
    ("closed", "ours", "batch", _RATE),
    ("closed", "ours", "batch-plain", _RATE),
    ("closed", "ours", "batch-default", _RATE),
    ("closed", "ours", "alone", _RATE),
    ("closed", "ours", "uvicorn", _RATE),
    ("lists", "ours", "in-process", _RATE),
    ("lists", "uvicorn", "in-process", _RATE),
    ("lists", "ours", "batch", _RATE),
    ("open", "ours", "batch", _MEAN),
    ("open", "ours", "batch", _P99),
]


def _ratios(results: list[Result], model: str) -> list[dict[str, Any]]:
    """One subject's number over another's in each round, and the median."""
    found = {(r.scenario, r.subject, r.round): r.told for r in results if r.model == model}
    rounds = sorted({result.round for result in results})
    told = []
    for scenario, one, other, what in _COMPARED:
        pairs = [(found.get((scenario, one, n)), found.get((scenario, other, n))) for n in rounds]
        each = [_number(a, what) / _number(b, what) for a, b in pairs if a and b]
        if each:
            median = statistics.median(each)
            told.append(
                {"model": model, "scenario": scenario, "of": one, "over": other, "what": what}
                | {"median": median, "rounds": each}
            )
    return told


def _number(told: dict[str, Any], what: str) -> float:
    number: float = told[what] if what in told else (told["latency"] or {}).get(what, float("nan"))
    return number


def _show(about: dict[str, Any], results: list[Result], ratios: list[dict[str, Any]]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    CONSOLE.print(f"{about['cpu']}; {versions}; {about['date']}; {about['command']}")
    for model in dict.fromkeys(result.model for result in results):
        for scenario in dict.fromkeys(result.scenario for result in results):
            own = [r for r in results if (r.model, r.scenario) == (model, scenario)]
            if own:
                title = f"{Path(model).name}: {scenario}, medians of the rounds"
                CONSOLE.print(_table(title, scenario, own))
    if not ratios:
        return
    table = Table(title="ratios, of each round")
    for name in ("model", "scenario", "of", "median", "lowest to highest"):
        table.add_column(name, justify="right" if name[0] in "ml" and name != "model" else "left")
    for ratio in ratios:
        table.add_row(
            Path(ratio["model"]).name,
            ratio["scenario"],
            f"{ratio['of']} / {ratio['over']}, {ratio['what'].replace('_', ' ')}",
            f"{ratio['median']:.2f}",
            f"{min(ratio['rounds']):.2f} to {max(ratio['rounds']):.2f}",
        )
    CONSOLE.print(table)


def _table(title: str, scenario: str, results: list[Result]) -> Table:
    table = Table(title=title)
    table.add_column("server")
    names = ["requests/s", "sentences/s", "lowest to highest", "mean", "p50", "p95", "p99, ms"]
    names += ["429", "others", "wrong", "slots", "generator"]
    if scenario in ("open", "overload"):
        names.insert(0, "offered/s")
    if scenario == "overload":
        names += ["429: p50", "p95, ms", "recovery, s", "of peak"]
    for name in names:
        table.add_column(name, justify="right")
    for subject in dict.fromkeys(result.subject for result in results):
        told = [result.told for result in results if result.subject == subject]
        rates = [each[_RATE] for each in told]
        row = [
            _median([each.get("requests_per_second") for each in told], ",.0f"),
            _median(rates, ",.0f"),
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            *(_milliseconds(told, "latency", name) for name in ("mean", "p50", "p95", "p99")),
            str(sum(each.get("statuses", {}).get("429", 0) for each in told)),
            str(sum(each.get("errors", 0) + each.get("missing", 0) for each in told)),
            str(sum(each.get("mismatches", 0) for each in told)),
            _median([each.get("occupancy") for each in told], ".1f"),
            _median([each.get("generator_cores") for each in told], ".2f"),
        ]
        if scenario in ("open", "overload"):
            row.insert(0, _median([each["offered_per_second"] for each in told], ",.0f"))
        if scenario == "overload":
            row += [_milliseconds(told, "refused_latency", name) for name in ("p50", "p95")]
            row.append(_median([each["recovery_seconds"] for each in told], ".2f"))
            row.append(_median([each["of_peak"] for each in told], ".2f"))
        table.add_row(subject, *row)
    return table


def _milliseconds(told: list[dict[str, Any]], which: str, name: str) -> str:
    seconds = [(each.get(which) or {}).get(name) for each in told]
    return _median([None if s is None else 1000 * s for s in seconds], ",.1f")


def _median(numbers: list[float | None], form: str) -> str:
    known = [number for number in numbers if number is not None]
    return format(statistics.median(known), form) if known else "–"


if __name__ == "__main__":
    main()
