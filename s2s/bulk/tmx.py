"""TMX 1.4: each translation unit gets a target segment, and all else stays as it is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from s2s.bulk.blocks import BYTES, Block, Fault, ReadOptions
from s2s.bulk.files import opened_input
from s2s.bulk.lines import refuse_wide
from s2s.errors import BadInput
from s2s.preparation.tmx import pieces, variants_of_unit
from s2s.preparation.variants import side_of_code
from s2s.text.encodings import SAMPLE_BYTES

_VARIANT = re.compile(
    r"""\s*<(?P<tag>(?:[\w.-]+:)?tuv)\b(?P<attributes>[^>]*)(?:(?<=/)>|>.*?</(?P=tag)\s*>)""",
    re.DOTALL,
)
_LANGUAGE = re.compile(r"""\blang\s*=\s*["']([^"']*)["']""")
_UNIT_END = re.compile(r"\s*</((?:[\w.-]+:)?)tu\s*>$")
_ENCODING = re.compile(r"""(<\?xml[^>]*?encoding\s*=\s*["'])([\w.-]+)(["'])""")


@dataclass(frozen=True)
class TmxBlock(Block[str]):
    """Units with what stands between them."""

    pieces: list[tuple[str, bool]]  # text as it stands, and whether it is a unit
    languages: tuple[str, str]

    def with_translations(self, outputs: Sequence[str | None]) -> str:
        """Return the units with their translations; one without a translation stays as it is."""
        left = iter(outputs)
        written = []
        for text, is_unit in self.pieces:
            output = next(left) if is_unit else None
            written.append(text if output is None else _with_target(text, output, self.languages))
        return "".join(written)


def read_tmx(location: str, options: ReadOptions) -> Iterator[TmxBlock]:
    """Yield the units of a TMX file as blocks; the last one has what follows them."""
    with opened_input(location) as (file, tell):
        refuse_wide(file.peek(SAMPLE_BYTES), location)
        doctype, first, begin, held, size = "", 1, 0, list[tuple[str, bool]](), 0
        texts: list[str | None] = []
        faults: list[Fault] = []
        for kind, text in _pieces(file, location):
            if kind == "doctype":
                doctype = text
                continue
            if first == 1 and not texts and not held:
                text = _ENCODING.sub(r"\g<1>UTF-8\g<3>", text, count=1)
            held.append((text, kind == "unit"))
            size += len(text)
            if kind != "unit":
                continue
            source, fault = _source(text, doctype, options.languages)
            if fault:
                faults.append(Fault(first + len(texts), fault))
            texts.append(source)
            if len(texts) == options.rows or size >= BYTES:
                taken = -begin + (begin := tell())
                yield TmxBlock(first, texts, held, options.languages, faults=faults, size=taken)
                first, texts, faults, held, size = first + len(texts), [], [], [], 0
        taken = -begin + tell()
        yield TmxBlock(first, texts, held, options.languages, faults=faults, size=taken)


def _pieces(file: IO[bytes], label: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a file.

    Raises:
        BadInput: the file breaks off.
    """
    try:
        yield from pieces(file)
    except ValueError as error:
        raise BadInput(f"{label}: {error}") from None


def _source(unit: str, doctype: str, languages: tuple[str, str]) -> tuple[str | None, str]:
    """Return the source text of a unit, or what is wrong with the unit."""
    try:
        variants = variants_of_unit(unit, doctype)
    except expat.ExpatError as error:
        return None, f"is malformed ({expat.errors.messages[error.code]})"
    for code, text in variants:
        if side_of_code(code, languages) == 0:
            return text, ""
    return None, f"has no segment in {languages[0]}"


def _with_target(unit: str, translation: str, languages: tuple[str, str]) -> str:
    """Return a unit with a translation as its only segment of the target language."""

    def kept(variant: re.Match[str]) -> str:
        code = _LANGUAGE.search(variant["attributes"])
        is_target = code is not None and side_of_code(code[1].strip(), languages) == 1
        return "" if is_target else variant[0]

    unit = _VARIANT.sub(kept, unit)
    end = _UNIT_END.search(unit)
    prefix = end[1] if end else ""
    beginning = unit[: end.start()] if end else unit
    tuv = f"{prefix}tuv"
    segment = f"<{prefix}seg>{escape(translation)}</{prefix}seg>"
    target = f"<{tuv} xml:lang={quoteattr(languages[1])}>{segment}</{tuv}>"
    return f"{beginning}{target}{end[0] if end else ''}"
