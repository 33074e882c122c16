"""The model directory of a run, made of its checkpoints."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from s2s.config import TrainConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput, Failed
from s2s.evaluation.evaluate import evaluate
from s2s.files import new_directory
from s2s.model.directory import ModelDirectory, write_metrics
from s2s.model.metrics import RunMetrics, ValidScores
from s2s.training.checkpoints import Checkpoints


def export(
    checkpoints: Checkpoints,
    run_metrics: RunMetrics,
    settings: TrainConfig,
    corpus: Path,
    out: Path,
    seconds: float,
    *,
    versions: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> RunMetrics:
    """Make the model directory `out` of a run's checkpoints, scored on `valid`.

    Args:
        run_metrics: what the run's `metrics.json` says so far.
        seconds: wall time that the run took.
        versions: of what ran the run's workers, besides those in `run_metrics`.
        log: called with a line for each checkpoint that is left out as it is damaged.

    Returns:
        The metrics of `out`.

    Raises:
        Failed: no checkpoint of the end of an epoch is whole.
    """
    with new_directory(out) as scratch, _chosen(checkpoints, settings, log) as chosen:
        epochs = ", ".join(map(str, sorted(chosen)))
        averaged = len(chosen) > 1
        ModelDirectory.mean(list(chosen.values())).save(scratch, run_metrics)
        model = ModelDirectory.load(scratch)
        # There is no shortlist before there is a model.
        decode = model.config.decode.model_copy(update={"shortlist": None})
        evaluation = evaluate(model, Corpus.open(corpus), "valid", decode=decode)
        metrics = run_metrics.model_copy(
            update={
                "weights": f"the mean of epochs {epochs}" if averaged else f"of epoch {epochs}",
                "valid": ValidScores(
                    valid_loss=evaluation.loss,
                    valid_token_accuracy=evaluation.token_accuracy,
                    valid_padded_accuracy=evaluation.padded_accuracy,
                ),
                "decoding": evaluation.decoding,
                "scores": evaluation.scores,
                "total_seconds": seconds,
                "versions": {**run_metrics.versions, **(versions or {})},
            }
        )
        write_metrics(scratch, metrics)
    return metrics


@contextmanager
def _chosen(
    checkpoints: Checkpoints, settings: TrainConfig, log: Callable[[str], None]
) -> Iterator[dict[int, Path]]:
    """Yield the checkpoints to average, as model directories by epoch.

    Raises:
        Failed: none is whole.
    """
    ended = [kept for kept in checkpoints.all() if kept.valid_loss is not None]
    wanted = 1 if settings.average == "none" else settings.average_epochs
    candidates = ended[::-1] if settings.average == "last" else checkpoints.best(len(ended))
    chosen: dict[int, Path] = {}
    with ExitStack() as opened:
        for kept in candidates:
            if len(chosen) < wanted:
                try:
                    chosen[kept.epoch] = opened.enter_context(checkpoints.open(kept))
                except BadInput as error:
                    log(f"{error}; it is left out")
        if not chosen:
            raise Failed(f"{checkpoints.root} has no whole checkpoint of the end of an epoch")
        yield chosen
