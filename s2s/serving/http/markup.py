"""HTML whose text is translated and whose markup stays, byte for byte."""

import re
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise

# Elements whose content is not translated.
_VERBATIM = frozenset({"script", "style", "code", "pre", "textarea", "svg", "math"})
_CHARACTER = re.compile(r"&#?\w+;?|.", re.DOTALL)  # or a reference to one


class Markup:
    """An HTML document, or a part of one, taken apart into texts and markup."""

    def __init__(self, html: str) -> None:
        self._parts = _parts(html)

    @property
    def texts(self) -> list[str]:
        """The texts between markup, character references resolved."""
        return [unescape(part) for part, prose in self._parts if prose]

    def filled(self, translations: list[str]) -> str:
        """Return the document with translations, one for each of `texts`, in their places."""
        new = iter(translations)
        return "".join(
            escape(next(new), quote=False) if prose else part for part, prose in self._parts
        )


def _parts(html: str) -> list[tuple[str, bool]]:
    """Return the parts of a document, which joined give it, and whether each is prose."""
    splitter = _Splitter(html)
    splitter.feed(html)
    splitter.close()
    return splitter.parts()


class _Splitter(HTMLParser):
    """Notes where each part of a document begins, and whether it is prose."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self._html = html
        self._lines = [0]
        for line in html.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._starts: list[tuple[int, bool]] = []
        self._verbatim: list[str] = []

    def _note(self, prose: bool) -> None:
        line, column = self.getpos()
        self._starts.append((self._lines[line - 1] + column, prose and not self._verbatim))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._note(False)
        if tag in _VERBATIM:
            self._verbatim.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self._note(False)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._verbatim:
            while self._verbatim.pop() != tag:
                pass
        self._note(False)

    def handle_data(self, data: str) -> None:
        self._note(True)

    def handle_entityref(self, name: str) -> None:
        self._note(True)

    def handle_charref(self, name: str) -> None:
        self._note(True)

    def handle_comment(self, data: str) -> None:
        self._note(False)

    def handle_decl(self, decl: str) -> None:
        self._note(False)

    def handle_pi(self, data: str) -> None:
        self._note(False)

    def unknown_decl(self, data: str) -> None:
        self._note(False)

    def parts(self) -> list[tuple[str, bool]]:
        """Return the parts between the noted places; neighbours of one kind are one part."""
        starts = [(0, False), *self._starts] if self._starts[:1] != [(0, False)] else self._starts
        ends = [begin for begin, _ in starts[1:]] + [len(self._html)]
        parts: list[tuple[str, bool]] = []
        for (begin, prose), end in zip(starts, ends, strict=True):
            part = self._html[begin:end]
            if parts and parts[-1][1] == prose:
                parts[-1] = (parts[-1][0] + part, prose)
            elif part:
                parts.append((part, prose))
        return [
            each for part, prose in parts for each in (_trim(part) if prose else [(part, prose)])
        ]


def _trim(part: str) -> list[tuple[str, bool]]:
    """Return a text apart from the space around it, which may be a reference such as `&nbsp;`."""
    characters = _CHARACTER.findall(part)
    visible = [place for place, each in enumerate(characters) if unescape(each).strip()] or [0, -1]
    bounds = [0, visible[0], visible[-1] + 1, len(characters)]
    parts = ["".join(characters[begin:end]) for begin, end in pairwise(bounds)]
    return [(part, place == 1) for place, part in enumerate(parts) if part]
