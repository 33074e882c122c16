"""The Python interface: what the verbs of the `s2s` command do, as functions.

Settings have the names of the command line's options, with underscores: `{"train.epochs": 3}` is
`--train.epochs 3`. Directories are at paths, or at URIs of object stores. The functions run in this
process, and print the lines that the command prints unless they are `quiet`. Errors are exceptions
of `s2s.errors`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2s.config import Config, DecodeConfig
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.presets import PRESETS
from s2s.settings import Settings, changed, require_known
from s2s.suggestions import did_you_mean

if TYPE_CHECKING:
    from s2s.corpus import Corpus
    from s2s.decoding.translator import Translator
    from s2s.evaluation.evaluate import Evaluation
    from s2s.training.train import TrainedModel


def load(
    model: str | Path, device: str = "cpu", *, checkpoint: str | int | None = None
) -> "Translator":
    """Return the translator of a model directory.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        checkpoint: `best`, `newest` or a step, of the run that makes `model`.

    Raises:
        BadInput: `model` is not a complete model directory, or there is no such device.
    """
    from s2s.decoding.translator import Translator
    from s2s.devices import find_device
    from s2s.training.run_checkpoint import model_path

    with model_path(model, None if checkpoint is None else str(checkpoint)) as path:
        return Translator.load(path, find_device(device))


def prepare(
    source: str | Path | list[str | Path],
    out: str | Path,
    languages: str | tuple[str, str] | None = None,
    preset: str = "base",
    settings: Settings | None = None,
    *,
    columns: tuple[str | int, str | int] | None = None,
    restart: bool = False,
    quiet: bool = False,
) -> "Corpus":
    """Make a corpus directory of sentence pairs, as `s2s prepare` does, and return it.

    Args:
        source: files, directories or patterns of pairs, or `demo` for the embedded corpus.
        out: corpus directory to create.
        languages: codes of the source and target language, such as `en-fr`; None if the source
            states them.
        preset: `seed`, `demo`, `base` or `multi30k`, whose settings apply but for `settings`.
        settings: of `text` and `corpus`, such as `{"corpus.rows": 1000}`.
        columns: names or numbers (from 1) of the columns, if they cannot be told from the file.
        restart: start over, and replace `out` if it exists.
        quiet: print nothing.

    Raises:
        BadInput: a source cannot be used, a setting is wrong, or `out` exists.
        Stopped: Ctrl-C was pressed; the same call resumes.
    """
    from s2s.cli.prepare import Prepare
    from s2s.corpus import Corpus
    from s2s.mirrors import local_copy

    config = configured(preset, settings, ("text", "corpus"))
    names = [source] if isinstance(source, str | Path) else source
    verb = Prepare(
        source=tuple(map(str, names)),
        text=config.text,
        corpus=config.corpus,
        out=Location(str(out)),
        languages=languages if isinstance(languages, str | None) else ":".join(languages),
        columns=None if columns is None else (str(columns[0]), str(columns[1])),
        restart=restart,
        given=frozenset(name.replace("_", "-") for name in settings or ()),
        preset=preset,
    )
    verb.carry_out(in_process=True, quiet=quiet)
    return Corpus.open(local_copy(out))


def train(
    corpus: "str | Path | Corpus",
    out: str | Path,
    preset: str = "base",
    settings: Settings | None = None,
    *,
    init_from: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    track: str | Sequence[str] = ("tensorboard",),
    samples: int = 4,
    print_samples: bool = False,
    bleu_every: int | None = None,
    restart: bool = False,
    quiet: bool = False,
) -> "TrainedModel":
    """Train a model in this process, as `s2s train` does without `--workers`.

    The run is in the folder `OUT.run`: the same call resumes a run that was interrupted.

    Args:
        corpus: corpus directory.
        out: model directory to create.
        preset: as for `prepare`.
        settings: of `model`, `train` and `decode`, such as `{"train.epochs": 3}`.
        init_from: model directory whose weights to start from.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        threads: to compute with; None takes all CPUs of this process.
        track: trackers to record the run with: `tensorboard`, `wandb` or `wandb:PROJECT`,
            `mlflow:URI`, or the path of a class as `package.module:Class`.
        samples: sentences of `valid` to translate after each epoch, for the trackers.
        print_samples: print these translations, too.
        bleu_every: epochs between two BLEU scores of translations of `valid`; None scores the
            finished model only.
        restart: start over, and replace `out` if it exists.
        quiet: print nothing.

    Returns:
        The path of the model directory and its metrics.

    Raises:
        BadInput: the corpus or a setting cannot be used, or `out` exists.
        Failed: training ended early by an error.
        Stopped: Ctrl-C was pressed; the same call resumes.
    """
    from s2s.cli.train import Train
    from s2s.training.train import train_in_process

    config = configured(preset, settings, ("model", "train", "decode"))
    verb = Train(
        corpus=Location(str(corpus if isinstance(corpus, str | Path) else corpus.path)),
        out=Location(str(out)),
        model=config.model,
        train=config.train,
        decode=config.decode,
        cpus=threads,
        init_from=None if init_from is None else Location(str(init_from)),
        track=(track,) if isinstance(track, str) else tuple(track),
        samples=samples,
        print_samples=print_samples,
        bleu_every=bleu_every,
        restart=restart,
        preset=preset,
    )
    return train_in_process(verb.plan(), device, threads, quiet=quiet)


def evaluate(
    model: "str | Path | Translator",
    corpus: "str | Path | Corpus",
    split: str = "valid",
    settings: Settings | None = None,
    *,
    intervals: bool = False,
) -> "Evaluation":
    """Score a model on a held-out split, as `s2s evaluate` does.

    Args:
        model: model directory, or its translator.
        settings: of decoding, such as `{"beam": 5}`.
        intervals: add 95 % confidence intervals to the scores.

    Raises:
        BadInput: the model or the corpus cannot be used, or has no such split.
    """
    from s2s.corpus import Corpus
    from s2s.evaluation.evaluate import evaluate
    from s2s.evaluation.scores import SAMPLES
    from s2s.mirrors import local_copy
    from s2s.model.directory import ModelDirectory

    if isinstance(model, str | Path):
        directory = ModelDirectory.load(local_copy(model))
        decode = directory.config.decode
    else:
        directory, decode = model.directory, model.config.decode
    opened = Corpus.open(local_copy(corpus)) if isinstance(corpus, str | Path) else corpus
    if settings:
        require_known(settings, set(DecodeConfig.model_fields))
        decode = decode.changed(**settings)
    return evaluate(directory, opened, split, decode=decode, samples=SAMPLES if intervals else 0)


def configured(preset: str, settings: Settings | None, sections: tuple[str, ...]) -> Config:
    """Return a preset with some settings changed.

    Args:
        settings: by dotted names.
        sections: those to which the settings may belong.

    Raises:
        BadInput: there is no such preset or setting, or a value is out of range.
    """
    if preset not in PRESETS:
        raise BadInput(f"unknown preset {preset!r}{did_you_mean(preset, PRESETS)}")
    return changed(PRESETS[preset](), settings or {}, sections)
