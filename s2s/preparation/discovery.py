"""Discovery of sources: which files and datasets the user means, and what format each has."""

import gzip
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec

from s2s.errors import BadInput
from s2s.files import new_file
from s2s.preparation.readers import FORMATS, root_cause
from s2s.preparation.sources import Origin, Source
from s2s.text.languages import find_code

# Bytes of a plain file of lines that are one origin. The result depends on it: no setting.
RANGE_BYTES = 16 << 20

# Splits of a saved dataset, by the names in use.
_SPLIT_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid",
    "val": "valid", "dev": "valid", "test": "test",
}  # fmt: skip


def find_origins(source: Source, download_folder: Path) -> list[Origin]:
    """Return the origins that a source names, in a fixed order.

    Args:
        download_folder: folder for copies of files in object stores.

    Raises:
        BadInput: a file or dataset does not exist, or its format is not known.
    """
    origins: list[Origin] = []
    for split in ("", "valid", "test"):
        names = getattr(source, split or "source")
        paths: list[Path] = []
        for name in names:
            if name == "demo":
                origins.append(Origin(split, "demo", name, ()))
            elif name.startswith("hub:"):
                origins.append(_hub_origin(name, split))
            elif "://" in name:
                paths += _download(name, download_folder)
            else:
                paths += _local_paths(name, source.languages)
        of_paths = list(_origins_of_paths(paths, split, source))
        if paths and not of_paths:
            raise BadInput(f"{' '.join(names)}: no rows for the split {split!r}")
        origins += of_paths
    return origins


def source_bytes(source: Source) -> int:
    """Return the size in bytes of the local files that a source names.

    Raises:
        BadInput: a file does not exist.
    """
    total = 0
    for name in (*source.source, *source.valid, *source.test):
        if name == "demo" or name.startswith("hub:") or "://" in name:
            continue
        for path in _local_paths(name, source.languages):
            files = path.rglob("*.arrow") if path.is_dir() else [path]
            total += sum(file.stat().st_size for file in files)
    return total


# ---- names to paths -----------------------------------------------------------------------------


def _local_paths(name: str, languages: tuple[str, str]) -> list[Path]:
    """Return what a path or pattern names; the name of an existing file is never a pattern."""
    path = Path(name).expanduser()
    if path.is_file() or (path.is_dir() and _is_saved_dataset(path)):
        return [path.absolute()]
    if path.is_dir():
        within = sorted(file for file in path.iterdir() if file.is_file())
        names = [file.name for file in within]
        files = [file for file in within if _has_format(file.name, languages, names)]
        if not files:
            raise BadInput(f"{name}: no file of a known format ({_suffixes()}) in the directory")
        return [file.absolute() for file in files]
    if any(mark in name for mark in "*?["):
        anchor = Path(path.anchor or ".")
        matches = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
        if not matches:
            raise BadInput(f"{name}: no such file, and no file matches it as a pattern")
        return [
            match.absolute() for match in matches if match.is_file() or _is_saved_dataset(match)
        ]
    raise BadInput(f"{name}: no such file")


def _download(uri: str, folder: Path) -> list[Path]:
    """Copy the files at a URI that fsspec can open to `folder`, and return the copies."""
    try:
        files = fsspec.open_files(uri, "rb")
        if not files:
            raise BadInput(f"{uri}: no such file, and no file matches it as a pattern")
        copies = []
        for file in files:
            # Files of one remote folder stay together, as Moses files must.
            remote_folder = f"{uri.rpartition('/')[0]} {Path(file.path).parent}"
            name = hashlib.sha256(remote_folder.encode()).hexdigest()[:12]
            copy = folder / name / Path(file.path).name
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                with new_file(copy) as scratch, file as remote, scratch.open("wb") as local:
                    shutil.copyfileobj(remote, local, 1 << 20)
            copies.append(copy)
    except BadInput:
        raise
    except ImportError as error:
        raise BadInput(f"{uri}: {error}") from None
    except Exception as error:  # every store has errors of its own
        raise BadInput(f"{uri} cannot be read: {root_cause(error)}") from None
    return copies


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


# ---- paths to origins ---------------------------------------------------------------------------


def _origins_of_paths(paths: list[Path], split: str, source: Source) -> Iterator[Origin]:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():
            yield from _saved_origins(path, split)
        elif (
            pair := _moses_pair(
                path.name, source.languages, (file.name for file in path.parent.iterdir())
            )
        ) is not None:
            files = [path.with_name(name) for name in pair]
            seen.update(files)
            yield _moses_origin(path, files, split)
        elif not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty")
        elif zipfile.is_zipfile(path) or path.suffix == ".zip" or _head(path, 4) == b"PK\x03\x04":
            yield from _zip_origins(path, split, source)
        else:
            yield from _file_origins(path, split)


def _file_origins(path: Path, split: str) -> Iterator[Origin]:
    name = _detect_format(path)
    origin = Origin(split, name, str(path), (str(path),), stamps=(_stamp(path),))
    if FORMATS[name].splittable and not _is_gzip(path):
        yield from (replace(origin, byte_range=each) for each in _byte_ranges(path))
    else:
        yield origin


def _byte_ranges(path: Path) -> Iterator[tuple[int, int]]:
    """Yield ranges of whole lines of a file, which tasks can read at the same time."""
    size, begin = path.stat().st_size, 0
    with path.open("rb") as file:
        while begin < size:
            file.seek(min(begin + RANGE_BYTES, size))
            file.readline()  # the rest of the line in which the range ends
            yield begin, (begin := file.tell())


def _moses_origin(path: Path, files: list[Path], split: str) -> Origin:
    for file in files:
        if not file.is_file():
            raise BadInput(f"{path}: the file of the other language, {file}, is missing")
    label = f"{files[0]} and {files[1].name}"
    stamps = tuple(_stamp(file) for file in files)
    return Origin(split, "moses", label, tuple(map(str, files)), stamps=stamps)


def _zip_origins(path: Path, split: str, source: Source) -> Iterator[Origin]:
    """Yield the files in a zip, without those that archivers and authors add to the data."""
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
    stamps, origins, used = (_stamp(path),), [], set[str]()
    for name in names:
        if name in used:
            continue
        label = f"{path}/{name}"
        if (pair := _moses_pair(name, source.languages, names)) is not None:
            if not set(pair) <= set(names):
                raise BadInput(f"{label}: the zip does not contain both {' and '.join(pair)}")
            used.update(pair)
            origins.append(Origin(split, "moses", label, (str(path),), pair, stamps=stamps))
        elif (known := _format_of_name(name)) is not None:
            origins.append(Origin(split, known, label, (str(path),), (name,), stamps=stamps))
    if not origins:
        content = ", ".join(names[:5]) or "nothing"
        raise BadInput(
            f"{path}: no file of a known format ({_suffixes()}) in the zip; it contains {content}"
        )
    yield from origins


def _saved_origins(path: Path, split: str) -> Iterator[Origin]:
    """Yield the splits of a directory saved by datasets, or all of it if it has none."""
    stamps = tuple(_stamp(file) for file in sorted(path.rglob("*.json")))
    listing = path / "dataset_dict.json"
    if not listing.is_file():
        yield Origin(split, "saved", str(path), (str(path),), stamps=stamps)
        return
    try:
        names: list[str] = json.loads(listing.read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{listing}: {error}") from None
    known = {name: _SPLIT_NAMES[name] for name in names if name in _SPLIT_NAMES}
    if not known:
        raise BadInput(f"{path}: has the splits {', '.join(names)}; expected train, valid or test")
    for name, own in known.items():
        if split and own != split:
            continue
        provided = split or ("" if own == "train" else own)
        yield Origin(provided, "saved", f"{path}/{name}", (str(path / name),), stamps=stamps)


def _hub_origin(name: str, split: str) -> Origin:
    """Return the origin of `hub:NAME`, `hub:NAME:CONFIG` or `hub:NAME:CONFIG:SPLIT`.

    NAME may also be a local folder.
    """
    fields = name.removeprefix("hub:").split(":")
    if not fields[0] or len(fields) > 3:
        raise BadInput(f"{name}: expected hub:NAME:CONFIG or hub:NAME:CONFIG:SPLIT")
    dataset, config, hub_split = [*fields, "", ""][:3]
    default = {"": "train", "valid": "validation", "test": "test"}[split]
    return Origin(split, "hub", name, (dataset, config, hub_split or default))


# ---- formats ------------------------------------------------------------------------------------


def _detect_format(path: Path) -> str:
    """Return the format of a file: by its first bytes where they are clear, else by its name."""
    try:
        with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
            head = file.read(4096)
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    matching = [name for name, known in FORMATS.items() if known.matches and known.matches(head)]
    for name in matching:
        if FORMATS[name].overrides_suffix:
            return name
    named = _format_of_name(path.name) or "tsv"
    return matching[0] if matching and named == "tsv" else named


def _format_of_name(name: str) -> str | None:
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    return next((known for known, each in FORMATS.items() if suffix in each.suffixes), None)


def _has_format(name: str, languages: tuple[str, str], names: Iterable[str]) -> bool:
    known = _format_of_name(name) or _moses_pair(name, languages, names) or name.endswith(".zip")
    return bool(known) and not name.startswith(("_", "."))


def _moses_pair(
    name: str, languages: tuple[str, str], names: Iterable[str]
) -> tuple[str, str] | None:
    """Return the names of two parallel files, source first, if `name` is one of them.

    Args:
        names: of all files there; the codes that they end with may be spelt in any way.
    """
    stem, ending, packed = _stem_and_ending(name)
    if not stem or not any(find_code(language, (ending,)) for language in languages):
        return None
    of_ending: dict[str, str] = {}
    for other in (name, *sorted(names, key=lambda each: (not each.startswith(stem), each))):
        other_stem, other_ending, other_packed = _stem_and_ending(other)
        if (other_stem.lower(), other_packed) == (stem.lower(), packed):
            of_ending.setdefault(other_ending, other)
    found = [find_code(language, tuple(of_ending)) for language in languages]
    source, target = (
        f"{stem}.{language}{packed}" if code is None else of_ending[code]
        for code, language in zip(found, languages, strict=True)
    )
    return (source, target) if name in (source, target) else None


def _stem_and_ending(name: str) -> tuple[str, str, str]:
    """Return a name before and after its last point, without the suffix of gz, and that suffix."""
    packed = ".gz" if name.endswith(".gz") else ""
    stem, _, ending = name.removesuffix(packed).rpartition(".")
    return stem, ending, packed


def _suffixes() -> str:
    known = [suffix for each in FORMATS.values() for suffix in each.suffixes]
    return " ".join([*known, ".zip", ".gz"])


def _is_gzip(path: Path) -> bool:
    return _head(path, 2) == b"\x1f\x8b"


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
