"""`s2s evaluate`."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from s2s.cli.output import opened, print_evaluation
from s2s.cli.verb import DecodingOptions, decoding_options
from s2s.console import counting
from s2s.errors import BadInput


@dataclass(frozen=True)
class Evaluate:
    """Score a model on a held-out split of a corpus."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model directory."""

    corpus: Path
    """Corpus directory."""

    decoding: Annotated[DecodingOptions, decoding_options("beam")]

    split: Literal["train", "valid", "test"] = "valid"
    """Split of the corpus."""

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
        from s2s.evaluation.evaluate import evaluate

        if self.worst < 0:
            raise BadInput(f"--worst {self.worst}: must be 0 or more")
        # Opened first: a bad name is reported before the work.
        with ExitStack() as stack:
            file = None if self.output is None else stack.enter_context(opened(self.output))
            count = stack.enter_context(counting("translated"))
            result = evaluate(
                self.model,
                self.corpus,
                self.split,
                count,
                beam=self.decoding.settings().get("beam"),  # type: ignore[arg-type]
                intervals=self.intervals,
                breakdowns=True,
                worst=self.worst,
                translations=True,
            )
            translations = result.pop("translations")
            if file is not None:
                file.writelines(translation + "\n" for translation in translations)
        if self.json:
            print(json.dumps(result, indent=2))
        else:
            print_evaluation(f"{self.model}", result)
