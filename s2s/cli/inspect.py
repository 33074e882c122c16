"""`s2s inspect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from s2s.cli.output import opened
from s2s.cli.verb import Verb


@dataclass(frozen=True)
class Inspect(Verb):
    """Show what a corpus or model directory holds."""

    directory: Annotated[Path, tyro.conf.Positional]
    """Corpus directory or model directory."""

    html: Path | None = None
    """HTML file, with plots, to write instead of printing tables."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print the tables, or write the page."""
        from s2s.reports.page import as_html, as_json, show
        from s2s.reports.summary import inspect

        page = inspect(self.directory)
        if self.html is not None:
            with opened(self.html) as file:
                file.write(as_html(page))
            print(f"page: {self.html}")
        elif self.json:
            print(as_json(page))
        else:
            show(page, Console(highlight=False, markup=False, emoji=False))
