"""`s2s shortlist`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from s2s.cli.verb import Verb
from s2s.console import counting
from s2s.errors import BadInput
from s2s.locations import Location


@dataclass(frozen=True)
class Shortlist(Verb):
    """Find the likely target tokens of each source token, so that decoding needs no others.

    Writes `shortlist.safetensors` into the model directory, for `--decode.shortlist`, and measures
    how many translations of the corpus's `valid` split it changes.
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Model directory."""

    corpus: Location
    """Corpus directory that the model was trained on, at a path or URI."""

    sizes: tuple[int, ...] = (50, 100, 200)
    """Values of `--decode.shortlist` to measure."""

    def run(self) -> None:
        """Write the shortlist, and print what it changes."""
        from s2s.corpus import Corpus
        from s2s.decoding.shortlist import SHORTLIST, STORED
        from s2s.evaluation.shortlists import shortlist_effects, shortlist_of
        from s2s.mirrors import local_copy
        from s2s.model.directory import ModelDirectory

        if bad := [size for size in self.sizes if not 1 <= size <= STORED]:
            raise BadInput(f"--sizes {bad[0]}: must be 1 to {STORED}")
        model = ModelDirectory.load(self.model)
        corpus = Corpus.open(local_copy(self.corpus))
        shortlist_of(model, corpus).save(self.model)
        print(f"shortlist: {self.model / SHORTLIST}")
        table = Table(title="translations of valid that change")
        for heading in ("shortlist", "sentences", "share", "BLEU", "difference", "p", "seconds"):
            table.add_column(heading, justify="right")
        with counting("translated") as count:
            for effect in shortlist_effects(model, corpus, self.sizes, count):
                if effect.size is None:
                    table.add_row("none", "", "", f"{effect.bleu.b:.2f}", "", "",
                                  f"{effect.seconds:.1f}")  # fmt: skip
                    continue
                table.add_row(
                    str(effect.size),
                    f"{effect.different:,} of {effect.sentences:,}",
                    f"{effect.share:.1%}",
                    f"{effect.bleu.b:.2f}",
                    f"{effect.bleu.difference:+.2f}",
                    f"{effect.bleu.p_value:.4f}",
                    f"{effect.seconds:.1f}",
                )
        Console(highlight=False, markup=False, emoji=False).print(table)
