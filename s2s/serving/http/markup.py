"""HTML documents whose texts are translated and whose markup stays the same, byte for byte.

A document is split into parts: the text of each block, such as a paragraph, with the inline tags
in it (`prose.py`), and the HTML between these texts.
"""

import re
from collections import Counter
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

from s2s.serving.http.prose import Piece, PieceKind, Prose, html_of
from s2s.text.alignment import Alignment

# Elements whose content is not translated.
_VERBATIM = frozenset({"script", "style", "code", "pre", "textarea", "svg", "math"})
# Elements that stand in a sentence; all others cut it.
_INLINE = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em",
    "font", "i", "img", "ins", "kbd", "label", "mark", "math", "output", "q", "rp", "rt", "ruby",
    "s", "samp", "script", "small", "span", "strike", "strong", "style", "sub", "sup", "svg",
    "time", "tt", "u", "var", "wbr",
})  # fmt: skip
# Inline elements that show something of their own, as a word of the sentence would.
_SHOWN = frozenset({"code", "img", "math", "svg"})
# Those that show nothing.
_UNSEEN = frozenset({"script", "style"})
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
})  # fmt: skip
# Elements that end where the next one begins, if they have no end tag.
_ENDED_BY_NEXT = frozenset({"p", "li", "dt", "dd", "td", "th", "tr", "option"})
_CHARACTER = re.compile(r"&#?\w+;?|.", re.DOTALL)  # or a reference to one


class Markup:
    """An HTML document, or a part of one, taken apart into texts and markup."""

    def __init__(self, html: str) -> None:
        self._parts = parts_of(html)

    @property
    def texts(self) -> list[str]:
        """The texts of blocks, without tags, character references resolved."""
        return [part.text for part in self._parts if isinstance(part, Prose)]

    @property
    def has_inline(self) -> bool:
        """Whether there are inline tags to put back into a text."""
        return any(isinstance(part, Prose) and part.has_inline for part in self._parts)

    def filled(
        self, translations: list[str], alignments: list[list[Alignment]] | None = None
    ) -> str:
        """Return the document with translations, one for each of `texts`, in their places.

        Args:
            alignments: alignments of the sentences of each text, which tell where inline tags go.
        """
        new = iter(translations)
        aligned = iter(alignments or [[] for _ in translations])
        return "".join(
            part.filled(next(new), next(aligned)) if isinstance(part, Prose) else part
            for part in self._parts
        )


def parts_of(html: str) -> list["str | Prose"]:
    """Return the parts of a document in order: prose, and the HTML that stays the same."""
    splitter = _Splitter(html)
    splitter.feed(html)
    splitter.close()
    return splitter.parts()


@dataclass
class _Element:
    """An element that is open."""

    tag: str
    translated: bool


class _Splitter(HTMLParser):
    """A parser that notes where each piece of a document begins, and what it is."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self._html = html
        self._lines = [0]
        for line in html.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        # Where a piece begins, what it is, its tag, and whether its element is to be translated.
        self._notes: list[tuple[int, PieceKind, str, bool | None]] = []

    def _note(self, kind: PieceKind, tag: str = "", translated: bool | None = None) -> None:
        line, column = self.getpos()
        self._notes.append((self._lines[line - 1] + column, kind, tag, translated))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note("start", tag, _translated(tag, attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note("mark", tag, _translated(tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self._note("end", tag)

    def handle_data(self, data: str) -> None:
        self._note("text")

    def handle_entityref(self, name: str) -> None:
        self._note("text")

    def handle_charref(self, name: str) -> None:
        self._note("text")

    def handle_comment(self, data: str) -> None:
        self._note("mark")

    def handle_decl(self, decl: str) -> None:
        self._note("block")

    def handle_pi(self, data: str) -> None:
        self._note("mark")

    def unknown_decl(self, data: str) -> None:
        self._note("mark")

    def parts(self) -> list[str | Prose]:
        """Return the parts of the document in order."""
        builder = _Builder()
        if not self._notes or self._notes[0][0] > 0:
            self._notes.insert(0, (0, "block", "", None))
        ends = [begin for begin, *_ in self._notes[1:]] + [len(self._html)]
        for (begin, kind, tag, translated), end in zip(self._notes, ends, strict=True):
            if html := self._html[begin:end]:
                builder.add(Piece(kind, html, tag), translated)
        return builder.parts()


def _translated(tag: str, attrs: list[tuple[str, str | None]]) -> bool | None:
    """Return whether an element is to be translated; None if it is like its surroundings."""
    if tag in _VERBATIM:
        return False
    for name, value in attrs:
        if name == "translate" and (value or "").lower() in ("", "yes", "no"):
            return (value or "").lower() != "no"
        if name == "class" and "notranslate" in (value or "").split():
            return False
    return None


class _Builder:
    """A stack of open elements, which tells how pieces of a document make up its parts."""

    def __init__(self) -> None:
        self._parts: list[str | Prose] = []
        self._block: list[Piece] = []  # pieces of the prose that has not ended
        self._open: list[_Element] = []
        self._tags = Counter[str]()  # of open elements
        self._hidden: list[str] = []  # HTML of an element that is not translated
        self._hidden_tag = ""  # tag of that element, if it may be a part of a sentence

    def add(self, piece: Piece, translated: bool | None) -> None:
        """Add the next piece.

        Args:
            translated: whether the element that the piece begins is to be translated; None if it
                is like its surroundings.
        """
        opens = piece.kind == "start" and piece.tag not in _VOID
        closes = piece.kind == "end" and self._tags[piece.tag] > 0
        if opens and piece.tag in _ENDED_BY_NEXT and self._innermost == piece.tag:
            self._close()
        while closes and self._innermost != piece.tag:  # elements without an end tag
            self._close()
        around = self._translated
        shown = around and translated is not False
        if opens:
            # Within `code` and the like, nothing is translated, whatever its attributes say.
            shown = shown or (translated is True and not self._in_verbatim)
            self._open.append(_Element(piece.tag, shown))
            self._tags[piece.tag] += 1
        if shown:
            if not around:
                self._hidden_tag = ""
                self._end_hidden()
            self._put(piece)
        else:
            if not self._hidden:
                self._hidden_tag = piece.tag if around else ""
            self._hidden.append(piece.html)
        if closes:
            self._close()
        elif not opens and around:
            self._end_hidden()

    def parts(self) -> list[str | Prose]:
        """Return the parts of all that was added."""
        self._end_hidden()
        self._cut()
        return self._parts

    @property
    def _translated(self) -> bool:
        """Whether what stands in the innermost open element is translated."""
        return not self._open or self._open[-1].translated

    @property
    def _innermost(self) -> str:
        return self._open[-1].tag if self._open else ""

    @property
    def _in_verbatim(self) -> bool:
        return any(self._tags[tag] for tag in _VERBATIM)

    def _close(self) -> None:
        """Close the innermost open element."""
        closed = self._open.pop()
        self._tags[closed.tag] -= 1
        if self._translated:
            self._end_hidden()
        elif closed.translated:
            self._cut()

    def _end_hidden(self) -> None:
        """End the HTML that is not translated; in a sentence it is a placeholder, else a part."""
        if not self._hidden:
            return
        html, self._hidden = "".join(self._hidden), []
        if self._hidden_tag in _UNSEEN:
            self._block.append(Piece("mark", html))
        elif self._hidden_tag in _INLINE:
            self._block.append(Piece("placeholder", html))
        else:
            self._cut()
            self._parts.append(html)

    def _put(self, piece: Piece) -> None:
        """Add a piece of what is translated."""
        if piece.kind == "text":
            if self._block and self._block[-1].kind == "text":
                self._block[-1].html += piece.html  # a reference may be of several pieces
            else:
                self._block.append(Piece("text", piece.html))
        elif piece.kind == "block" or (piece.tag and piece.tag not in _INLINE):
            self._cut()
            self._parts.append(piece.html)
        elif piece.tag in _SHOWN:
            self._block.append(Piece("placeholder", piece.html, piece.tag))
        elif piece.tag in _VOID:
            self._block.append(Piece("mark", piece.html, piece.tag))
        else:
            self._block.append(piece)

    def _cut(self) -> None:
        """End the prose of a block."""
        pieces, self._block = self._block, []
        self._parts += _block_parts(pieces)


def _block_parts(pieces: list[Piece]) -> list[str | Prose]:
    """Return the parts of a block: what stands before its text, the text, and what follows."""
    visible = [
        place
        for place, piece in enumerate(pieces)
        if piece.kind == "text" and unescape(piece.html).strip()
    ]
    if not visible:
        return [html_of(pieces)] if pieces else []
    _pair(pieces)
    first, last = visible[0], visible[-1]
    starts: list[int] = []
    begin, end = first, last
    for place, piece in enumerate(pieces):
        if piece.kind == "start":
            starts.append(place)
        elif piece.kind == "end":
            opened = starts.pop()
            if opened < first < place < last:  # tags that enclose a part of the text
                begin = min(begin, opened)
            elif first < opened < last < place:
                end = max(end, place)
    before, after = pieces[:begin], pieces[end + 1 :]
    middle = pieces[begin : end + 1]
    if begin == first:
        space, text = _leading_space(middle[0].html)
        before, middle = [*before, Piece("text", space)], [Piece("text", text), *middle[1:]]
    if end == last:
        text, space = _trailing_space(middle[-1].html)
        after, middle = [Piece("text", space), *after], [*middle[:-1], Piece("text", text)]
    parts: list[str | Prose] = [html_of(before), Prose(middle), html_of(after)]
    return [part for part in parts if part]


def _pair(pieces: list[Piece]) -> None:
    """Turn tags into marks if they begin or end no element of the block, or do not nest."""
    starts: list[int] = []
    tags = Counter[str]()
    paired: set[int] = set()
    for place, piece in enumerate(pieces):
        if piece.kind == "start":
            starts.append(place)
            tags[piece.tag] += 1
        elif piece.kind == "end" and tags[piece.tag]:
            while True:
                opened = starts.pop()
                tags[pieces[opened].tag] -= 1
                if pieces[opened].tag == piece.tag:
                    break
            paired |= {opened, place}
    for place, piece in enumerate(pieces):
        if piece.kind in ("start", "end") and place not in paired:
            pieces[place] = Piece("mark", piece.html, piece.tag)


def _leading_space(html: str) -> tuple[str, str]:
    """Return the space before a text, which may be a reference such as `&nbsp;`, and the rest."""
    characters = _CHARACTER.findall(html)
    size = next(place for place, each in enumerate(characters) if unescape(each).strip())
    return "".join(characters[:size]), "".join(characters[size:])


def _trailing_space(html: str) -> tuple[str, str]:
    """Return a text, and the space after it."""
    characters = _CHARACTER.findall(html)
    size = len(characters)
    while not unescape(characters[size - 1]).strip():
        size -= 1
    return "".join(characters[:size]), "".join(characters[size:])
