"""HTML pages as trees of elements, read with the standard library's parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


@dataclass
class Element:
    """An element of the page, as a browser would find it."""

    name: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def find(self, name: str, class_: str = "") -> list["Element"]:
        """All elements of a name, and a class, inside this one."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                fits = class_ in child.attributes.get("class", "").split() or not class_
                found += [child] * (fits and name in (child.name, "*")) + child.find(name, class_)
        return found


class Tree(HTMLParser):
    """Reads a page, and finds tags that are not closed in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(found)
        if tag not in VOID:
            self._open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {n: v or "" for n, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def read(page: str) -> Element:
    return Tree(page).root


def titles(page: str) -> list[str]:
    return [heading.text for heading in read(page).find("h2")]


def section(page: str, title: str) -> Element:
    [found] = [s for s in read(page).find("section") if s.find("h2")[0].text == title]
    return found
