"""HTML whose text is translated and whose marks stay, byte for byte."""

import re
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise

# What stands in these is no prose.
_VERBATIM = frozenset({"script", "style", "code", "pre", "textarea", "svg", "math"})
_CHARACTER = re.compile(r"&#?\w+;?|.", re.DOTALL)  # however it is spelt


class Markup:
    """A piece of HTML: what is to be translated of it, and how it is put together again."""

    def __init__(self, html: str) -> None:
        self._parts = _parts(html)

    @property
    def texts(self) -> list[str]:
        """The stretches of text between its marks, character references resolved."""
        return [unescape(part) for part, prose in self._parts if prose]

    def filled(self, translations: list[str]) -> str:
        """The same HTML with these texts, one for each of `texts`, in its space."""
        new = iter(translations)
        return "".join(
            escape(next(new), quote=False) if prose else part for part, prose in self._parts
        )


def _parts(html: str) -> list[tuple[str, bool]]:
    """The HTML cut into marks and prose: joined, they are it."""
    splitter = _Splitter(html)
    splitter.feed(html)
    splitter.close()
    return splitter.cut()


class _Splitter(HTMLParser):
    """Notes where each thing begins, and whether it is prose."""

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

    def cut(self) -> list[tuple[str, bool]]:
        """What stands between the starts; neighbours of one kind are one."""
        starts = [(0, False), *self._starts] if self._starts[:1] != [(0, False)] else self._starts
        ends = [begin for begin, _ in starts[1:]] + [len(self._html)]
        parts: list[tuple[str, bool]] = []
        for (begin, prose), end in zip(starts, ends, strict=True):
            piece = self._html[begin:end]
            if parts and parts[-1][1] == prose:
                parts[-1] = (parts[-1][0] + piece, prose)
            elif piece:
                parts.append((piece, prose))
        return [
            each for part, prose in parts for each in (_trimmed(part) if prose else [(part, prose)])
        ]


def _trimmed(part: str) -> list[tuple[str, bool]]:
    """A text apart from the space around it, which may be spelt out, as in `&nbsp;`."""
    characters = _CHARACTER.findall(part)
    dark = [place for place, each in enumerate(characters) if unescape(each).strip()] or [0, -1]
    cuts = [0, dark[0], dark[-1] + 1, len(characters)]
    pieces = ["".join(characters[begin:end]) for begin, end in pairwise(cuts)]
    return [(piece, place == 1) for place, piece in enumerate(pieces) if piece]
