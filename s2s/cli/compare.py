"""`s2s compare`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from s2s.cli.output import print_comparison, tell_warnings
from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.console import counting
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.overrides import MODEL_OVERRIDES


@dataclass(frozen=True)
class Compare(Verb):
    """Tell which of two systems translates better, and whether by more than chance."""

    a: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI, or a text file of translations: a line for each distinct
    source of the split in the order of first appearance, for each row, or for each row of your own
    held-out file."""

    b: Annotated[Location, tyro.conf.Positional]
    """The same for the other system."""

    corpus: Location
    """Corpus directory, at a path or URI."""

    decoding: Annotated[DecodingOptions, *decoding_options(MODEL_OVERRIDES)]

    split: Literal["train", "valid", "test"] = "test"
    """Split of the corpus."""

    samples: int = 1000
    """Bootstrap resamples of the sentences; the smallest p-value is 1 / (samples + 1)."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        """Print the scores of both systems, and the significance of their differences."""
        from s2s.corpus import Corpus
        from s2s.evaluation.compare import compare, open_system
        from s2s.evaluation.references import References
        from s2s.mirrors import local_copy

        if self.samples < 1:
            raise BadInput(f"--samples {self.samples}: must be at least 1")
        corpus = Corpus.open(local_copy(self.corpus))
        references = References.of(corpus, self.split)
        settings = self.decoding.settings()
        # Both are opened before either translates: a bad name is reported before the work.
        a, b = (
            open_system(path, corpus, references, settings)
            for path in map(local_copy, (self.a, self.b))
        )
        with counting("translated") as count:
            comparison = compare(a, b, references, samples=self.samples, on_batch=count)
        if self.json:
            print(comparison.to_json())
        else:
            print_comparison(comparison)
        tell_warnings(comparison.warnings(corpus.manifest))
