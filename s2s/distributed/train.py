"""Data-parallel training on Ray Train: Ray starts the workers, `s2s.loop` trains.

Checkpoints are the loop's own (`s2s.checkpoints`): a worker group that Ray starts anew, and a run
whose driver is gone, both go on from what they find there. Ray Train is told of none.
"""

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.execution.context import get_train_context

from s2s.bundle import Bundle, read_config, write_metrics
from s2s.checkpoints import Checkpoints
from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.distributed.board import Pin, answers, ask_to_stop, shown
from s2s.distributed.cluster import Workers, cluster, pin_address
from s2s.distributed.group import GroupKeeper, release
from s2s.distributed.metrics import RayMetrics
from s2s.errors import BadInput, Failed, Stopped
from s2s.evaluate import evaluate
from s2s.files import new_directory, write_text
from s2s.loop import Alone, Training, Wish
from s2s.profile import Profile
from s2s.progress import EpochBar
from s2s.runs import claim, held, interruptible, run_folder
from s2s.state import Epoch
from s2s.tracking import JsonLines, MLflow, Several, TensorBoard, Tracker
from s2s.workers import together

_NOTICE = 5.0  # seconds between two checkpoints while a node is about to go
_SAVING = 300.0  # seconds that a run which was asked to stop has for its checkpoint


def train(
    corpus: Path,
    out: Path,
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    *,
    workers: Workers,
    start: Path | None = None,
    checkpoints: str | None = None,
    mlflow: str | None = None,
    profile: bool = False,
    restart: bool = False,
) -> None:
    """Train on a corpus directory and make the model directory `out`.

    The run lives in `OUT.run` beside it. A run found there is gone on with, if it is the same.

    Args:
        start: model directory whose weights the run begins with.
        checkpoints: folder or URI for the checkpoints, instead of `OUT.run/checkpoints`.
        mlflow: tracking server that is told of the run.
        profile: record some steps and tell where their time goes.

    Raises:
        BadInput: the corpus is broken, `out` is there already, `OUT.run` holds another run, or the
            cluster can never hold the workers.
        Failed: training ended early by an error.
        Stopped: training was interrupted and can go on.
    """
    begin = time.perf_counter()
    opened = Corpus.open(corpus.resolve())
    if start is not None:
        model = model_of(start, opened)
    config = make_config(opened, model, settings, decode)
    run = {
        "corpus": opened.sha256,
        "config": config.model_dump(mode="json"),
        "start": start and str(start.resolve()),
        "checkpoints": checkpoints,
    }
    with interruptible(), cluster(), EpochBar() as bar:
        workers.require(bar.line)
        # A place that cannot be used is told of before anything is made or dropped.
        store = checkpoints_of(run_folder(out), config.train, checkpoints, bar.line)
        store.all()
        folder = claim(out, "model.safetensors", run, restart)
        out = out.resolve()
        with held(folder):
            if restart:
                store.clear()
            bar.line(f"checkpoints: {store.root}")
            with shown(bar, settings.epochs) as board:
                trainer = make_trainer(
                    opened.path,
                    config,
                    workers,
                    folder,
                    board=board,
                    start=start and str(start.resolve()),
                    checkpoints=checkpoints and store.root,
                    mlflow=mlflow,
                    profile=profile,
                )
                with _released(trainer, folder):
                    outcome = _fit(trainer, board, bar.line)
            if "refused" in outcome:
                if not store.all():
                    shutil.rmtree(folder, ignore_errors=True)  # the same input will fail again
                raise BadInput(outcome["refused"])
            if "failed" in outcome:
                raise Failed(outcome["failed"])
            if "stopped" in outcome:
                raise Stopped(
                    f"stopped after step {outcome['stopped']:,}, which is saved; "
                    "the same command goes on from there"
                )
            bar.line("scoring the model on valid")
            seconds = time.perf_counter() - begin
            metrics = export(store, outcome, config.train, opened.path, out, seconds, bar.line)
    scores = metrics["scores"]
    told = ", ".join(f"{s['name']} {s['score']:.2f} (references {s['references']})" for s in scores)
    bar.line(f"{metrics['weights']}: valid loss {metrics['valid']['valid_loss']:.4f}, {told}")
    bar.line(f"model directory: {out}")


def make_config(
    corpus: Corpus, model: ModelConfig, settings: TrainConfig, decode: DecodeConfig
) -> Config:
    """The config of a model: the corpus' own settings, and those of the run.

    Raises:
        BadInput: the shards of the corpus cannot be read.
    """
    for part in ("train", "valid"):
        corpus.part(part)
    return Config(**dict(corpus.manifest.config), model=model, train=settings, decode=decode)


def model_of(start: Path, corpus: Corpus) -> ModelConfig:
    """The settings of a model that training is to begin with.

    Raises:
        BadInput: it is no model directory, or the corpus was not prepared with its vocabularies.
    """
    config = read_config(start)
    for side in ("source", "target"):
        if (start / f"{side}.json").read_bytes() != (corpus.path / f"{side}.json").read_bytes():
            raise BadInput(
                f"{corpus.path} has another {side} vocabulary than {start}; "
                f"prepare the corpus with --vocabularies {start}"
            )
    return config.model


def checkpoints_of(
    folder: Path,
    settings: TrainConfig,
    place: str | None,
    say: Callable[[str], None] = lambda line: None,
    *,
    background: bool = True,
) -> Checkpoints:
    """The checkpoints of the run in a folder, as many as its settings need.

    Args:
        place: folder or URI that other runs might name, too; None for the run's own.

    Raises:
        BadInput: nothing here reads such a URI.
    """
    number = settings.average_epochs
    return Checkpoints(
        place or folder / "checkpoints",
        say,
        run=str(folder) if place else "",
        background=background,
        last=settings.keep_last,
        best=max(settings.keep_best, number if settings.average == "best" else 1),
        last_epochs=number if settings.average == "last" else 0,
    )


def make_trainer(
    corpus: Path,
    config: Config,
    workers: Workers,
    folder: Path,
    *,
    board: Any = None,
    callbacks: Sequence[Any] = (),
    max_failures: int = 10,
    **others: Any,
) -> TorchTrainer:
    """The Ray trainer of the run in `folder`.

    Args:
        max_failures: times that a group of workers is started anew when one of it has gone; that
            of preempted nodes are not counted.
        others: `start`, `checkpoints`, `mlflow` and `profile` as `train` takes them.
    """
    pin_address()
    elastic = workers.most is not None
    # What Ray keeps of a run (its own checkpoints) would only mislead a later one.
    shutil.rmtree(folder / "ray", ignore_errors=True)
    return TorchTrainer(
        _worker,
        train_loop_config={
            "corpus": str(corpus),
            "config": config.to_json(),
            "folder": str(folder),
            "threads": workers.cpus,
            "board": board,
            **others,
        },
        scaling_config=ScalingConfig(
            num_workers=(workers.number, workers.most or 0) if elastic else workers.number,
            use_gpu=workers.gpu,
            resources_per_worker=workers.each,
            elastic_resize_monitor_interval_s=workers.resize,
        ),
        torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[GroupKeeper(board, elastic=elastic), *callbacks],
        ),
    )


def export(
    checkpoints: Checkpoints,
    outcome: dict[str, Any],
    settings: TrainConfig,
    corpus: Path,
    out: Path,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make the model directory `out` of a run's checkpoints, scored on `valid`.

    Args:
        outcome: what the run's `metrics.json` says so far.
        seconds: wall time that the run took.
        say: told of checkpoints that are left out since they are damaged.

    Returns:
        What the `metrics.json` of `out` says.

    Raises:
        Failed: no checkpoint of the end of an epoch is whole.
    """
    ended = [kept for kept in checkpoints.all() if kept.valid_loss is not None]
    wanted = 1 if settings.average == "none" else settings.average_epochs
    candidates = ended[::-1] if settings.average == "last" else checkpoints.best(len(ended))
    with new_directory(out) as scratch, ExitStack() as opened:
        chosen: dict[int, Path] = {}  # by epoch
        for kept in candidates:
            if len(chosen) < wanted:
                try:
                    chosen[kept.epoch] = opened.enter_context(checkpoints.open(kept))
                except BadInput as error:
                    say(f"{error}; it is left out")
        if not chosen:
            raise Failed(f"{checkpoints.root} has no whole checkpoint of the end of an epoch")
        epochs = ", ".join(map(str, sorted(chosen)))
        Bundle.mean(list(chosen.values())).save(scratch, outcome)
        scores = evaluate(scratch, corpus, "valid")
        metrics = {
            **outcome,
            "weights": f"{'the mean' if len(chosen) > 1 else 'those'} of epoch {epochs}",
            "valid": {
                f"valid_{key}": scores[key] for key in ("loss", "token_accuracy", "padded_accuracy")
            },
            "scores": scores["scores"],
            "total_seconds": seconds,
            "versions": {**outcome["versions"], "ray": ray.__version__},
        }
        write_metrics(scratch, metrics)
    return metrics


# ---- the worker ---------------------------------------------------------------------------------


def _worker(settings: dict[str, Any]) -> dict[str, Any]:
    """The run as one of its workers: returns what `metrics.json` says, or why the run failed."""
    torch.set_num_threads(settings["threads"])
    config = Config.from_json(settings["config"], "config")
    folder, rank = Path(settings["folder"]), ray.train.get_context().get_world_rank()
    board = settings["board"] if rank == 0 else None
    host = _Host(None if board is None else Pin(board), config.train.epochs)
    start = settings.get("start")

    def track(after: int) -> Tracker:
        trackers: list[Tracker] = [
            JsonLines(folder / "metrics.jsonl", after),
            TensorBoard(folder / "tensorboard", after),
            RayMetrics(folder.name, after),
        ]
        if uri := settings.get("mlflow"):
            parameters = _flat(json.loads(config.to_json()))
            memory = folder / "mlflow-run"
            trackers.append(MLflow(uri, "s2s", folder.name, parameters, memory, host.line))
        return Several(trackers, host.line)

    profiled = settings.get("profile") and rank == 0
    profile = Profile(folder / "profile", host.line) if profiled else None
    try:
        outcome = Training(
            together(lambda: Corpus.open(Path(settings["corpus"]))),
            config,
            get_device(),
            checkpoints_of(
                folder,
                config.train,
                settings.get("checkpoints"),
                host.line,
                # A trial may be ended as soon as it has told of an epoch.
                background=settings["board"] is not None,
            ),
            folder,
            host=host,
            start=together(lambda: Bundle.load(Path(start)) if start else None),
            track=track,
            after_step=profile.step if profile else lambda: None,
        ).run()
    # All workers meet these together. Raised, they would be tried again in vain.
    except BadInput as error:
        return {"refused": str(error)}
    except Failed as error:
        return {"failed": str(error)}
    if profile is not None:
        profile.close()
    return outcome


class _Host(Alone):
    """Ray Train, as the loop sees it.

    Args:
        pin: of the first worker, where anybody looks at its board.
        epochs: of the run.
    """

    def __init__(self, pin: Pin | None, epochs: int) -> None:
        self._pin, self._epochs = pin, epochs
        self._context = get_train_context().preemption_context
        self._preempted = 0.0  # when to save next
        if pin is not None:
            self.line, self.progress = pin.line, pin.progress  # type: ignore[method-assign]
            self.saved = pin.saved  # type: ignore[method-assign]

    def epoch(self, record: Epoch) -> None:
        """Tell driver and Ray Train."""
        self.line(_told(record, self._epochs))
        ray.train.report(asdict(record))

    def wish(self) -> Wish:
        """What the driver wants; while a node is about to go, a checkpoint every few seconds."""
        wish = self._pin.wish() if self._pin is not None else Wish()
        # Every worker's own copy of the notice: the public get_preemption_info makes all workers
        # wait for each other, which the exchange of wishes in every step does anyway.
        if self._context.preemption_info is None or time.monotonic() < self._preempted:
            return wish
        self._preempted = time.monotonic() + _NOTICE
        self.line("a node is about to go: saving")
        return Wish(stop=wish.stop, save=True)


def _told(record: Epoch, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  train loss {record.train_loss:.4f}  "
        f"valid loss {record.valid_loss:.4f}  token accuracy {record.valid_token_accuracy:.4f}  "
        f"padded accuracy {record.valid_padded_accuracy:.4f}  "
        f"{record.pairs_per_second:,.0f} pairs/s  {record.seconds:.1f} s"
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


# ---- the driver ---------------------------------------------------------------------------------


def _fit(trainer: TorchTrainer, board: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a trainer to its end, or until Ctrl-C or SIGTERM, which let it save first.

    Raises:
        Failed: a worker raised an error, or went away more often than is forgiven.
        Stopped: the run was interrupted and did not save in time.
    """
    ended: list[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except BaseException as error:  # it is raised in the main thread
            ended.append(error)

    # Not in the main thread: there Ray would answer Ctrl-C itself, by ending the workers unsaved.
    thread = threading.Thread(target=fit, name="s2s-fit", daemon=True)
    asked: list[float] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: asked.append(time.monotonic()))
    try:
        thread.start()
        told = False
        while thread.is_alive():
            thread.join(0.1)
            if asked and not told:
                say("stopping: saving a checkpoint first (again to stop at once)")
                ask_to_stop(board)
                told = True
            late = bool(asked) and time.monotonic() - asked[0] > _SAVING
            if len(asked) > 1 or late or (asked and not answers(board)):
                raise Stopped(
                    "stopped without saving; the same command goes on from the last checkpoint"
                )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    [outcome] = ended
    if isinstance(outcome, ray.train.TrainingFailedError):
        failures = getattr(outcome, "worker_failures", None) or {0: outcome}
        raise Failed(f"training failed: {last_line(next(iter(failures.values())))}") from None
    if isinstance(outcome, ray.exceptions.RayError):
        raise Failed(f"training could not go on: {last_line(outcome)}") from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


@contextmanager
def _released(trainer: TorchTrainer, folder: Path) -> Iterator[None]:
    """Give back what this run, or one before it that was killed, has reserved for growing."""
    file = folder / "ray-run"
    if file.exists():
        release(file.read_text("utf-8"))
    write_text(file, trainer.train_run_context.run_id)
    try:
        yield
    finally:
        release(trainer.train_run_context.run_id)


def last_line(error: BaseException) -> str:
    """What happened, without the traceback that Ray quotes before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
