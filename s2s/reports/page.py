"""The HTML page of a directory: a header with its most important numbers, links and sections.

A page is one file that needs no other file. `page.css` is the style of all pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2s.config import DataConfig
from s2s.reports.elements import Html, document, element, section
from s2s.text.language_pairs import describe_direction


@dataclass(frozen=True)
class Tile:
    """An important number, which the header shows large."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Header:
    """The top of a page."""

    kind: str  # of directory: "Model", "Corpus" or "Sweep"
    name: str  # of the directory
    config: DataConfig  # has the languages
    lead: str  # what the directory holds, in a sentence or two
    tiles: Sequence[Tile]
    note: str = ""  # where the numbers come from


def page(header: Header, sections: Mapping[str, Html]) -> str:
    """Return a page as an HTML file.

    Args:
        sections: content by title, in order; those without content are left out.
    """
    shown = {title: content for title, content in sections.items() if content}
    links = element("nav", *(element("a", title, href=f"#{_anchor(title)}") for title in shown))
    main = (section(title, content, anchor=_anchor(title)) for title, content in shown.items())
    title = describe_direction(header.config.source_language, header.config.target_language)
    return document(
        f"{title} · {header.kind.lower()} {header.name}",
        _header(title, header, links),
        element("main", *main),
    )


def _header(title: str, header: Header, links: Html) -> Html:
    tiles = (
        element("div", element("dt", t.name), element("dd", t.value, element("small", t.note)))
        for t in header.tiles
    )
    return element(
        "header",
        element("h1", title),
        element("p", f"{header.kind} · {header.name}", class_="name"),
        element("p", header.lead, class_="lead"),
        element("dl", *tiles, class_="tiles"),
        element("p", header.note, class_="note") if header.note else Html(""),
        links,
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
