"""A training run, whoever starts its workers: options, config and checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.locations import Location, absolute, extended
from s2s.mirrors import local_copy
from s2s.model.directory import read_config
from s2s.training.checkpoints import Checkpoints
from s2s.training.trackers.choice import find_tracker


@dataclass(frozen=True)
class Watch:
    """How a run is watched, which changes no weight: a resumed run may be watched otherwise."""

    track: tuple[str, ...] = ("tensorboard",)  # as `trackers.choice.find_tracker` takes each
    samples: int = 4  # sentences of `valid` that are translated after each epoch, for the trackers
    print_samples: bool = False  # show them to the user, too
    bleu_every: int | None = None  # epochs between two scores of translations of all of `valid`

    def check(self) -> None:
        """Check the trackers and numbers.

        Raises:
            BadInput: there is no such tracker, or a number is out of range.
        """
        for name in self.track:
            find_tracker(name)
        if self.samples < 0:
            raise BadInput(f"--samples {self.samples}: at least 0 is needed")
        if self.bleu_every is not None and self.bleu_every < 1:
            raise BadInput(f"--bleu-every {self.bleu_every}: at least 1 is needed")


@dataclass(frozen=True)
class TrainOptions:
    """What a run begins with, and where it is stored."""

    init_from: Location | None = None  # model directory whose weights the run begins with
    checkpoints: str | None = None  # folder or URI, instead of the run folder's own
    watch: Watch = Watch()
    profile: bool = False  # record some steps and log where their time goes
    restart: bool = False  # drop what an earlier run has left


def run_config(
    corpus: Corpus, model: ModelConfig, settings: TrainConfig, decode: DecodeConfig
) -> Config:
    """Return the config of a model that is trained on a corpus.

    Raises:
        BadInput: the shards of the corpus cannot be read.
    """
    for split in ("train", "valid"):
        corpus.split(split)
    if decode.split_sentences is None and corpus.manifest.of_passages:
        decode = decode.changed(split_sentences=False)
    return Config(**dict(corpus.manifest.config), model=model, train=settings, decode=decode)


def initial_model_config(init_from: Location, corpus: Corpus) -> ModelConfig:
    """Return the settings of the model that training begins with.

    Raises:
        BadInput: it is not a model directory, or the corpus was not prepared with its vocabularies.
    """
    path = local_copy(init_from)
    config = read_config(path)
    for side in ("source", "target"):
        if (path / f"{side}.json").read_bytes() != (corpus.path / f"{side}.json").read_bytes():
            raise BadInput(
                f"{corpus.path} has another {side} vocabulary than {init_from}; "
                f"prepare the corpus with --vocabularies {init_from}"
            )
    return config.model


def run_checkpoints(
    folder: str | Path,
    settings: TrainConfig,
    root: str | None = None,
    log: Callable[[str], None] = lambda line: None,
    *,
    background: bool = True,
) -> Checkpoints:
    """Return the checkpoints of the run in a folder, which keeps as many as its settings need.

    Args:
        folder: path or URI of the run folder.
        root: folder or URI that other runs might name, too; None for the run's own.
        background: see `Checkpoints`.

    Raises:
        BadInput: nothing here reads such a URI.
    """
    number = settings.average_epochs
    return Checkpoints(
        root or extended(absolute(folder), "/checkpoints"),
        log,
        run=str(folder) if root else "",
        background=background,
        last=settings.keep_last,
        best=max(settings.keep_best, number if settings.average == "best" else 1),
        last_epochs=number if settings.average == "last" else 0,
    )
