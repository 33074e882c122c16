"""Speed of `s2s serve`, beside other ways to serve the same model over HTTP.

`python -m benchmarks.serve --model MODEL --sentences FILE` measures, in interleaved rounds,

- `ours`: `s2s serve`, the slot engine on Ray Serve behind HAProxy and in throughput mode;
- `ours-fast`: the same with `--precision int8`, and with `--shortlist` where this benchmark has it;
- `before`: `s2s serve` of another checkout of this repository (`--before`), such as an older one;
- `batch`: the same model behind `@serve.batch`, with the same Serve settings;
- `batch-plain`: `batch` without HAProxy and throughput mode;
- `batch-default`: `batch-plain` with the defaults of `@serve.batch` and `max_ongoing_requests`;
- `alone`: a deployment that translates every request separately;
- `echo`: a deployment that returns the text, with the same Serve settings;
- `uvicorn`: the app and engine of `s2s serve`, without Ray;
- `in-process`: `Translator.translate` of all sentences in one call, without a server.

All of them translate greedily, with the same number of torch threads (`--threads`); with `--beam`,
the first three search with beams.
`benchmarks/servers.py` has the servers, `benchmarks/load.py` the load generator. One server runs at
a time, started and ended for each of its measurements: an idle Ray cluster uses part of a core,
which on a small machine would slow down the server that is measured. The order of the servers is
reversed every round. The scenarios are

- `closed`: a fixed number of connections, each with one sentence in flight;
- `lists`: the same with lists of 64 sentences and fewer connections;
- `ramp`: closed loops of 4 to 256 connections, to find the number of requests that saturates a
  replica;
- `open`: random arrivals at a fraction of the lowest peak of `ours`, `before` and `batch`, at the
  same rate for all servers, so that their latencies can be compared; these count from the time at
  which a request was due;
- `overload`: arrivals at a multiple of the server's own peak, and the time afterwards until the
  server answers a single request as fast as an idle one (within five times its median). The peak,
  to which the column `of peak` refers, is the mean of a closed loop just before and one just after.

`open` and `overload` follow when all rounds of the other scenarios are done and the peaks are
known. Sentences are sent in shuffled order, each once before the first is sent again. Rates count
the responses of status 200 during the measurement; every translation is compared with that of
`Translator.translate`. The load comes from the same machine and shares its cores with the server;
the column `generator` has the number of cores that the load took. The column `slots` has the mean
number of occupied slots, by the engine's own counts. Machines are noisy: compare figures within one
run only.
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
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.decode import read_lines
from benchmarks.load import Load
from benchmarks.server_process import ROUTING_DELAY, started
from benchmarks.train import cpu_name
from s2s.distributed.ports import free_port

OURS = ("ours", "ours-fast", "before")
SERVERS = (*OURS, "batch", "batch-plain", "batch-default", "alone", "echo", "uvicorn")
SUBJECTS = (*SERVERS, "in-process")
USUAL_SUBJECTS = [name for name in SUBJECTS if name not in ("ours-fast", "before")]
SCENARIOS = ("closed", "lists", "ramp", "open", "overload")
RAMP = (4, 8, 16, 32, 64, 128, 256)  # connections
PEAKS = ("ours", "before", "batch")  # the lowest of theirs is that of open loops
OPEN = (*OURS, "batch", "uvicorn")  # the only subjects of open loops and overload
LIST_SIZE = 64  # sentences of a request in `lists`
METRICS_DELAY = 14.0  # seconds until Ray's metrics are up to date
_PEAK = "requests_per_second"  # of a closed loop
CONSOLE = Console(width=190)
NOTES = Console(stderr=True)


@dataclass(frozen=True)
class Server:
    """Running server, and where to reach it."""

    subject: str
    port: int
    folder: Path  # for the files of its Ray cluster, if it has one


@dataclass(frozen=True)
class Result:
    """Measurement of one subject in one scenario and round."""

    model: str
    subject: str
    scenario: str
    round: int
    measured: dict[str, Any] = field(hash=False)  # what `benchmarks.load` printed


def main() -> None:
    """Measure all models and print tables; write the JSON file, if there is to be one."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the servers, too
    results: list[Result] = []
    about = {
        "cpu": cpu_name(),
        "date": str(date.today()),
        "command": " ".join(sys.argv[1:]),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "ray", "fastapi", "uvicorn")},
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for model in arguments.model:
            bench = Bench(arguments, model.resolve(), Path(folder))
            bench.measure()
            results += bench.results
    ratios = [each for model in arguments.model for each in _ratios(results, str(model.resolve()))]
    _show(about, results, ratios)
    if arguments.json:
        rows = [
            {"model": r.model, "subject": r.subject, "scenario": r.scenario, "round": r.round,
             "told": r.measured}
            for r in results
        ]  # fmt: skip
        arguments.json.write_text(
            json.dumps({**about, "results": rows, "ratios": ratios}, indent=1)
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, nargs="+", required=True, help="model directories, measured in turn")
    add("--sentences", type=Path, required=True, help="a sentence a line; may be .gz")
    add("--rounds", type=int, default=3, help="interleaved rounds")
    add("--seconds", type=float, default=15, help="duration of a measurement")
    add("--warm-up", type=float, default=3, help="seconds of load before a measurement")
    scenarios = [name for name in SCENARIOS if name != "ramp"]
    add("--scenarios", nargs="+", choices=SCENARIOS, default=scenarios)
    add("--subjects", nargs="+", choices=SUBJECTS, default=USUAL_SUBJECTS)
    add("--beam", type=int, default=1, help="beam of `ours`, `ours-fast` and `before`")
    add("--shortlist", type=int, help="of `ours-fast`, which then needs `s2s shortlist`")
    add("--before", type=Path, help="checkout that `before` serves from")
    add("--connections", type=int, default=64, help="connections of closed loops")
    add("--list-connections", type=int, default=8, help="connections of closed loops with lists")
    add(
        "--most-connections",
        type=int,
        default=4096,
        help="greatest number of connections of open loops",
    )
    add("--share", type=float, default=0.6, help="rate of open loops, as a fraction of the peak")
    add("--rate", type=float, help="rate of open loops in requests/s, instead of --share")
    add("--overload", type=float, default=3, help="rate of overload, as a multiple of the peak")
    add("--batch-size", type=int, default=64, help="max_batch_size of serve.batch, in requests")
    add("--batch-wait", type=float, default=0.005, help="batch_wait_timeout_s of serve.batch")
    add("--threads", type=int, default=1, help="torch threads; Serve gives a replica one")
    add("--json", type=Path, help="file for all measurements")
    arguments = parser.parse_args()
    if ("before" in arguments.subjects) != bool(arguments.before):
        parser.error("the subject `before` and --before go together")
    if "open" in arguments.scenarios and "closed" not in arguments.scenarios:
        if not arguments.rate:
            parser.error("`open` without `closed` needs --rate")
    elif not {*PEAKS} & {*arguments.subjects} and not arguments.rate:
        arguments.scenarios = [s for s in arguments.scenarios if s != "open"]
    return arguments


class Bench:
    """Measurements of a model.

    Args:
        folder: for the files that servers write.
    """

    def __init__(self, arguments: argparse.Namespace, model: Path, folder: Path) -> None:
        self._arguments, self._model, self._folder = arguments, model, folder
        self.results: list[Result] = []
        sentences = [line for line in read_lines(arguments.sentences) if line.strip()]
        random.Random(0).shuffle(sentences)  # noqa: S311
        self._sentences = sentences
        beam = arguments.beam
        self._translations, self._languages = expected_translations(model, sentences, beam)
        self._fast_translations = self._translations
        if "ours-fast" in arguments.subjects:
            self._fast_translations, _ = expected_translations(
                model, sentences, beam, "int8", arguments.shortlist
            )

    def measure(self) -> None:
        """Measure all rounds: first the closed loops, which give the peaks, then the open loops."""
        arguments = self._arguments
        closed_loops = [name for name in ("closed", "lists") if name in arguments.scenarios]
        if "ramp" in arguments.scenarios:
            closed_loops += [f"ramp {connections}" for connections in RAMP]
        open_loops = [name for name in ("open", "overload") if name in arguments.scenarios]
        for scenarios, subjects in (
            (closed_loops, arguments.subjects),
            (open_loops, [name for name in arguments.subjects if name in OPEN]),
        ):
            for turn in range(arguments.rounds if scenarios else 0):
                for subject in subjects if turn % 2 == 0 else subjects[::-1]:
                    self._measure_one(subject, scenarios, turn)

    def _measure_one(self, subject: str, scenarios: list[str], turn: int) -> None:
        if subject == "in-process":
            self._add(subject, "lists", turn, {"sentences_per_second": self._in_process()})
            return
        with self._serve(subject) as server:
            counts: dict[str, float] = {}
            for scenario in scenarios:
                if scenario == "overload":
                    measured = self._overload(server, turn)
                else:
                    measured = generate_load(self._load(server, scenario, turn))
                if subject in (*OURS, "uvicorn"):
                    before, counts = counts, _counts(server)
                    measured["occupancy"] = _occupancy(before, counts)
                self._add(subject, scenario, turn, measured)

    def _overload(self, server: Server, turn: int) -> dict[str, Any]:
        """Measure overload between two closed loops, which give the server's peak at that time."""
        before = generate_load(self._load(server, "closed", turn))[_PEAK]
        rate = self._arguments.overload * before
        measured = generate_load(self._load(server, "overload", turn, rate))
        after = generate_load(self._load(server, "closed", turn))[_PEAK]
        return {**measured, "of_peak": 2 * measured[_PEAK] / (before + after)}

    def _add(self, subject: str, scenario: str, turn: int, measured: dict[str, Any]) -> None:
        self.results.append(Result(str(self._model), subject, scenario, turn, measured))
        NOTES.print(
            f"round {turn + 1}, {subject}, {scenario}: {measured['sentences_per_second']:,.0f} "
            f"sentences/s, {measured.get('statuses', '')}",
            highlight=False,
        )

    def _load(self, server: Server, scenario: str, turn: int, rate: float = 0.0) -> Load:
        arguments = self._arguments
        expected = {"echo": self._sentences, "ours-fast": self._fast_translations}
        if scenario == "open":
            rate = arguments.rate or arguments.share * min(
                self._peak(name) for name in PEAKS if name in arguments.subjects
            )
        connections = arguments.list_connections if scenario == "lists" else arguments.connections
        if scenario.startswith("ramp"):
            connections = int(scenario.split()[1])
        return Load(
            port=server.port,
            kind=scenario if scenario in ("open", "overload") else "closed",
            texts=self._sentences,
            translations=expected.get(server.subject, self._translations),
            languages=self._languages,
            list_size=LIST_SIZE if scenario == "lists" else 0,
            connections=connections,
            max_connections=arguments.most_connections,
            rate=rate,
            warm_up=arguments.warm_up,
            seconds=arguments.seconds,
            seed=turn,
        )

    def _peak(self, subject: str) -> float:
        """Return the requests/s of a server's closed loops, the median of the rounds."""
        return statistics.median(
            result.measured[_PEAK]
            for result in self.results
            if (result.subject, result.scenario) == (subject, "closed")
        )

    def _in_process(self) -> float:
        """Return the sentences/s of a translator in a separate process, without a server."""
        file = self._folder / "sentences"
        file.write_text("".join(line + "\n" for line in self._sentences), "utf-8")
        command = [sys.executable, "-m", "benchmarks.servers", "in-process", "--model", self._model]
        command += ["--sentences", file, "--seconds", str(self._arguments.seconds)]
        done = subprocess.run(
            command, env=self._environment(self._folder), stdout=subprocess.PIPE, check=True
        )
        return float(done.stdout)

    def _environment(self, folder: Path, checkout: Path | None = None) -> dict[str, str]:
        cluster = ("RAY_ADDRESS", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_ENABLE_HA_PROXY")
        environment = {name: value for name, value in os.environ.items() if name not in cluster}
        return {
            **environment,
            "OMP_NUM_THREADS": str(self._arguments.threads),
            "RAY_TMPDIR": str(folder),  # so that its metrics can be found
            # By default all clusters of a host use the same ports, and get each other's requests.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
            "RAY_USAGE_STATS_ENABLED": "0",
            **({} if checkout is None else {"PYTHONPATH": str(checkout)}),
        }

    @contextmanager
    def _serve(self, subject: str) -> Iterator[Server]:
        """Start a server in a separate process, and end it with the block."""
        port, arguments = free_port(), self._arguments
        if subject in OURS:
            command = ["-m", "s2s.cli", "serve", str(self._model)]
            command += ["--port", str(port), "--beam", str(arguments.beam)]
            if subject == "ours-fast":
                command += ["--precision", "int8"]
                command += ["--shortlist", str(arguments.shortlist)] if arguments.shortlist else []
        else:
            command = ["-m", "benchmarks.servers", subject]
            command += ["--model", str(self._model), "--port", str(port)]
            command += ["--size", str(arguments.batch_size), "--wait", str(arguments.batch_wait)]
        source, target = self._languages
        fields = {"q": self._sentences[0], "source": source, "target": target}
        request = httpx.Request("POST", f"http://127.0.0.1:{port}/translate", json=fields)
        checkout = arguments.before.resolve() if subject == "before" else None
        with (
            tempfile.TemporaryDirectory(dir=self._folder) as folder,
            started(
                subject, command, self._environment(Path(folder), checkout), checkout
            ) as server,
        ):
            server.wait_for_answer(request)
            time.sleep(0 if subject == "uvicorn" else ROUTING_DELAY)
            yield Server(subject, port, Path(folder))


def expected_translations(
    model: Path,
    sentences: list[str],
    beam: int = 1,
    precision: str = "fp32",
    shortlist: int | None = None,
) -> tuple[list[str], list[str]]:
    """Return the translations of sentences, and the source and target language."""
    from s2s.decoding.translator import Translator

    translator = Translator.load(model).with_settings(
        beam=beam, precision=precision, shortlist=shortlist
    )
    config = translator.config
    return list(translator.translate(sentences)), [config.source_language, config.target_language]


def generate_load(load: Load) -> dict[str, Any]:
    """Run `benchmarks.load` in a separate process; return its measurements, and the load's rate."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return {**measured, "rate": load.rate}


# ---- occupancy ----------------------------------------------------------------------------------


def _counts(server: Server) -> dict[str, float]:
    """Return the decoder steps and the sum of occupied slots since a server's start.

    Either count is missing if the server does not export it.
    """
    if server.subject == "uvicorn":
        totals: dict[str, float] = json.loads(_get(f"http://127.0.0.1:{server.port}/counts"))
        return totals
    time.sleep(METRICS_DELAY)
    counts: dict[str, float] = {}
    for file in server.folder.glob("ray/session_latest/prom_metrics_service_discovery.json"):
        for address in {a for each in json.loads(file.read_text()) for a in each["targets"]}:
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
    """Return the mean number of occupied slots between two counts, warm-up included."""
    steps = after.get("steps", 0) - before.get("steps", 0)
    occupied = after.get("taken_slots", 0) - before.get("taken_slots", 0)
    return occupied / steps if steps else None


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310
        text: str = page.read().decode()
        return text


# ---- ratios and tables --------------------------------------------------------------------------

# Scenario, the two subjects and the figure of each ratio.
_RATE, _MEAN, _P99 = "sentences_per_second", "mean", "p99"
_COMPARED = [
    ("closed", "ours", "echo", _RATE),
    ("closed", "ours-fast", "echo", _RATE),
    ("closed", "before", "echo", _RATE),
    ("closed", "ours", "before", _RATE),
    ("closed", "ours-fast", "before", _RATE),
    ("closed", "ours", "batch", _RATE),
    ("closed", "ours", "batch-plain", _RATE),
    ("closed", "ours", "batch-default", _RATE),
    ("closed", "ours", "alone", _RATE),
    ("closed", "ours", "uvicorn", _RATE),
    ("lists", "ours", "in-process", _RATE),
    ("lists", "uvicorn", "in-process", _RATE),
    ("lists", "ours", "batch", _RATE),
    ("lists", "ours", "before", _RATE),
    *(
        ("open", each, "before", figure)
        for each in ("ours", "ours-fast")
        for figure in (_MEAN, _P99)
    ),
    ("open", "ours", "batch", _MEAN),
    ("open", "ours", "batch", _P99),
]


def _ratios(results: list[Result], model: str) -> list[dict[str, Any]]:
    """Return the ratios of figures of two subjects: of each round, and their median."""
    measured = {(r.scenario, r.subject, r.round): r.measured for r in results if r.model == model}
    rounds = sorted({result.round for result in results})
    ratios = []
    for scenario, one, other, figure in _COMPARED:
        pairs = [
            (measured.get((scenario, one, n)), measured.get((scenario, other, n))) for n in rounds
        ]
        each = [_figure(a, figure) / _figure(b, figure) for a, b in pairs if a and b]
        if each:
            median = statistics.median(each)
            ratios.append(
                {"model": model, "scenario": scenario, "of": one, "over": other, "what": figure}
                | {"median": median, "rounds": each}
            )
    return ratios


def _figure(measured: dict[str, Any], name: str) -> float:
    """Return a measurement by name, one of latency included; NaN if it is missing."""
    if name in measured:
        return float(measured[name])
    return float((measured["latency"] or {}).get(name, float("nan")))


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
    table = Table(title="ratios by round")
    for name in ("model", "scenario", "ratio", "median", "lowest to highest"):
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
    names += ["429", "errors", "wrong", "slots", "generator"]
    if scenario in ("open", "overload"):
        names.insert(0, "offered/s")
    if scenario == "overload":
        names += ["429: p50", "p95, ms", "recovery, s", "of peak"]
    for name in names:
        table.add_column(name, justify="right")
    for subject in dict.fromkeys(result.subject for result in results):
        measured = [result.measured for result in results if result.subject == subject]
        rates = [each[_RATE] for each in measured]
        row = [
            _median([each.get("requests_per_second") for each in measured], ",.0f"),
            _median(rates, ",.0f"),
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            *(_milliseconds(measured, "latency", name) for name in ("mean", "p50", "p95", "p99")),
            str(sum(each.get("statuses", {}).get("429", 0) for each in measured)),
            str(sum(each.get("errors", 0) + each.get("missing", 0) for each in measured)),
            str(sum(each.get("mismatches", 0) for each in measured)),
            _median([each.get("occupancy") for each in measured], ".1f"),
            _median([each.get("generator_cores") for each in measured], ".2f"),
        ]
        if scenario in ("open", "overload"):
            row.insert(0, _median([each["offered_per_second"] for each in measured], ",.0f"))
        if scenario == "overload":
            row += [_milliseconds(measured, "refused_latency", name) for name in ("p50", "p95")]
            row.append(_median([each["recovery_seconds"] for each in measured], ".2f"))
            row.append(_median([each["of_peak"] for each in measured], ".2f"))
        table.add_row(subject, *row)
    return table


def _milliseconds(measured: list[dict[str, Any]], latency: str, name: str) -> str:
    seconds = [(each.get(latency) or {}).get(name) for each in measured]
    return _median([None if s is None else 1000 * s for s in seconds], ",.1f")


def _median(numbers: list[float | None], form: str) -> str:
    known = [number for number in numbers if number is not None]
    return format(statistics.median(known), form) if known else "–"


if __name__ == "__main__":
    main()
