"""Pages of blocks: on a terminal, as JSON, or as one HTML file that needs no other file."""

import json
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable

from s2s.console import printable
from s2s.reports.blocks import Block, Table
from s2s.reports.elements import as_text, document, element, section


@dataclass(frozen=True)
class Page:
    """A title and the blocks under it, in order."""

    title: str
    blocks: list[Block] = field(default_factory=list)


def show(page: Page, console: Console) -> None:
    """Print a page on a terminal."""
    console.rule(printable(page.title))
    for block in page.blocks:
        table = RichTable(title=block.title, title_justify="left", title_style="bold")
        rows = block.lines()
        for number, heading in enumerate(block.headings):
            numeric = isinstance(block, Table) and all(isinstance(row[number], int) for row in rows)
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(printable(as_text(value)) for value in row))
        console.print(table)


def as_json(page: Page) -> str:
    """Return a page as JSON: its blocks by their titles."""
    blocks = {block.title: block.plain() for block in page.blocks}
    return json.dumps({"path": page.title, **blocks}, indent=2, ensure_ascii=False)


def as_html(page: Page) -> str:
    """Return a page as one HTML file that needs no other file."""
    sections = (section(block.title, block.html()) for block in page.blocks)
    return document(page.title, element("header", element("h1", page.title)), *sections)
