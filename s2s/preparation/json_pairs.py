"""Sentence pairs in JSON, and in nested columns of tables."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from s2s.errors import BadInput
from s2s.preparation.columns import named_columns
from s2s.preparation.file_names import SPLIT_NAMES
from s2s.preparation.sources import Source
from s2s.preparation.variants import Row, rows_of_variants

_DEEPEST = 4  # objects within each other that are searched
_TEXT_FIELDS = ("text", "value", "sentence")
_SURROGATE = re.compile("[\ud800-\udfff]")


class PairFinder:
    """Finds the pairs in records: in JSON objects, or in rows of a table.

    A pair is two fields with the names of the columns. Each holds a text, an object with a text, or
    a list of texts: several references of one source, or parallel lists. The fields may be those of
    an object or of a list of objects within the record, as in `translation`.

    Args:
        label: name of the file in messages.
    """

    def __init__(self, source: Source, label: str) -> None:
        self._source = source
        self._label = label
        self._columns: dict[tuple[str, ...], tuple[str, str] | None] = {}
        self._found = False
        self._example: Mapping[str, object] | None = None  # the first record without a pair

    def rows(self, record: object) -> list[Row]:
        """Return the rows of a record: at least one, if only to be counted."""
        if not isinstance(record, Mapping):
            return [("", "", "malformed")]
        rows = self._rows(record, _DEEPEST)
        if rows is None:
            self._example = self._example or record
            return [("", "", "columns")]
        self._found = self._found or any(not drop for _, _, drop in rows)
        return rows

    def check(self) -> None:
        """Refuse a file whose records hold no pair.

        Raises:
            BadInput: no record held one; the message has the names of the first.
        """
        if self._found or self._example is None:
            return
        names = list(_names(self._example))
        named_columns(names, self._source, self._label)
        expected = " and ".join(self._source.columns or self._source.languages)
        raise BadInput(
            f"{self._label}: the fields {expected} hold no text; name two with --columns"
        )

    def _rows(self, record: Mapping[str, object], depth: int) -> list[Row] | None:
        translation = record.get("translation")
        if isinstance(translation, Mapping) and (rows := self._rows(translation, depth - 1)):
            return rows
        codes = record.get("language")
        if isinstance(codes, list) and isinstance(translation, list):
            if len(codes) != len(translation):
                return None
            variants = zip(map(str, codes), map(_clean, translation), strict=True)
            return rows_of_variants(variants, self._source.languages)
        if (names := self._pair_of_names(tuple(record))) is not None:
            return _rows_of_sides(record[names[0]], record[names[1]])
        if not depth:
            return None
        found = [
            self._rows(inner, depth - 1)
            for value in record.values()
            for inner in (value if isinstance(value, list) else [value])
            if isinstance(inner, Mapping)
        ]
        if not any(found):
            return None
        return [row for rows in found for row in rows or [("", "", "columns")]]

    def _pair_of_names(self, names: tuple[str, ...]) -> tuple[str, str] | None:
        if names not in self._columns:
            try:
                one, two = named_columns(names, self._source, "")
                self._columns[names] = names[one], names[two]
            except BadInput:
                self._columns[names] = None
        return self._columns[names]


def _rows_of_sides(source: object, target: object) -> list[Row] | None:
    """Return the rows of two fields; None if they hold no text."""
    if isinstance(source, str) and isinstance(target, str):
        return [(_clean(source), _clean(target), "")]
    if (
        isinstance(source, Mapping)
        and isinstance(target, Mapping)
        and not _has_text(source, target)
    ):
        # As pandas writes columns: the number of the row is the name of the cell.
        source, target = list(source.values()), [target.get(name) for name in source]
    sources, targets = _texts(source), _texts(target)
    if sources is None or targets is None:
        return None
    if len(sources) != len(targets):
        if not (isinstance(source, list) and isinstance(target, list)):
            sources = sources * len(targets) if len(sources) == 1 else sources
            targets = targets * len(sources) if len(targets) == 1 else targets
        if len(sources) != len(targets):
            return None
    return [(one, two, "") for one, two in zip(sources, targets, strict=True)]


def _texts(value: object) -> list[str] | None:
    """Return the texts of a field; None if it holds another thing."""
    values = value if isinstance(value, list) and value else [value or ""]
    texts = []
    for each in values:
        if isinstance(each, Mapping):
            each = next((each[name] for name in _TEXT_FIELDS if name in each), each)
        if not isinstance(each, str | None):
            return None
        texts.append(_clean(each))
    return texts


def _has_text(*values: Mapping[str, object]) -> bool:
    return all(any(name in value for name in _TEXT_FIELDS) for value in values)


def _clean(text: object) -> str:
    """Return a text, with U+FFFD for half of a surrogate pair, which JSON can hold."""
    return _SURROGATE.sub("\ufffd", text) if isinstance(text, str) else ""


def _names(record: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the names of the fields of a record, and of objects in it: `data.id`."""
    for name, value in record.items():
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, Mapping) and prefix.count(".") < _DEEPEST:
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


# ---- documents ----------------------------------------------------------------------------------


def has_json_lines(file: Path) -> bool:
    """Return whether the lines of a file are JSON values, rather than parts of one."""
    with file.open("rb") as opened:
        first, second = _next_line(opened), _next_line(opened)
    if _is_json(first):
        return bool(second)
    # Of lines, the first may be broken; the first of a document opens what comes next.
    return first.rstrip()[-1:] not in (b"[", b"{", b",", b":") and _is_json(second)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _next_line(file: IO[bytes]) -> bytes:
    """Return the next line that is not blank; empty at the end of the file."""
    return next((line for line in file if line.strip()), b"")


def records_of_document(text: str, label: str) -> Sequence[object]:
    """Return the records of a JSON document: the elements of its list, or else itself.

    Several documents may follow each other.

    Raises:
        ValueError: the text is no JSON.
        BadInput: it holds several splits, or columns of different length.
    """
    records: list[object] = []
    decoder, position = json.JSONDecoder(), 0
    text = text.strip()
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        records += value if isinstance(value, list) else [value]
        while position < len(text) and text[position].isspace():
            position += 1
    for record in records:
        if isinstance(record, Mapping):
            _check_document(record, label)
    return records


def _check_document(record: Mapping[str, object], label: str) -> None:
    lengths = {name: len(value) for name, value in record.items() if isinstance(value, list)}
    parts = {SPLIT_NAMES[name.lower()] for name in record if name.lower() in SPLIT_NAMES}
    if len(parts) > 1:
        raise BadInput(
            f"{label}: holds the splits {', '.join(sorted(parts))}; save each in a file of its own"
        )
    if len(lengths) == 2 == len(record) and len(set(lengths.values())) > 1:
        counts = " and ".join(f"{count:,} in {name}" for name, count in lengths.items())
        raise BadInput(f"{label}: columns of different length: {counts}")
