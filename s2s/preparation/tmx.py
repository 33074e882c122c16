"""Translation memories in TMX 1.4.

A file is cut into its translation units, and each unit is parsed on its own: so a bad character or
an unknown entity costs its unit and not the file, and memory does not grow with the file.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal
from xml.parsers import expat

from s2s.errors import BadInput
from s2s.preparation.variants import Row, rows_of_variants, side_of_code

# Elements whose content is code of the document that was translated, and no text.
_NATIVE_CODE = {"bpt", "ept", "ph", "it", "ut"}

_BLOCK = 1 << 17
_LONGEST_UNIT = 64 << 20  # characters
_COMMENT_OR_UNIT = re.compile(
    r"<!--.*?-->|<(?P<tag>(?:[\w.-]+:)?tu)(?=[\s>/])(?:[^<>]*/>|.*?</(?P=tag)\s*>)", re.DOTALL
)
_SOURCE_LANGUAGE = re.compile(r"""<header\b[^>]*?\bsrclang\s*=\s*["']([\w-]+)["']""")
_VARIANT_LANGUAGE = re.compile(r"""<tuv\b[^>]*?\blang\s*=\s*["']([\w-]+)["']""")
_END = re.compile(r"</(?:[\w.-]+:)?(?:body|tmx)\s*>")
_DECLARED_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""")
_INTERNAL_SUBSET = re.compile(r"<!DOCTYPE[^\[>]*(\[.*?\])\s*>", re.DOTALL)


def read_units(file: Path, languages: tuple[str, str], label: str) -> Iterator[Row]:
    """Yield the rows of the units of a TMX file.

    Args:
        languages: codes of the source and target language.
        label: name of the file in messages.

    Raises:
        BadInput: the file breaks off, or holds no text in one of the languages.
    """
    found = Counter[str]()  # units that hold a language, by its code
    number, doctype, broken = 0, "", ""
    for unit in _units(file):
        if unit.startswith("<!DOCTYPE"):
            doctype = unit
            continue
        number += 1
        try:
            variants = variants_of_unit(unit, doctype)
        except expat.ExpatError as error:
            broken = broken or f"unit {number}: {expat.errors.messages[error.code]}"
            yield "", "", "malformed"
            continue
        found.update({code for code, _ in variants})
        yield from rows_of_variants(variants, languages)
    if broken and not found:
        raise BadInput(f"{label}: no unit can be read; {broken}")
    for language in languages:
        side = languages.index(language)
        if found and not any(side_of_code(code, languages) == side for code in found):
            codes = ", ".join(sorted(code or "(none)" for code in found))
            raise BadInput(
                f"{label}: no text in {language}; the languages of the file are {codes}: "
                "name two of them with --languages"
            )


def stated_codes(head: bytes) -> tuple[str, str] | None:
    """Return the codes of source and target that the beginning of a TMX file states.

    None if its header names no source language, or its units have more than one other language.
    """
    text = _decoder(head).decode(head)
    if (stated := _SOURCE_LANGUAGE.search(text)) is None:
        return None
    others = {code for code in _VARIANT_LANGUAGE.findall(text) if code.lower() != stated[1].lower()}
    return (stated[1], others.pop()) if len(others) == 1 else None


def variants_of_unit(unit: str, doctype: str) -> list[tuple[str, str]]:
    """Return the code and text of each variant of a unit.

    Args:
        doctype: the declaration of the entities that the unit may use, or empty.

    Raises:
        ExpatError: the unit is malformed.
    """
    return _Unit(doctype).parse(unit)


def _units(file: Path) -> Iterator[str]:
    """Yield the document type declaration, if it declares entities, and each unit, as they stand.

    Raises:
        ValueError: the file breaks off.
    """
    with file.open("rb") as opened:
        for kind, text in pieces(opened):
            if kind != "between":
                yield text


def pieces(file: IO[bytes]) -> Iterator[tuple[Literal["doctype", "unit", "between"], str]]:
    """Yield each unit of a file, and what stands between units, as they stand.

    A document type declaration that declares entities comes first, by itself: it stands again in
    what is before the first unit.

    Raises:
        ValueError: the file breaks off.
    """
    head = file.read(_BLOCK)
    decoder = _decoder(head)
    text = decoder.decode(head)
    beginning, _, _ = text.partition("<body")
    if declared := _INTERNAL_SUBSET.search(beginning):
        # Without a reference to a DTD, for whose sake Expat would skip unknown entities.
        yield "doctype", f"<!DOCTYPE tu {declared[1]}>"
    number, ended, is_last = 0, False, len(head) < _BLOCK
    while True:
        position = 0
        for match in _COMMENT_OR_UNIT.finditer(text):
            if "<!--" in text[position : match.start()] and not is_last:
                break  # a comment that ends in a later block
            if match["tag"]:
                number += 1
                yield "between", text[position : match.start()]
                yield "unit", match[0]
            else:
                yield "between", text[position : match.end()]
            position = match.end()
        text = text[position:]
        ended = ended or _END.search(text) is not None
        if is_last:
            break
        if len(text) > _LONGEST_UNIT:
            raise ValueError(f"unit {number + 1} does not end")
        size = max(_BLOCK, len(text))  # so that a huge unit is not searched often
        block = file.read(size)
        is_last = len(block) < size
        text += decoder.decode(block, is_last)
    yield "between", text
    if not ended:
        raise ValueError(f"it breaks off after unit {number:,}")


def _decoder(head: bytes) -> codecs.IncrementalDecoder:
    """Return a decoder for a file that begins so."""
    declared = _DECLARED_ENCODING.search(head[:200])
    name = declared[1].decode() if declared else "utf-8"
    # What declares to be UTF-16, and has its declaration in ASCII, has been converted since.
    name = "utf-8-sig" if name.lower().startswith(("utf-16", "utf-8", "ucs-2")) else name
    try:
        return codecs.getincrementaldecoder(name)("replace")
    except LookupError:
        raise ValueError(f"unknown encoding {name}") from None


class _Unit:
    """Parser of a unit, which gives the code and text of each of its variants.

    Args:
        doctype: the declaration of the entities that the unit may use, or empty.
    """

    def __init__(self, doctype: str) -> None:
        self._variants: list[tuple[str, str]] = []
        self._code = ""
        self._in_segment = False
        self._open: list[bool] = []  # for each open element of the segment, whether it is text
        self._text: list[str] = []
        # Expat fetches nothing from outside and limits the expansion of entities.
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        if doctype:
            self._parser.Parse(doctype)

    def parse(self, unit: str) -> list[tuple[str, str]]:
        """Return the code and text of each variant."""
        self._parser.Parse(unit, True)
        return self._variants

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if self._in_segment:
            # The text of a sub-flow, such as a footnote, is text in the midst of native code.
            is_line_break = name == "ph" and attributes.get("type") == "lb"
            if name == "sub" or is_line_break:
                self._text.append("\0")
            self._open.append(name not in _NATIVE_CODE and (name == "sub" or self._is_text))
        elif name == "tuv":
            named = {key.lower(): value for key, value in attributes.items()}
            self._code = (named.get("xml:lang") or named.get("lang") or "").strip()
        elif name == "seg":
            self._in_segment = True

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if self._open:
            self._open.pop()
            if name == "sub":
                self._text.append("\0")
        elif name == "seg":
            self._variants.append((self._code, _spaced("".join(self._text))))
            self._in_segment, self._text = False, []

    def _characters(self, text: str) -> None:
        if self._in_segment and self._is_text:
            self._text.append(text)

    @property
    def _is_text(self) -> bool:
        return not self._open or self._open[-1]


def _spaced(text: str) -> str:
    """Return a text with a space at each NUL (the edge of a sub-flow, a line break) without one."""
    if "\0" not in text:
        return text
    text = re.sub(r"(\s)\0+|\0+(\s)", r"\1\2", text)
    return text.strip("\0").replace("\0", " ")
