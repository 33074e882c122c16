"""`s2s evaluate`."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from s2s.bulk.blocks import Tally
from s2s.cli.output import opened, print_evaluation, tell_incomplete, tell_warnings
from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.console import counting
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.overrides import MODEL_OVERRIDES

_LINE_ENDS = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Evaluate(Verb):
    """Score a model on a held-out split of a corpus."""

    model: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI."""

    corpus: Location
    """Corpus directory, at a path or URI."""

    decoding: Annotated[DecodingOptions, *decoding_options(MODEL_OVERRIDES)]

    split: Literal["train", "valid", "test"] = "valid"
    """Split of the corpus."""

    checkpoint: str | None = None
    """Score a checkpoint of the run that makes MODEL: `best`, `newest` or a step."""

    intervals: bool = False
    """Add 95 % confidence intervals to the scores, from 1000 bootstrap resamples of the
    sentences."""

    worst: int = 10
    """Number of sentences to show of those with the lowest chrF."""

    output: Path | None = None
    """File to write the translations to, a line for each distinct source: what `s2s compare`
    reads."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print loss, accuracies, BLEU, chrF and TER, and where the model is good and bad."""
        from s2s.corpus import Corpus
        from s2s.evaluation.evaluate import evaluate
        from s2s.evaluation.scores import SAMPLES
        from s2s.mirrors import local_copy
        from s2s.model.directory import ModelDirectory
        from s2s.training.run_checkpoint import model_path

        if self.worst < 0:
            raise BadInput(f"--worst {self.worst}: must be 0 or more")
        # The file is opened first: a bad name is reported before the work.
        with ExitStack() as stack:
            file = None if self.output is None else stack.enter_context(opened(self.output))
            count = stack.enter_context(counting("translated"))
            path = stack.enter_context(model_path(self.model, self.checkpoint))
            model = ModelDirectory.load(path)
            decode = model.config.decode.changed(**self.decoding.settings())
            corpus = Corpus.open(local_copy(self.corpus))
            evaluation = evaluate(
                model,
                corpus,
                self.split,
                decode=decode,
                samples=SAMPLES if self.intervals else 0,
                breakdowns=True,
                worst=self.worst,
                on_batch=count,
            )
            if file is not None:
                # A source of several lines has a translation of several, but it is one of a line.
                file.writelines(
                    f"{_LINE_ENDS.sub(' ', translation)}\n"
                    for translation in evaluation.translations
                )
        if self.json:
            print(evaluation.to_json())
        else:
            print_evaluation(self.model, evaluation)
        tell_warnings(evaluation.warnings(corpus.manifest))
        incomplete = Tally()
        for place in evaluation.translations.incomplete:
            incomplete.add(place + 1)
        tell_incomplete(incomplete, decode.max_length)
