"""The text of a block of HTML, and the inline tags to put back into its translation.

The text of a block is translated as a whole, without its inline tags, such as those of links and
of emphasis. In the translation, a tag goes to the words that correspond to those around it in the
text. Tags keep their order, and elements their nesting.
"""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from html import escape, unescape
from typing import Literal

from s2s.text.alignment import Alignment

_SPACE = re.compile(r"[ \t\n\r\f]+")  # what browsers show as one space

# A mark is a tag without an element, or a comment; a placeholder is something that is shown but
# not translated; a block is a tag or a declaration that ends the text before it.
PieceKind = Literal["text", "start", "end", "mark", "placeholder", "block"]


@dataclass
class Piece:
    """A part of a document, byte for byte."""

    kind: PieceKind
    html: str
    tag: str = ""


def html_of(pieces: list[Piece]) -> str:
    """Return the HTML of pieces."""
    return "".join(piece.html for piece in pieces)


@dataclass
class _Anchor:
    """An inline tag, or something else that stays, between characters of a text."""

    kind: PieceKind
    html: str
    place: int  # number of characters of the text before it
    end: int | None = None  # place where the element of a start tag ends, if it does in the text
    spaced: bool = False  # whether a space stood before it


class Prose:
    """The text of a block, with the inline tags in it.

    Args:
        pieces: the text and the tags; the first and the last piece are texts, or tags of elements
            that enclose some of the text.

    Attributes:
        html: HTML of the pieces, unchanged.
        text: text to translate.
        anchors: what is put back into the translation, in order.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self.html = html_of(pieces)
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
        """Return the HTML of a translation, and the HTML as it was if the text is unchanged.

        Args:
            alignments: alignments of the sentences of the text; without any, the tags keep their
                positions.
        """
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
    """Return the places of anchors in a translation, which keep the order of the anchors.

    Args:
        size: number of characters of the text.
    """
    begins = [alignment.source for alignment in alignments]
    places: list[int] = []
    ends: list[int | None] = []  # where each open element ends in the translation, if planned
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
