"""`s2s inspect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from s2s.cli.output import opened
from s2s.cli.verb import Verb
from s2s.locations import Location


@dataclass(frozen=True)
class Inspect(Verb):
    """Show what a corpus, model or sweep directory holds."""

    directory: Annotated[Location, tyro.conf.Positional]
    """Corpus directory, model directory, or sweep directory of `s2s tune`, at a path or URI."""

    html: Path | None = None
    """HTML file, with plots, to write instead of printing tables."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print the tables, or write the page."""
        from s2s.mirrors import local_copy

        directory = local_copy(self.directory)
        if self.html is not None:
            from s2s.reports.inspection import inspect_as_html

            with opened(self.html) as file:
                file.write(inspect_as_html(directory))
            print(f"page: {self.html}")
            return
        from s2s.reports.summary import as_json, show, summarise

        summary = summarise(directory)
        if self.json:
            print(as_json(summary))
        else:
            show(summary, Console(highlight=False, markup=False, emoji=False))
