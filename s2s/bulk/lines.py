"""Files of lines: plain text, and JSON Lines."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from s2s.bulk.blocks import Block, Fault, ReadOptions, Tell, grouped
from s2s.bulk.columns import choose_column
from s2s.bulk.files import opened_input
from s2s.errors import BadInput
from s2s.text.encodings import SAMPLE_BYTES, probable_encoding, wide_encoding
from s2s.text.lines import raw_lines

# ---- text ----


@dataclass(frozen=True)
class TextBlock(Block[str]):
    """Lines of a text, of which only the translations are written."""

    def with_translations(self, outputs: Sequence[str | None]) -> str:
        """Return a line for each translation."""
        return "".join(f"{output or ''}\n" for output in outputs)


def read_text(location: str, options: ReadOptions) -> Iterator[TextBlock]:
    """Yield the lines of a text file as blocks."""
    with opened_input(location) as (file, tell):
        yield from text_blocks(raw_lines(file), options, location, tell)


def text_blocks(
    lines: Iterable[bytes], options: ReadOptions, label: str, tell: Tell = lambda: 0
) -> Iterator[TextBlock]:
    """Yield lines as blocks.

    Args:
        label: name of the file in messages.

    Raises:
        BadInput: the text is in UTF-16 or UTF-32.
    """
    first, begin = 1, 0
    for group in grouped(lines, options.rows):
        if first == 1:
            refuse_wide(b"\n".join(group) + b"\n", label)
        texts, faults = _decoded(group, first, options.languages[0])
        stripped = [None if text is None else text.strip() for text in texts]
        yield TextBlock(first, stripped, faults=faults, size=-begin + (begin := tell()))
        first += len(group)


def refuse_wide(head: bytes, label: str) -> None:
    """Refuse a file in which line ends are not single bytes.

    Raises:
        BadInput: the file begins as one in UTF-16 or UTF-32.
    """
    if encoding := wide_encoding(head[:SAMPLE_BYTES]):
        raise BadInput(f"{label}: line 1 {_not_utf8(encoding)}")


def _not_utf8(encoding: str) -> str:
    convert = f"iconv -f {encoding} -t UTF-8 FILE > NEW"
    return "is not UTF-8" + (encoding and f" but probably {encoding}; convert it with: {convert}")


def _decoded(lines: list[bytes], first: int, language: str) -> tuple[list[str | None], list[Fault]]:
    """Return lines as text, None for those that are not UTF-8."""
    texts: list[str | None] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines, first):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            texts.append(None)
            reason = _not_utf8(probable_encoding(line + b"\n", (language,)))
            faults.append(Fault(number, reason, is_malformed=True))
    return texts, faults


def write_text(file: IO[bytes], written: Iterable[str]) -> None:
    """Write text as it comes."""
    for text in written:
        file.write(text.encode("utf-8", "replace"))


# ---- JSON Lines ----


@dataclass(frozen=True)
class JsonBlock(Block[str]):
    """Lines with a JSON object each, which are written as they were, with one more field."""

    lines: list[str | None]  # None for a line that holds no object
    output_field: str

    def with_translations(self, outputs: Sequence[str | None]) -> str:
        """Return the objects with their translations, and an empty line for what is no object."""
        name = json.dumps(self.output_field, ensure_ascii=False)
        written = []
        for line, output in zip(self.lines, outputs, strict=True):
            if line is None:
                written.append("\n")
                continue
            beginning = line.rstrip()[:-1].rstrip()
            comma = "" if beginning.endswith("{") else ", "
            value = json.dumps(output, ensure_ascii=False)
            written.append(f"{beginning}{comma}{name}: {value}}}\n")
        return "".join(written)


def read_jsonl(location: str, options: ReadOptions) -> Iterator[JsonBlock]:
    """Yield the lines of a JSON Lines file as blocks."""
    with opened_input(location) as (file, tell):
        yield from json_blocks(raw_lines(file), options, location, tell)


def json_blocks(
    lines: Iterable[bytes], options: ReadOptions, label: str, tell: Tell = lambda: 0
) -> Iterator[JsonBlock]:
    """Yield lines as blocks, each line with a JSON object.

    Args:
        label: name of the file in messages.

    Raises:
        BadInput: the text is in UTF-16 or UTF-32, or the first object has no field to translate.
    """
    first, begin = 1, 0
    text_of: Callable[[dict[str, object]], str] | None = None
    for group in grouped(lines, options.rows):
        if first == 1:
            refuse_wide(b"\n".join(group) + b"\n", label)
        decoded, faults = _decoded(group, first, options.languages[0])
        texts: list[str | None] = [None] * len(group)
        kept: list[str | None] = [None] * len(group)
        for place, line in enumerate(decoded):
            if line is None or not line.strip():
                continue
            try:
                record = _parsed(line)
                if text_of is None:
                    text_of = _field_reader(record, options, label)
                kept[place] = line
                texts[place] = text_of(record)
            except ValueError as error:
                is_malformed = kept[place] is None
                faults.append(Fault(first + place, str(error), is_malformed))
        faults.sort(key=lambda fault: fault.row)
        size = -begin + (begin := tell())
        yield JsonBlock(first, texts, kept, options.output_column, faults=faults, size=size)
        first += len(group)


def _parsed(line: str) -> dict[str, object]:
    """Return the object of a line.

    Raises:
        ValueError: the line holds no object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ValueError("is no JSON object")
    return record


def _field_reader(
    record: dict[str, object], options: ReadOptions, label: str
) -> Callable[[dict[str, object]], str]:
    """Return what gives the text of an object, given the first object of the file.

    Raises:
        BadInput: no field can be chosen, or the output field is in use.
    """
    if options.output_column in record:
        raise BadInput(
            f"{label}: the objects have a field {options.output_column} already; "
            "name another one with --output-column"
        )
    name = options.column or choose_column(list(record), options, label)
    path = name.split(".")

    def text_of(record: dict[str, object]) -> str:
        value: object = record
        for key in [name] if name in record else path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, str):
            raise ValueError(f"has no text in the field {name}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"has half a surrogate pair in the field {name}") from None
        return value

    return text_of
