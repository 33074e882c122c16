"""What each verb of the `s2s` command takes and does."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TextIO

import tyro
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from s2s.config import (
    CorpusConfig,
    DataConfig,
    DecodeConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
    describe,
)
from s2s.console import StageBars, counting
from s2s.distributed.ports import is_loopback
from s2s.errors import BadInput
from s2s.files import new_file
from s2s.runs import interruptible

# Nothing calls home, and nothing talks beside us; read when the libraries are imported.
_OFFLINE = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"}
_SET = {
    **dict.fromkeys(_OFFLINE, "1"),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, no report of Tune's beside our own
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
_OURS = _SET.keys() - os.environ.keys()  # what the user has not set
os.environ.update({name: _SET[name] for name in _OURS})


class Verb(Protocol):
    """The parsed arguments of a verb, which do its work."""

    def run(self) -> None:
        """Do the work; raises the errors of `s2s.errors`."""


@dataclass(frozen=True)
class Prepare:
    """Turn pairs of sentences into a corpus directory."""

    source: tuple[str, ...]
    """Where the pairs are: files, directories or patterns (tab-separated, CSV, JSONL, Parquet,
    Moses pairs, TMX, gettext, also in zip and gz; a directory saved by datasets), URIs that fsspec
    reads, hub:NAME:CONFIG, or `demo` for the embedded corpus."""

    text: TextConfig
    corpus: CorpusConfig

    out: Path | None = None
    """Corpus directory to make."""

    valid_source: tuple[str, ...] = ()
    """As --source, for the part `valid`: its rows are taken as they are, and none is split off."""

    test_source: tuple[str, ...] = ()
    """As --source, for the part `test`: its rows are taken as they are, and none is split off."""

    languages: str = "en-fr"
    """Source and target language, as codes joined by a hyphen."""

    columns: tuple[str, str] | None = None
    """Names or numbers (from 1) of the columns of source and target, where they are not plain."""

    vocabularies: Path | None = None
    """Model directory whose vocabularies and text settings are taken, so that its training can go
    on with this corpus (`s2s train --init-from`)."""

    dry_run: bool = False
    """Write nothing; show how many rows each rule leaves out, with ten examples. Scratch files are
    kept beside OUT, or in the system's temporary directory."""

    tasks: int | None = None
    """Ray tasks at once. None prepares up to 64 MB in this process, and more with a task on every
    CPU."""

    restart: bool = False
    """Begin anew: drop what an earlier run has done, and replace OUT if it is there."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the tasks."""

    # Bytes of source files from which starting Ray pays.
    LARGE: ClassVar[int] = 64_000_000

    def run(self) -> None:
        """Write the corpus directory and say what is in it."""
        if any(name.startswith("hub:") for name in self._named) and _OFFLINE <= _OURS:
            os.environ.update(dict.fromkeys(_OFFLINE, "0"))  # asked for, so the network is wanted
        import datasets

        from s2s.preparation.pipeline import dry_run, prepare
        from s2s.preparation.sources import Source

        languages = self.languages.split("-")
        if len(languages) != 2 or not all(languages) or languages[0] == languages[1]:
            raise BadInput(f"--languages {self.languages}: two codes such as en-fr are expected")
        if self.out is None and not self.dry_run:
            raise BadInput("--out names the corpus directory to make (or --dry-run makes none)")
        datasets.disable_progress_bars()
        one, two = languages
        text = self.text
        if self.vocabularies is not None:
            from s2s.model.directory import read_config

            model = read_config(self.vocabularies)
            if [model.source_language, model.target_language] != languages:
                raise BadInput(f"{self.vocabularies} is no model for --languages {self.languages}")
            text = model.text
        config = DataConfig(source_language=one, target_language=two, text=text, corpus=self.corpus)
        source = Source(
            source=self.source,
            valid=self.valid_source,
            test=self.test_source,
            source_language=one,
            target_language=two,
            columns=self.columns,
        )
        with interruptible(), StageBars() as bars, self._execute(source, bars.log) as execute:
            if self.out is None or self.dry_run:
                near = None if self.out is None else self.out.resolve().parent
                _show(dry_run(source, config, bars, execute, near))
                return
            manifest = prepare(
                source, config, self.out, bars, execute,
                vocabularies=self.vocabularies and self.vocabularies.resolve(),
                restart=self.restart,
            )  # fmt: skip
            for reason, rows in manifest.drops.items():
                bars.log(f"left out {rows:,} rows: {reason}")
            bars.log(f"corpus directory: {self.out}")

    @property
    def _named(self) -> tuple[str, ...]:
        return *self.source, *self.valid_source, *self.test_source

    @contextmanager
    def _execute(self, source: Any, say: Callable[[str], None]) -> Iterator[Any]:
        """How the stages are run: here, or as Ray tasks."""
        from s2s.preparation.discovery import source_bytes
        from s2s.preparation.execution import in_process

        if self.tasks is not None and self.tasks < 1:
            raise BadInput(f"--tasks {self.tasks}: at least 1 is needed")
        if self.tasks is None and source_bytes(source) <= self.LARGE:
            yield in_process
            return
        from s2s.distributed.prepare import tasks

        with tasks(self.tasks, self.wait, say) as execute:
            yield execute


@dataclass(frozen=True)
class Inspect:
    """Tell what a corpus or model directory holds."""

    directory: Annotated[Path, tyro.conf.Positional]
    """Corpus directory or model directory."""

    html: Path | None = None
    """File to write a page with plots to, instead of printing it."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print or write the page."""
        from s2s.reports.page import as_html, as_json, show
        from s2s.reports.summary import inspect

        page = inspect(self.directory)
        if self.html is not None:
            with _opened(self.html) as file:
                file.write(as_html(page))
            _say(f"page: {self.html}")
        elif self.json:
            print(as_json(page))
        else:
            show(page, Console(highlight=False, markup=False))


@dataclass(frozen=True)
class Train:
    """Train a model on a corpus directory, on Ray."""

    corpus: Path
    """Corpus directory to train on."""

    out: Path
    """Model directory to make. Checkpoints live beside it, in OUT.run."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    workers: str = "1"
    """Ray workers that share each batch: a number, or MIN:MAX to grow and shrink with the
    cluster."""

    resize: float = 30.0
    """Seconds between two looks at whether an elastic run can grow; every growth starts all workers
    anew."""

    cpus: int = 1
    """CPUs of each worker, and so the threads that it computes with."""

    gpu: bool = False
    """Give each worker a GPU."""

    init_from: Path | None = None
    """Model directory whose weights training begins with; its model settings hold, and the corpus
    must have been prepared with its vocabularies."""

    checkpoints: str | None = None
    """Folder or URI (of an object store, say) for the checkpoints, instead of OUT.run."""

    mlflow: str | None = None
    """MLflow tracking server to tell of the run, such as http://localhost:5000."""

    profile: bool = False
    """Record some steps, and tell where their time goes; the trace is in OUT.run/profile."""

    restart: bool = False
    """Begin anew: drop the checkpoints of an earlier run, and replace OUT if it is there."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers."""

    def run(self) -> None:
        """Train and write the model directory."""
        from s2s.distributed.cluster import Workers
        from s2s.distributed.train import train

        train(
            self.corpus, self.out, self.model, self.train, self.decode,
            workers=Workers.parse(
                self.workers, cpus=self.cpus, gpu=self.gpu, wait=self.wait, resize=self.resize
            ),
            start=self.init_from, checkpoints=self.checkpoints, mlflow=self.mlflow,
            profile=self.profile, restart=self.restart,
        )  # fmt: skip


@dataclass(frozen=True)
class Tune:
    """Sweep hidden and embedding sizes on Ray Tune; OUT/best is the best model."""

    corpus: Path
    """Corpus directory to train on."""

    out: Path
    """Directory to make: sweep.json, and the model directory `best`."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    hidden_sizes: tuple[int, ...] = (64, 128, 256)
    """Values of model.hidden_size to try."""

    embedding_sizes: tuple[int, ...] = (32, 64, 128)
    """Values of model.embedding_size to try."""

    trials: int = 4
    """Combinations tried, drawn without repetition by train.seed."""

    workers: int = 1
    """Ray workers of each trial."""

    gpu: bool = False
    """Give each worker a GPU."""

    gpu_share: float = 1.0
    """Part of a GPU that is enough for a trial: with 0.25, four trials share one. Needs --gpu, and
    one worker a trial. Ray does not divide the card's memory: they must fit on it together."""

    restart: bool = False
    """Begin anew: drop an earlier sweep's trials, and replace OUT if it is there."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers of one trial."""

    def run(self) -> None:
        """Sweep, and write the best model directory."""
        from s2s.distributed.cluster import Workers
        from s2s.distributed.tune import tune

        sizes = [(h, e) for h in self.hidden_sizes for e in self.embedding_sizes]
        workers = Workers.parse(
            str(self.workers), gpu=self.gpu, share=self.gpu_share, wait=self.wait
        )
        tune(
            self.corpus, self.out, self.model, self.train, self.decode,
            sizes=sizes, trials=self.trials, workers=workers, restart=self.restart,
        )  # fmt: skip


@dataclass(frozen=True)
class Evaluate:
    """Score a model directory on a held-out part of a corpus."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model directory."""

    corpus: Path
    """Corpus directory."""

    split: Literal["train", "valid", "test"] = "valid"
    """Part of the corpus."""

    beam: int | None = None
    """Hypotheses that decoding keeps at a time, 1 for greedy. None takes the model's setting."""

    intervals: bool = False
    """Give the scores 95 % confidence intervals, from 1000 bootstrap resamples of the sentences."""

    worst: int = 10
    """Sentences shown of those with the lowest chrF."""

    output: Path | None = None
    """File to write the translations to, a line for each different source: what `s2s compare`
    reads."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print loss, accuracies, BLEU, chrF and TER, and where the model is good and bad."""
        from s2s.evaluation.evaluate import evaluate

        if self.worst < 0:
            raise BadInput(f"--worst {self.worst}: 0 or more is expected")
        # Opened first: a bad name is told before the work.
        with ExitStack() as stack:
            file = None if self.output is None else stack.enter_context(_opened(self.output))
            count = stack.enter_context(counting("translated"))
            result = evaluate(
                self.model, self.corpus, self.split, count,
                beam=self.beam, intervals=self.intervals, breakdowns=True, worst=self.worst,
                translations=True,
            )  # fmt: skip
            translations = result.pop("translations")
            if file is not None:
                file.writelines(translation + "\n" for translation in translations)
        if self.json:
            print(json.dumps(result, indent=2))
            return
        told = f"{result['pairs']:,} pairs ({result['sentences']:,} sources) of {self.split}"
        # Sentences may hold brackets: nothing is markup.
        console = Console(highlight=False, markup=False)
        console.print(self._scores(f"{self.model} on {told}", result))
        for name, rows in result["breakdowns"].items():
            _print_rows(console, f"by {name}", rows)
        _print_rows(console, "by times of the token in train", result["token_accuracies"], 4)
        for number, row in enumerate(result.get("worst", []), start=1):
            console.print(f"{number}. chrF2 {row['score']:.2f}: {row['source']}")
            console.print(f"   translation: {row['translation']}")
            for reference in row["references"]:
                console.print(f"   reference:   {reference}")

    @staticmethod
    def _scores(title: str, result: dict[str, Any]) -> Table:
        table = Table(title=title)
        for heading in ("measure", "value", "how"):
            table.add_column(
                heading, justify="right" if heading == "value" else "left", overflow="fold"
            )
        table.add_row("loss", f"{result['loss']:.4f}", "nats per real token, teacher forcing")
        table.add_row("perplexity", f"{result['perplexity']:.2f}", "of real tokens")
        table.add_row("token accuracy", f"{result['token_accuracy']:.4f}", "real tokens")
        table.add_row("padded accuracy", f"{result['padded_accuracy']:.4f}", "the Keras metric")
        for score in result["scores"]:
            value = f"{score['score']:.2f}"
            if score["low"] is not None:
                value += f" ({score['low']:.2f} to {score['high']:.2f})"
            how = f"{result['decoding']}, references {score['references']}; {score['signature']}"
            table.add_row(score["name"], value, how)
        return table


@dataclass(frozen=True)
class Compare:
    """Tell which of two systems translates better, and whether by more than chance."""

    a: Annotated[Path, tyro.conf.Positional]
    """Model directory, or a text file of translations: a line for each different source of the part
    in the order of first appearance, or for each row."""

    b: Annotated[Path, tyro.conf.Positional]
    """The same of the other system."""

    corpus: Path
    """Corpus directory."""

    split: Literal["train", "valid", "test"] = "test"
    """Part of the corpus."""

    beam: int | None = None
    """Hypotheses that models keep at a time, 1 for greedy. None takes each model's setting."""

    samples: int = 1000
    """Bootstrap resamples of the sentences; the smallest p-value is 1 / (samples + 1)."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        """Print both systems' scores, and the significance of their differences."""
        from s2s.evaluation.compare import compare

        if self.samples < 1:
            raise BadInput(f"--samples {self.samples}: at least 1 is needed")
        with counting("translated") as count:
            result = compare(
                self.a, self.b, self.corpus, self.split, count,
                beam=self.beam, samples=self.samples,
            )  # fmt: skip
        if self.json:
            print(json.dumps(result, indent=2))
            return
        console = Console(highlight=False, markup=False)
        told = f"{result['different']:,} of {result['sentences']:,} sentences of {self.split}"
        table = Table(title=f"{told} are translated differently")
        for heading in ("measure", "A", "B", "B - A", "p", "better", "how"):
            text = heading in ("measure", "better", "how")
            table.add_column(heading, justify="left" if text else "right", overflow="fold")
        for row in result["scores"]:
            values = (f"{row['a']:.2f}", f"{row['b']:.2f}", f"{row['difference']:+.2f}")
            better = row["better"].upper() if row["better"] else "neither, at p < 0.05"
            table.add_row(row["name"], *values, f"{row['p_value']:.4f}", better, row["signature"])
        console.print(f"A: {self.a}\nB: {self.b}", soft_wrap=True)
        console.print(table)


@dataclass(frozen=True)
class Report:
    """Write a page of what a model is, how it learned and how good it is."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model directory."""

    corpus: Path | None = None
    """Corpus directory to measure the model on; without it, the page shows what was measured when
    the model was trained."""

    split: Literal["valid", "test"] = "valid"
    """Part of the corpus."""

    sentence: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Sentence to translate and to show the attention of, instead of some of the corpus; may be
    given several times."""

    out: Path | None = None
    """HTML file to write; the default is the name of the model directory with `.html`, beside
    it."""

    def run(self) -> None:
        """Write the page."""
        from s2s.reports.model_report import report

        model = self.model.resolve()
        out = self.out or model.parent / f"{model.name}.html"
        with _opened(out) as file, counting("translated") as count:
            file.write(
                report(
                    self.model, corpus=self.corpus, part=self.split, sentences=self.sentence,
                    on_batch=count,
                )
            )  # fmt: skip
        _say(f"page: {out}")


@dataclass(frozen=True)
class Translate:
    """Translate a sentence, a file or standard input: a line in, a line out."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model directory."""

    sentence: Annotated[str | None, tyro.conf.Positional] = None
    """The one sentence to translate."""

    input: Path | None = None
    """File with a sentence on each line; standard input if neither this nor a sentence is given."""

    output: Path | None = None
    """File to write; standard output if not given."""

    beam: int | None = None
    """Hypotheses that the search keeps at a time, 1 for greedy. None takes the model's setting, as
    for the options below."""

    n_best: int | None = None
    """Translations of each line. More than one are written as a line each: number of the line read,
    score, translation, separated by tabs. Lines are not cut into sentences then."""

    length_penalty: float | None = None
    """Exponent of the length by which hypotheses' log-probabilities are divided."""

    unknown: Literal["mark", "copy", "avoid"] | None = None
    """What becomes of unknown words: shown as `<unk>`, the source word that was looked at, or none
    is said."""

    temperature: float | None = None
    """Draw words by chance, from logits divided by this; needs beam 1."""

    top_k: int | None = None
    """Likeliest words that are drawn from."""

    top_p: float | None = None
    """Probability of the likeliest words that are drawn from."""

    seed: int | None = None
    """Decides what is drawn."""

    precision: Literal["fp32", "bf16"] | None = None
    """What the output layer is computed in."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to translate: `auto` takes a GPU where there is one."""

    json: bool = False
    """Write a JSON object for each line: its translations with scores, words and attention. Lines
    are not cut into sentences."""

    # Lines read, translated and written at a time: memory stays flat however long the input is.
    CHUNK: ClassVar[int] = 4096

    def run(self) -> None:
        """Write the translations."""
        from s2s.decoding.translator import Translator
        from s2s.devices import find_device

        if self.sentence is not None and self.input is not None:
            raise BadInput("give a sentence or --input, not both")
        if self.input is not None and not self.input.is_file():
            raise BadInput(f"{self.input}: no such file")
        translator = Translator.load(self.model, find_device(self.device)).with_settings(
            beam=self.beam, n_best=self.n_best, length_penalty=self.length_penalty,
            unknown=self.unknown, temperature=self.temperature, top_k=self.top_k,
            top_p=self.top_p, seed=self.seed, precision=self.precision,
        )  # fmt: skip
        detailed = self.json or translator.config.decode.n_best > 1
        with _opened(self.output) as output, counting("translated") as count:
            size = 1 if self.input is None and sys.stdin.isatty() else self.CHUNK
            lines, number = self._lines(), 0
            while chunk := list(islice(lines, size)):
                if detailed:
                    for line, told in zip(chunk, translator.hypotheses(chunk), strict=True):
                        number += 1
                        output.write(self._details(number, line, told))
                    count(len(chunk))
                else:
                    output.writelines(t + "\n" for t in translator.translate(chunk, count))
                output.flush()

    def _details(self, number: int, line: str, translations: list[Any]) -> str:
        """The translations of a line, for a program to read."""
        if not self.json:
            return "".join(f"{number}\t{t.score:.4f}\t{t.text}\n" for t in translations)
        told = {"line": number, "source": line, "translations": [*map(asdict, translations)]}
        return json.dumps(told, ensure_ascii=False) + "\n"

    def _lines(self) -> Iterator[str]:
        if self.sentence is not None:
            yield self.sentence
            return
        name = "standard input" if self.input is None else str(self.input)
        try:
            file = sys.stdin.buffer if self.input is None else self.input.open("rb")
        except OSError as error:
            raise BadInput(f"{name}: {error.strerror}") from None
        with file:
            for number, line in enumerate(file, start=1):
                try:
                    yield line.decode("utf-8").strip()
                except UnicodeDecodeError:
                    raise BadInput(f"{name}: line {number} is not UTF-8") from None


@dataclass(frozen=True)
class Serve:
    """Serve model directories over HTTP, with a web page, until Ctrl-C or SIGTERM."""

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Model directories, one for each pair of languages."""

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine alone."""

    port: int = 8000
    """Port to listen on."""

    replicas: int = 1
    """Copies of the models, each in a process of its own."""

    beam: int | None = None
    """Hypotheses that the search keeps; 1 (greedy) is fastest. None: the model's own."""

    precision: Literal["fp32", "bf16"] | None = None
    """What the output layer is computed in. None: the model's own."""

    slots: int = 64
    """Sentences that a model translates at a time."""

    keys: Path | None = None
    """File of API keys, as `s2s key` makes them. Needed where others can reach the address."""

    open: bool = False
    """Answer everybody, though others can reach the address."""

    cors: tuple[str, ...] = ()
    """Origins whose pages may ask, such as https://example.org; * for any."""

    def run(self) -> None:
        """Serve in the foreground."""
        from s2s.distributed.local_serve import local_serve
        from s2s.model.directory import ModelDirectory
        from s2s.serving.http.api_keys import read_keys

        if self.replicas < 1 or not 0 < self.port < 65536:
            raise BadInput("--replicas is at least 1, and --port between 1 and 65535")
        if not self.models:
            raise BadInput("a model directory is needed")
        if not (self.keys or self.open or is_loopback(self.host)):
            raise BadInput(
                f"others can reach {self.host}: give --keys FILE (`s2s key NAME` makes its lines), "
                "or --open to answer everybody"
            )
        for model in self.models:
            ModelDirectory.load(model)  # a broken directory is told here, before a cluster starts
        if self.keys:
            read_keys(self.keys)
        with local_serve():  # before Ray is imported, which reads it then
            self._serve()

    def _serve(self) -> None:
        from s2s.distributed.serve import serve_until_stopped
        from serve_app import Arguments, build

        try:
            arguments = Arguments(
                models=[str(model.resolve()) for model in self.models],
                num_replicas=self.replicas,
                beam=self.beam,
                precision=self.precision,
                slots=self.slots,
                keys=str(self.keys.resolve()) if self.keys else None,
                open=self.keys is None,
                cors=list(self.cors),
            )
        except ValidationError as error:
            raise BadInput(describe(error)) from None
        serve_until_stopped(build(arguments), self.replicas, self.host, self.port, _say)


@dataclass(frozen=True)
class NewKey:
    """Make an API key for `s2s serve --keys FILE`.

    Prints the key, which is nowhere kept: give it to its owner. Its line is added to the file, or
    printed where there is none.
    """

    name: Annotated[str, tyro.conf.Positional]
    """Whose key it is: what you will know it by."""

    file: Path | None = None
    """Keys file to add it to."""

    per_minute: float | None = None
    """Requests a minute that it may make of each replica. None: any number."""

    def run(self) -> None:
        """Print the key and keep its hash."""
        from s2s.serving.http.api_keys import add_key, new_key

        key, line = new_key(self.name, self.per_minute)
        if self.file is None:
            print(f"{key}\n{line}")
        else:
            add_key(self.file, line)
            print(key)


VERBS: dict[str, type[Verb]] = {
    "prepare": Prepare,
    "inspect": Inspect,
    "train": Train,
    "tune": Tune,
    "evaluate": Evaluate,
    "report": Report,
    "compare": Compare,
    "translate": Translate,
    "serve": Serve,
    "key": NewKey,
}


def _show(planned: Any) -> None:
    """What a preparation would do, as a table and examples."""
    from s2s.corpus.rules import RULES

    console = Console(highlight=False)
    table = Table(title=f"{planned.rows_read:,} rows read; nothing is written")
    table.add_column("rows", justify="right")
    table.add_column("left out by", overflow="fold")
    table.add_column("because of", overflow="fold")
    for rule, count in Counter(planned.left_out.drops).most_common():
        table.add_row(f"{count:,}", rule, RULES[rule])
    for part, count in planned.split_rows.items():
        table.add_row(f"{count:,}", "", f"kept in {part}")
    console.print(table)
    for rule, examples in planned.left_out.examples.items():
        print(f"\n{rule}:")
        for source, target in examples:
            print(f"  {source}\t{target}")


def _print_rows(
    console: Console, title: str, rows: list[dict[str, Any]], decimals: int = 2
) -> None:
    """Print rows of the same keys as a table: a label, then numbers."""
    table = Table(title=title)
    for number, heading in enumerate(rows[0] if rows else ()):
        table.add_column(heading if number else "", justify="right" if number else "left")
    for row in rows:
        label, *values = row.values()
        cells = (f"{v:.{decimals}f}" if isinstance(v, float) else f"{v:,}" for v in values)
        table.add_row(label, *cells)
    console.print(table)


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that takes its name when all of it is written."""
    if path is None:
        yield sys.stdout
        return
    if path.exists() and not path.is_file():  # a device or a pipe
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    with new_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        yield file
