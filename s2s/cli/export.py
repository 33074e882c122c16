"""`s2s export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from s2s.cli.verb import Verb
from s2s.locations import Location


@dataclass(frozen=True)
class Export(Verb):
    """Write a model in a format that other programs run, without s2s and torch.

    The export is checked: it translates greedily as the model does, or is not written.
    """

    model: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI."""

    to: Literal["onnx"]
    """Format: `onnx` writes two graphs, the encoder and a step of the decoder."""

    out: Path
    """Directory to make."""

    corpus: Location | None = None
    """Corpus directory, at a path or URI, whose sentences the export is checked on; without it,
    they are made of the model's own tokens."""

    split: Literal["train", "valid", "test"] = "valid"
    """Split of the corpus, of which the first 1000 different sources are taken."""

    precision: Literal["fp32", "int8"] = "fp32"
    """Precision of the weights. `int8` files have about a quarter of the size, and nearly equal
    scores: some words change."""

    def run(self) -> None:
        """Write the directory, and print what it holds and how closely it agrees."""
        from s2s.corpus import Corpus
        from s2s.evaluation.references import References, check_languages
        from s2s.exporting.onnx import export_to_onnx
        from s2s.mirrors import local_copy
        from s2s.model.directory import ModelDirectory
        from s2s.text.language_pairs import describe_direction

        directory = ModelDirectory.load(local_copy(self.model))
        config = directory.config
        print(f"from {describe_direction(config.source_language, config.target_language)}")
        sentences: list[str] = []
        if self.corpus is not None:
            corpus = Corpus.open(local_copy(self.corpus))
            check_languages(config, corpus)
            sentences = References.of(corpus, self.split).sources
        where = "" if self.corpus is None else f"{self.split} of {self.corpus}"
        manifest = export_to_onnx(directory, self.out, sentences, where, self.precision)
        for name in manifest.sha256:
            print(f"{(self.out / name).stat().st_size / 1e6:10.2f} MB  {name}")
        checked = manifest.checked
        same = checked.sentences - checked.changed
        print(
            f"{same:,} of {checked.sentences:,} sentences ({checked.sentences_from}) have the same "
            f"words as in torch; scores differ by at most {checked.score_difference:.1g}"
        )
        print(f"exported: {self.out}")
