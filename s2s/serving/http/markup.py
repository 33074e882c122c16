"""HTML whose prose is translated and whose markup stays, byte for byte.

A document is taken apart into blocks. The text of a block is translated as a whole: inline tags,
such as those of links and of emphasis, do not cut a sentence. They are put back where the words
that they enclosed went, always in the order of the source, so that they nest as they did there.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from typing import Literal

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
_SPACE = re.compile(r"[ \t\n\r\f]+")  # what browsers show as one space

_Kind = Literal["text", "start", "end", "mark", "placeholder", "block"]


@dataclass
class _Piece:
    """A part of a document, byte for byte."""

    kind: _Kind
    html: str
    tag: str = ""


class Markup:
    """An HTML document, or a part of one, taken apart into texts and markup."""

    def __init__(self, html: str) -> None:
        self._parts = _parts(html)

    @property
    def texts(self) -> list[str]:
        """The texts of blocks, without tags, character references resolved."""
        return [part.text for part in self._parts if isinstance(part, _Prose)]

    @property
    def has_inline(self) -> bool:
        """Whether there are inline tags to put back into a text."""
        return any(isinstance(part, _Prose) and part.has_inline for part in self._parts)

    def filled(
        self, translations: list[str], alignments: list[list[Alignment]] | None = None
    ) -> str:
        """Return the document with translations, one for each of `texts`, in their places.

        Args:
            alignments: of the sentences of each text, by which inline tags are put back.
        """
        new = iter(translations)
        aligned = iter(alignments or [[] for _ in translations])
        return "".join(
            part.filled(next(new), next(aligned)) if isinstance(part, _Prose) else part
            for part in self._parts
        )


def _parts(html: str) -> list["str | _Prose"]:
    """Return the parts of a document, which joined give it: prose, and all that stays."""
    splitter = _Splitter(html)
    splitter.feed(html)
    splitter.close()
    return splitter.parts()


# ---- prose ---------------------------------------------------------------------------------------


@dataclass
class _Anchor:
    """An inline tag, or something else that stays, between characters of a text."""

    kind: _Kind
    html: str
    place: int  # characters of the text before it
    end: int | None = None  # of a start tag whose element ends in the text: where
    spaced: bool = False  # whether a space stood before it


class _Prose:
    """The text of a block, and what stands in it.

    Args:
        pieces: the first and the last of which are texts, or tags of elements that enclose some.

    Attributes:
        html: the pieces as they are.
        text: what is to be translated.
        anchors: what is put back into its translation, in order.
    """

    def __init__(self, pieces: list[_Piece]) -> None:
        self.html = _html(pieces)
        self.anchors: list[_Anchor] = []
        text = ""
        parts: list[str] = []  # of the text
        size = 0
        starts: list[_Anchor] = []  # of elements that have not ended
        after_placeholder = False
        for piece in pieces:
            if piece.kind == "text":
                text = _SPACE.sub(" ", unescape(piece.html))
                if text.startswith(" ") and (not parts or parts[-1].endswith(" ")):
                    text = text[1:]
                elif after_placeholder and self.anchors[-1].spaced and text[:1].isalnum():
                    text = " " + text
                if text:
                    parts.append(text)
                    size += len(text)
                    after_placeholder = False
                continue
            spaced = bool(parts) and parts[-1].endswith(" ")
            anchor = _Anchor(piece.kind, piece.html, size, spaced=spaced)
            if piece.kind == "placeholder":
                if spaced:
                    parts[-1] = parts[-1][:-1]
                    size -= 1
                    if not parts[-1]:
                        parts.pop()
                    anchor.place = size
                    for earlier in reversed(self.anchors):  # tags between the space and it
                        if earlier.place <= size:
                            break
                        earlier.place = size
                after_placeholder = True
            elif piece.kind == "start":
                starts.append(anchor)
            elif piece.kind == "end" and starts:
                starts.pop().end = size
            self.anchors.append(anchor)
        whole = "".join(parts)
        self.text = whole.strip()
        skipped, limit = len(whole) - len(whole.lstrip()), len(self.text)
        for anchor in self.anchors:
            anchor.place = min(max(anchor.place - skipped, 0), limit)
            if anchor.end is not None:
                anchor.end = min(max(anchor.end - skipped, 0), limit)

    @property
    def has_inline(self) -> bool:
        """Whether there is anything to put back into the text."""
        return bool(self.anchors)

    def filled(self, translation: str, alignments: list[Alignment]) -> str:
        """Return the HTML of a translation; that of the text itself is as it was."""
        if translation == self.text:
            return self.html
        if not self.anchors:
            return escape(translation, quote=False)
        alignments = alignments or [Alignment(0, 0, len(translation), [])]
        parts: list[str] = []
        done = 0
        for anchor, place in zip(
            self.anchors, _places(self.anchors, alignments, len(self.text)), strict=True
        ):
            place = min(max(place, done), len(translation))
            parts.append(escape(translation[done:place], quote=False))
            if anchor.kind != "placeholder":
                parts.append(anchor.html)
            elif place == 0:
                parts.append(f"{anchor.html} ")
            else:
                parts.append(f"{' ' * anchor.spaced}{anchor.html}")
            done = place
        return "".join((*parts, escape(translation[done:], quote=False)))


def _places(anchors: list[_Anchor], alignments: list[Alignment], size: int) -> list[int]:
    """Return where anchors go in a translation, in their order and never before one another.

    Args:
        size: characters of the text.
    """
    begins = [alignment.source for alignment in alignments]
    places: list[int] = []
    ends: list[int | None] = []  # of open elements, where each ends in the translation, if planned
    last = 0
    for anchor in anchors:
        opens = anchor.kind == "start" or (anchor.kind == "mark" and anchor.spaced)
        # Between two sentences, what opens belongs to the second, and what closes to the first.
        number = max((bisect_right if opens else bisect_left)(begins, anchor.place) - 1, 0)
        alignment = alignments[number]
        planned = None
        bound = next((end for end in reversed(ends) if end is not None), None)
        if anchor.kind == "start":
            after = alignments[number + 1 : number + 2]
            sentence_end = after[0].source if after else size
            if anchor.end is not None and anchor.end <= sentence_end:
                span, rest = (anchor.place, anchor.end), (last, bound)
                planned = _best_range(alignment, *span, *rest) or _best_range(
                    _by_position(alignment, sentence_end), *span, *rest
                )
            ends.append(None if planned is None else planned[1])
        if planned is not None:
            place = planned[0]
        elif anchor.kind == "end" and ends and (end := ends.pop()) is not None:
            place = end
        else:
            place = _boundary(alignment, anchor.place, opens=opens)
        if bound is not None:
            place = min(place, bound)
        last = max(place, last)
        places.append(last)
    return places


def _by_position(alignment: Alignment, source_end: int) -> Alignment:
    """Return an alignment in which words correspond by their positions.

    Args:
        source_end: where the sentence ends in its text.
    """
    scale = (source_end - alignment.source) / max(2 * alignment.length, 1)
    links = [(int((begin + end) * scale), begin, end) for _, begin, end in alignment.links]
    return alignment._replace(links=links)


def _boundary(alignment: Alignment, place: int, *, opens: bool) -> int:
    """Return the boundary between words of a translation that stands for a place of the source.

    It is the one that the fewest words are on the wrong side of.
    """
    inner = place - alignment.source
    links = alignment.links
    if not links or inner <= 0:
        return alignment.target + min(max(inner, 0), alignment.length)
    # Words that are wrongly after the boundary, and then those wrongly before it, too.
    wrong = sum(begin < inner for begin, _, _ in links)
    best, boundary = wrong, 0
    for number, (begin, _, _) in enumerate(links, start=1):
        wrong += -1 if begin < inner else 1
        if wrong < best:
            best, boundary = wrong, number
    if opens:
        after = links[boundary][1] if boundary < len(links) else alignment.length
    else:
        after = links[boundary - 1][2] if boundary else 0
    return alignment.target + after


def _best_range(
    alignment: Alignment, begin: int, end: int, earliest: int, latest: int | None
) -> tuple[int, int] | None:
    """Return the range of a translation that has most of the words of a range of its source.

    Every word of it that is not of the range counts against it; None if nothing is left.

    Args:
        earliest: where the range may begin in the translation.
        latest: where it must end; None sets no limit.
    """
    shift = alignment.target
    best, found = 0, None
    total, first = 0, 0
    for source, target, target_end in alignment.links:
        if shift + target < earliest or (latest is not None and shift + target_end > latest):
            continue
        if total <= 0:
            total, first = 0, target
        total += 1 if begin <= source + alignment.source < end else -1
        if total > best:
            best, found = total, (shift + first, shift + target_end)
    return found


# ---- documents -----------------------------------------------------------------------------------


@dataclass
class _Element:
    """An element that is open."""

    tag: str
    translated: bool


class _Splitter(HTMLParser):
    """Notes where each piece of a document begins, and what it is."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self._html = html
        self._lines = [0]
        for line in html.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        # Where a piece begins, what it is, its tag, and whether its element is to be translated.
        self._notes: list[tuple[int, _Kind, str, bool | None]] = []

    def _note(self, kind: _Kind, tag: str = "", translated: bool | None = None) -> None:
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

    def parts(self) -> list[str | _Prose]:
        """Return the parts of the document: prose, and all that stays."""
        builder = _Builder()
        if not self._notes or self._notes[0][0] > 0:
            self._notes.insert(0, (0, "block", "", None))
        ends = [begin for begin, *_ in self._notes[1:]] + [len(self._html)]
        for (begin, kind, tag, translated), end in zip(self._notes, ends, strict=True):
            if html := self._html[begin:end]:
                builder.add(_Piece(kind, html, tag), translated)
        return builder.parts()


def _translated(tag: str, attrs: list[tuple[str, str | None]]) -> bool | None:
    """Return whether an element is to be translated; None if that is as around it."""
    if tag in _VERBATIM:
        return False
    for name, value in attrs:
        if name == "translate" and (value or "").lower() in ("", "yes", "no"):
            return (value or "").lower() != "no"
        if name == "class" and "notranslate" in (value or "").split():
            return False
    return None


class _Builder:
    """Puts pieces together to parts."""

    def __init__(self) -> None:
        self._parts: list[str | _Prose] = []
        self._block: list[_Piece] = []  # of the prose that has not ended
        self._open: list[_Element] = []
        self._tags = Counter[str]()  # of open elements
        self._hidden: list[str] = []  # what stands in an element that is not translated
        self._hidden_tag = ""  # of that element, if it may be a part of a sentence

    def add(self, piece: _Piece, translated: bool | None) -> None:
        """Add the next piece.

        Args:
            translated: whether the element that it begins is; None if that is as around it.
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
            # Whatever an element in a script asks for, it is none.
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

    def parts(self) -> list[str | _Prose]:
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
        """End what is not translated; in a sentence it is a placeholder, else a part."""
        if not self._hidden:
            return
        html, self._hidden = "".join(self._hidden), []
        if self._hidden_tag in _UNSEEN:
            self._block.append(_Piece("mark", html))
        elif self._hidden_tag in _INLINE:
            self._block.append(_Piece("placeholder", html))
        else:
            self._cut()
            self._parts.append(html)

    def _put(self, piece: _Piece) -> None:
        """Add a piece of what is translated."""
        if piece.kind == "text":
            if self._block and self._block[-1].kind == "text":
                self._block[-1].html += piece.html  # a reference may be of several pieces
            else:
                self._block.append(_Piece("text", piece.html))
        elif piece.kind == "block" or (piece.tag and piece.tag not in _INLINE):
            self._cut()
            self._parts.append(piece.html)
        elif piece.tag in _SHOWN:
            self._block.append(_Piece("placeholder", piece.html, piece.tag))
        elif piece.tag in _VOID:
            self._block.append(_Piece("mark", piece.html, piece.tag))
        else:
            self._block.append(piece)

    def _cut(self) -> None:
        """End the prose of a block."""
        pieces, self._block = self._block, []
        self._parts += _prose(pieces)


def _prose(pieces: list[_Piece]) -> list[str | _Prose]:
    """Return the parts of a block: what stands before its text, the text, and what follows."""
    visible = [
        place
        for place, piece in enumerate(pieces)
        if piece.kind == "text" and unescape(piece.html).strip()
    ]
    if not visible:
        return ["".join(piece.html for piece in pieces)] if pieces else []
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
        before, middle = [*before, _Piece("text", space)], [_Piece("text", text), *middle[1:]]
    if end == last:
        text, space = _trailing_space(middle[-1].html)
        after, middle = [_Piece("text", space), *after], [*middle[:-1], _Piece("text", text)]
    parts: list[str | _Prose] = [_html(before), _Prose(middle), _html(after)]
    return [part for part in parts if part]


def _html(pieces: list[_Piece]) -> str:
    return "".join(piece.html for piece in pieces)


def _pair(pieces: list[_Piece]) -> None:
    """Make marks of tags that begin or end no element of the block, or not in their turn."""
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
            pieces[place] = _Piece("mark", piece.html, piece.tag)


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
