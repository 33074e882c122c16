"""Where sentence pairs come from: files, archives and datasets, told apart by name and content."""

import gzip
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import fsspec

from s2s.config import Section
from s2s.errors import BadInput
from s2s.files import new_file

Kind = Literal["tsv", "csv", "jsonl", "parquet", "moses", "tmx", "po", "saved", "hub", "demo"]

SPAN = 16 << 20  # bytes of a plain file of lines that are read as one; part of the result

_SUFFIXES: dict[str, Kind] = {
    ".txt": "tsv", ".tsv": "tsv", ".tab": "tsv", ".csv": "csv", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".tmx": "tmx", ".po": "po",
}  # fmt: skip
_PARTS = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid",
    "val": "valid", "dev": "valid", "test": "test",
}  # fmt: skip


class Source(Section):
    """What the user names, and how it is to be read."""

    source: tuple[str, ...]
    """Files, directories, patterns, URIs, `hub:NAME:CONFIG` or `demo`; split into parts."""

    valid: tuple[str, ...] = ()
    """As `source`, for the part `valid` alone; its rows are taken as they are."""

    test: tuple[str, ...] = ()
    """As `source`, for the part `test` alone; its rows are taken as they are."""

    source_language: str
    target_language: str

    columns: tuple[str, str] | None = None
    """Names or numbers (from 1) of the columns of source and target."""

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language."""
        return self.source_language, self.target_language


@dataclass(frozen=True)
class Origin:
    """One thing to read: a file, two files whose lines belong together, or a dataset."""

    part: str  # valid or test where the user brings it, or "" where rows are yet to be split
    kind: Kind
    label: str  # as messages name it
    paths: tuple[str, ...]
    members: tuple[str, ...] = ()  # of the archive at paths[0]
    span: tuple[int, int] | None = None  # bytes of the file, where it is read in several parts
    stamp: tuple[str, ...] = ()  # sizes and times of the files: another stamp is another origin

    def as_json(self) -> dict[str, Any]:
        """What a run folder remembers of the origin."""
        return asdict(self)


def find(source: Source, fetched: Path) -> list[Origin]:
    """The origins that a user's words mean, in a fixed order.

    Args:
        fetched: folder where files of object stores are put.

    Raises:
        BadInput: there is no such file or dataset, or it is of no known kind.
    """
    origins: list[Origin] = []
    for part in ("", "valid", "test"):
        named = getattr(source, part or "source")
        paths: list[Path] = []
        for name in named:
            if name == "demo":
                origins.append(Origin(part, "demo", name, ()))
            elif name.startswith("hub:"):
                origins.append(_hub(name, part))
            elif "://" in name:
                paths += _fetch(name, fetched)
            else:
                paths += _local(name, source.languages)
        found = list(_origins(paths, part, source))
        if paths and not found:
            raise BadInput(f"{' '.join(named)}: nothing in it for the part {part!r}")
        origins += found
    return origins


def size(source: Source) -> int:
    """Bytes of the local files that the user's words mean.

    Raises:
        BadInput: there is no such file.
    """
    total = 0
    for name in (*source.source, *source.valid, *source.test):
        if name == "demo" or name.startswith("hub:") or "://" in name:
            continue
        for path in _local(name, source.languages):
            files = path.rglob("*.arrow") if path.is_dir() else [path]
            total += sum(file.stat().st_size for file in files)
    return total


def _local(name: str, languages: tuple[str, str]) -> list[Path]:
    """The files that a path or pattern means. A file's own name is never taken for a pattern."""
    path = Path(name).expanduser()
    if path.is_file() or (path.is_dir() and _is_saved(path)):
        return [path.absolute()]
    if path.is_dir():
        found = sorted(f for f in path.iterdir() if f.is_file() and _is_known(f.name, languages))
        if not found:
            raise BadInput(f"{name}: a directory without a file of a known kind ({_known()})")
        return [file.absolute() for file in found]
    if any(mark in name for mark in "*?["):
        anchor = Path(path.anchor or ".")
        found = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
        if not found:
            raise BadInput(f"{name}: no such file, and none of that pattern")
        return [file.absolute() for file in found if file.is_file() or _is_saved(file)]
    raise BadInput(f"{name}: no such file")


def _fetch(uri: str, folder: Path) -> list[Path]:
    """Files of an object store, or of anything else that fsspec reaches, copied to `folder`."""
    try:
        files = fsspec.open_files(uri, "rb")
        if not files:
            raise BadInput(f"{uri}: no such file, and none of that pattern")
        paths = []
        for file in files:
            # Files of one remote folder lie beside each other here, too: Moses pairs must.
            remote_home = f"{uri.rpartition('/')[0]} {Path(file.path).parent}"
            home = hashlib.sha256(remote_home.encode()).hexdigest()[:12]
            copy = folder / home / Path(file.path).name
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                with new_file(copy) as scratch, file as remote, scratch.open("wb") as local:
                    shutil.copyfileobj(remote, local, 1 << 20)
            paths.append(copy)
    except BadInput:
        raise
    except ImportError as error:
        raise BadInput(f"{uri}: {error}") from None
    except Exception as error:  # every store has errors of its own
        raise BadInput(f"{uri} cannot be read: {cause(error)}") from None
    return paths


def _hub(name: str, part: str) -> Origin:
    """`hub:NAME`, `hub:NAME:CONFIG` or `hub:NAME:CONFIG:SPLIT`; NAME may be a local folder."""
    fields = name.removeprefix("hub:").split(":")
    if not fields[0] or len(fields) > 3:
        raise BadInput(f"{name}: hub:NAME:CONFIG is expected, or hub:NAME:CONFIG:SPLIT")
    dataset, config, split = [*fields, "", ""][:3]
    wanted = {"": "train", "valid": "validation", "test": "test"}[part]
    return Origin(part, "hub", name, (dataset, config, split or wanted))


def _origins(paths: list[Path], part: str, source: Source) -> Iterator[Origin]:
    """What some files are; those of Moses format come in pairs."""
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            continue
        seen.add(path)
        stamp = _stamp(path)
        if path.is_dir():
            yield from _saved(path, part)
        elif (pair := _moses_pair(path.name, source.languages)) is not None:
            partner = [path.with_name(name) for name in pair]
            for file in partner:
                if not file.is_file():
                    raise BadInput(f"{path}: its other language, {file}, is not there")
            seen.update(partner)
            stamps = tuple(_stamp(file) for file in partner)
            label = f"{partner[0]} and {partner[1].name}"
            yield Origin(part, "moses", label, tuple(map(str, partner)), stamp=stamps)
        elif not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty")
        elif zipfile.is_zipfile(path) or path.suffix == ".zip" or _head(path, 4) == b"PK\x03\x04":
            yield from _members(path, part, source)
        else:
            kind = _kind(path)
            origin = Origin(part, kind, str(path), (str(path),), stamp=(stamp,))
            if kind in ("tsv", "jsonl") and _head(path, 2) != b"\x1f\x8b":
                yield from (replace(origin, span=span) for span in _spans(path))
            else:
                yield origin


def _spans(path: Path) -> Iterator[tuple[int, int]]:
    """Byte ranges of a file of lines that tasks can read at the same time."""
    size, begin = path.stat().st_size, 0
    with path.open("rb") as file:
        while begin < size:
            file.seek(min(begin + SPAN, size))
            file.readline()  # the rest of the line that the range ends in
            yield begin, (begin := file.tell())


def _members(path: Path, part: str, source: Source) -> Iterator[Origin]:
    """What a zip holds, but for what archivers and authors put beside the data."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                info.filename
                for info in archive.infolist()
                if info.file_size
                and not info.filename.startswith("__MACOSX/")
                and not Path(info.filename).name.startswith(("_", "."))
            )
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"{path}: not a readable zip file ({error})") from None
    stamp, found, used = (_stamp(path),), [], set[str]()
    for name in names:
        if name in used:
            continue
        label = f"{path}/{name}"
        if (pair := _moses_pair(name, source.languages)) is not None:
            if not set(pair) <= set(names):
                raise BadInput(f"{label}: the zip does not hold {' and '.join(pair)}")
            used.update(pair)
            found.append(Origin(part, "moses", label, (str(path),), pair, stamp=stamp))
        elif (kind := _kind_of_name(name)) is not None:
            found.append(Origin(part, kind, label, (str(path),), (name,), stamp=stamp))
    if not found:
        inside = ", ".join(names[:5]) or "nothing"
        raise BadInput(
            f"{path}: no file of a known kind ({_known()}) in the zip; it holds {inside}"
        )
    yield from found


def _saved(path: Path, part: str) -> Iterator[Origin]:
    """A directory saved by datasets: its own splits are parts, where it has several."""
    stamps = tuple(_stamp(file) for file in sorted(path.rglob("*.json")))
    listing = path / "dataset_dict.json"
    if not listing.is_file():
        yield Origin(part, "saved", str(path), (str(path),), stamp=stamps)
        return
    try:
        splits: list[str] = json.loads(listing.read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{listing}: {error}") from None
    known = {split: _PARTS[split] for split in splits if split in _PARTS}
    if not known:
        raise BadInput(f"{path}: splits {', '.join(splits)}; train, valid or test are expected")
    for split, own in known.items():
        if part and own != part:
            continue
        given = part or ("" if own == "train" else own)
        yield Origin(given, "saved", f"{path}/{split}", (str(path / split),), stamp=stamps)


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _moses_pair(name: str, languages: tuple[str, str]) -> tuple[str, str] | None:
    """The names of two files whose lines belong together, if `name` is one of them."""
    packed = ".gz" if name.endswith(".gz") else ""
    stem, _, ending = name.removesuffix(packed).rpartition(".")
    if not stem or ending not in languages:
        return None
    source, target = (f"{stem}.{language}{packed}" for language in languages)
    return source, target


def _kind_of_name(name: str) -> Kind | None:
    return _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix.lower())


def _is_known(name: str, languages: tuple[str, str]) -> bool:
    known = _kind_of_name(name) or _moses_pair(name, languages) or name.endswith(".zip")
    return bool(known) and not name.startswith(("_", "."))


def _known() -> str:
    return " ".join([*_SUFFIXES, ".zip", ".gz"])


def _kind(path: Path) -> Kind:
    """What a file is: by its content where that is plain to see, else by its name."""
    try:
        packed = _head(path, 2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as plain:
            head = plain.read(4096)
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"PAR1"):
        return "parquet"
    if b"<tmx" in text:
        return "tmx"
    named = _kind_of_name(path.name) or "tsv"
    if text.startswith(b'{"') and named == "tsv":
        return "jsonl"
    if b"\nmsgid " in b"\n" + text and named == "tsv":
        return "po"
    return named


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def cause(error: BaseException) -> str:
    """The first fault of a chain of errors, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
