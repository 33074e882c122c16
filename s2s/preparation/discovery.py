"""Discovery of sources: which files and datasets the user means, and what is to be read of them."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

from s2s.errors import BadInput
from s2s.files import new_file
from s2s.preparation.archives import (
    is_archive,
    is_compressed,
    list_members,
    refuse_unreadable,
)
from s2s.preparation.file_names import (
    SPLIT_NAMES,
    ParallelFiles,
    is_data,
    is_of_one_language,
    may_be_parallel,
    split_of_name,
)
from s2s.preparation.readers import FORMATS, root_cause
from s2s.preparation.recognition import (
    detect_format,
    encoding_hint,
    format_of_name,
    is_archive_name,
    known_suffixes,
    plain_head,
    refuse_carriage_returns,
)
from s2s.preparation.sources import Origin, Source
from s2s.storage import filesystem
from s2s.text.encodings import (
    wide_encoding,
)

# Bytes of a plain file of lines that are one origin. The result depends on it: no setting.
RANGE_BYTES = 16 << 20

_MEMBER_BYTES = 4096  # of a file in an archive, by which its format is recognised
_SHOWN = 5  # names in a message


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
        files: list[_File] = []
        for name in names:
            if name == "demo":
                origins.append(Origin(split, "demo", name, ()))
            elif name.startswith("hub:"):
                origins.append(_hub_origin(name, split))
            elif "://" in name:
                is_named = not _is_pattern(name)
                copies = _download(name, download_folder)
                files += [_File(path, path.name, is_named) for path in copies]
            else:
                files += _local_files(name, source.languages)
        found = list(_origins_of_files(files, source, split))
        if not split and not any(file.is_named for file in files):
            _require_training_files(found, names)
        of_files = _by_split(found, split)
        if files and not of_files:
            raise BadInput(f"{' '.join(names)}: no rows for the split {split!r}")
        origins += of_files
    return origins


def describe_origins(origins: Sequence[Origin]) -> str:
    """Return what is read, for a message: files by their format, with the splits they are for."""
    labels: dict[str, list[str]] = {}
    for origin in origins:
        kind = FORMATS[origin.format].title
        kind += f", {origin.encoding.upper()}" if origin.encoding else ""
        kind += f", for {origin.split}" if origin.split else ""
        own = labels.setdefault(kind, [])
        if origin.label not in own:
            own.append(origin.label)
    return ", ".join(
        f"{', '.join(own[:_SHOWN])}{f' and {len(own) - _SHOWN:,} more' if own[_SHOWN:] else ''} "
        f"({kind})"
        for kind, own in labels.items()
    )


def local_files(source: Source) -> list[Path]:
    """Return the local files that a source names; of a saved dataset, each of its files.

    Raises:
        BadInput: a file does not exist.
    """
    found: list[Path] = []
    for name in (*source.source, *source.valid, *source.test):
        if name == "demo" or name.startswith("hub:") or "://" in name:
            continue
        for path in (file.path for file in _local_files(name, source.languages)):
            found += path.rglob("*.arrow") if path.is_dir() else [path]
    return found


def source_bytes(source: Source) -> int:
    """Return the size in bytes of the local files that a source names.

    Raises:
        BadInput: a file does not exist.
    """
    return sum(file.stat().st_size for file in local_files(source))


# ---- names to files -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """A file that the user means, or a directory saved by datasets."""

    path: Path
    name: str  # below the folder that the user names
    is_named: bool = False  # whether the user names the file itself


def _local_files(name: str, languages: tuple[str, str]) -> list[_File]:
    """Return what a path or pattern names; the name of an existing file is never a pattern."""
    path = Path(name).expanduser()
    if path.is_file() or (path.is_dir() and _is_saved_dataset(path)):
        return [_File(path.absolute(), path.name, is_named=True)]
    if path.is_dir():
        return _files_of_folder(path.absolute(), languages)
    if _is_pattern(name):
        anchor = Path(path.anchor or ".")
        matches = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
        if not matches:
            raise BadInput(f"{name}: no such file, and no file matches it as a pattern")
        return [
            _File(match.absolute(), match.name)
            for match in matches
            if match.is_file() or _is_saved_dataset(match)
        ]
    if name == "-" or path.exists():
        raise BadInput(f"{name}: this is a pipe or device; save what it gives to a file first")
    raise BadInput(f"{name}: no such file")


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _files_of_folder(folder: Path, languages: tuple[str, str]) -> list[_File]:
    """Return the files in a folder and in its subfolders for splits that may hold rows.

    Raises:
        BadInput: there is none.
    """
    subfolders = [each for each in folder.iterdir() if each.name.lower() in {*SPLIT_NAMES, "data"}]
    inside = [file for each in (folder, *subfolders) if each.is_dir() for file in each.iterdir()]
    names = sorted(str(file.relative_to(folder)) for file in inside if file.is_file())
    parallel = ParallelFiles(names, languages)
    known = [
        name
        for name in names
        if is_data(name)
        and (
            format_of_name(name)
            or is_archive_name(name)
            or parallel.pair(name)
            or is_of_one_language(name, languages)
        )
    ]
    if not known:
        raise BadInput(
            f"{folder}: no file of a known format ({known_suffixes()}) in the directory; it "
            f"contains {_some(names)}"
        )
    return [_File(folder / name, name) for name in known]


def _download(uri: str, folder: Path) -> list[Path]:
    """Copy the files at a URI to `folder`, and return the copies."""
    try:
        files = _files_in_s3(uri) if uri.startswith("s3://") else fsspec.open_files(uri, "rb")
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


def _files_in_s3(uri: str) -> list[fsspec.core.OpenFile]:
    """Return the files at a URI of S3, which may be a pattern."""
    arrow, path = filesystem(uri)
    system = ArrowFSWrapper(arrow)
    paths = system.glob(path) if _is_pattern(path) else [path] if system.isfile(path) else []
    return [fsspec.core.OpenFile(system, each) for each in sorted(paths)]


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


# ---- files to origins ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """An origin, with the split that its name says it holds, or an empty one."""

    origin: Origin
    split: str


def _by_split(found: list[_Found], split: str) -> list[Origin]:
    """Return the origins of a split; "" stands for those whose rows are to be split.

    Files for held-out splits among others are taken for these splits. If the user names the split,
    only its files are taken of those that come with `train`.
    """
    splits = {each.split for each in found}
    if split:
        wanted = {split} if "train" in splits else {split, ""} if split in splits else splits
        return [replace(each.origin, split=split) for each in found if each.split in wanted]
    is_saved = any(each.origin.format == "saved" for each in found)
    has_rest = is_saved or bool(splits & {"", "train"})
    return [
        replace(each.origin, split=each.split)
        if has_rest and each.split in ("valid", "test")
        else each.origin
        for each in found
    ]


def _require_training_files(found: list[_Found], names: tuple[str, ...]) -> None:
    """Refuse folders and patterns that hold several held-out splits and nothing else.

    Raises:
        BadInput: there is nothing to train on.
    """
    splits = {each.split for each in found}
    if splits == {"valid", "test"} and all(each.origin.format != "saved" for each in found):
        raise BadInput(
            f"{' '.join(names)}: by their names, all files are for valid or test, and none is to "
            "train on; name the files themselves to split their rows"
        )


class _Neighbours:
    """Parallel files of the folders in which files are, each listed once, if at all."""

    def __init__(self, languages: tuple[str, str]) -> None:
        self._languages = languages
        self._folders: dict[Path, ParallelFiles] = {}

    def of(self, path: Path) -> ParallelFiles:
        """Return the parallel files beside a file, which may be none by its name."""
        if not may_be_parallel(path.name, self._languages):
            return ParallelFiles((), self._languages)
        folder = path.parent
        if folder not in self._folders:
            names = (file.name for file in folder.iterdir())
            self._folders[folder] = ParallelFiles(names, self._languages)
        return self._folders[folder]


def _origins_of_files(files: list[_File], source: Source, named_split: str) -> Iterator[_Found]:
    """Yield the origins of files.

    Args:
        named_split: the split for which the user names the files, if any: a file that is named
            itself is for it, whatever its own name says.
    """
    seen: set[Path] = set()
    languages, neighbours = source.languages, _Neighbours(source.languages)
    for file in files:
        path = file.path
        if path in seen:
            continue
        seen.add(path)
        split = split_of_name(file.name, languages)
        split = named_split if named_split and file.is_named else split
        if path.is_dir():
            for found in _saved_origins(path):
                yield found if found.split else replace(found, split=split)
        elif (pair := _parallel_files(path, languages, neighbours)) is not None:
            seen.update(pair)
            yield _Found(_moses_origin(pair, languages), split)
        elif not path.stat().st_size:
            raise BadInput(f"{path}: the file is empty")
        elif is_archive(path, head := plain_head(path)):
            for found in _archive_origins(path, source):
                yield found if found.split else replace(found, split=split)
        else:
            for origin in _file_origins(path, head, languages, neighbours):
                yield _Found(origin, split)


def _parallel_files(
    path: Path, languages: tuple[str, str], neighbours: _Neighbours
) -> tuple[Path, Path] | None:
    """Return two parallel files, source first, if `path` is one of them.

    Raises:
        BadInput: it is one by its name, and the other is not there.
    """
    parallel = neighbours.of(path)
    pair = parallel.pair(path.name)
    if is_of_one_language(path.name, languages):
        if pair is None:
            other = path.with_name(parallel.missing(path.name) or "")
            raise BadInput(f"{path}: the file of the other language, {other}, is missing")
    elif pair is None or b"\t" in plain_head(path).partition(b"\n")[0]:
        return None
    return path.with_name(pair[0]), path.with_name(pair[1])


def _file_origins(
    path: Path, head: bytes, languages: tuple[str, str], neighbours: _Neighbours
) -> Iterator[Origin]:
    name, encoding = detect_format(path.name, head), wide_encoding(head)
    _refuse_one_language(path, name, head, neighbours)
    refuse_carriage_returns(path, name, head)
    origin = Origin(
        "", name, str(path), (str(path),), stamps=(_stamp(path),),
        encoding=encoding or "", hint=encoding_hint(str(path), name, head, languages),
    )  # fmt: skip
    has_rows_of_lines = FORMATS[name].has_rows_of_lines
    is_plain = encoding is None and not is_compressed(_head(path, 16))
    if is_plain and has_rows_of_lines is not None and has_rows_of_lines(path):
        yield from (replace(origin, byte_range=each) for each in _byte_ranges(path))
    else:
        yield origin


def _refuse_one_language(path: Path, name: str, head: bytes, neighbours: _Neighbours) -> None:
    """Refuse a file that is of one language by its name, without the other beside it.

    Raises:
        BadInput: it is; `fra.txt`, in which there are tabs, is none.
    """
    missing = neighbours.of(path).missing(path.name)
    if name == "tsv" and missing and b"\t" not in head.partition(b"\n")[0]:
        raise BadInput(
            f"{path}: a line holds no tab, so the file is of one language; the other one is "
            f"expected next to it, in {missing}"
        )


def _byte_ranges(path: Path) -> Iterator[tuple[int, int]]:
    """Yield ranges of whole lines of a file, which tasks can read at the same time."""
    size, begin = path.stat().st_size, 0
    with path.open("rb") as file:
        while begin < size:
            file.seek(min(begin + RANGE_BYTES, size))
            file.readline()  # the rest of the line in which the range ends
            yield begin, (begin := file.tell())


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _moses_origin(pair: tuple[Path, Path], languages: tuple[str, str]) -> Origin:
    heads = [plain_head(file) for file in pair]
    hints = [
        encoding_hint(str(file), "moses", head, languages)
        for file, head in zip(pair, heads, strict=True)
    ]
    for file, head in zip(pair, heads, strict=True):
        refuse_carriage_returns(file, "moses", head)
    return Origin(
        "", "moses", f"{pair[0]} and {pair[1].name}", tuple(map(str, pair)),
        stamps=tuple(map(_stamp, pair)), hint="; ".join(filter(None, hints)),
        encoding=max(wide_encoding(head) or "" for head in heads),
    )  # fmt: skip


def _archive_origins(path: Path, source: Source) -> Iterator[_Found]:
    """Yield the files in an archive, without those that archivers and authors add to the data."""
    members = {member.name: member for member in list_members(path, _MEMBER_BYTES)}
    names = [name for name in members if is_data(name)]
    parallel = ParallelFiles(names, source.languages)
    stamps, used, is_empty = (_stamp(path),), set[str](), True
    for name in names:
        if name in used:
            continue
        label, pair = f"{path}/{name}", parallel.pair(name)
        head = members[name].head
        if pair is None and is_of_one_language(name, source.languages):
            raise BadInput(f"{label}: the archive does not contain {parallel.missing(name)}, too")
        if pair is not None and not (name.endswith(".txt") and b"\t" in head.partition(b"\n")[0]):
            used.update(pair)
            found = Origin("", "moses", label, (str(path),), pair, stamps=stamps)
        elif format_of_name(name) is not None:
            refuse_unreadable(Path(label), head)
            known = detect_format(name, head)
            hint = encoding_hint(label, known, head, source.languages)
            found = Origin("", known, label, (str(path),), (name,), stamps=stamps, hint=hint)
        else:
            continue
        is_empty = False
        yield _Found(found, split_of_name(name, source.languages))
    if is_empty:
        inner = next((name for name in names if is_archive_name(name)), None)
        raise BadInput(
            f"{path}: no file of a known format ({known_suffixes()}) in the archive; it "
            "contains "
            + (f"the archive {inner}: unpack it first" if inner else _some(list(members)))
        )


def _saved_origins(path: Path) -> Iterator[_Found]:
    """Yield the splits of a directory saved by datasets, or all of it if it has none."""
    stamps = tuple(_stamp(file) for file in sorted(path.rglob("*.json")))
    listing = path / "dataset_dict.json"
    if not listing.is_file():
        yield _Found(Origin("", "saved", str(path), (str(path),), stamps=stamps), "")
        return
    try:
        names: list[str] = json.loads(listing.read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{listing}: {error}") from None
    known = {name: SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES}
    if not known:
        raise BadInput(f"{path}: has the splits {', '.join(names)}; expected train, valid or test")
    for name, split in known.items():
        origin = Origin("", "saved", f"{path}/{name}", (str(path / name),), stamps=stamps)
        yield _Found(origin, split)


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


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _some(names: list[str]) -> str:
    """Return the first of some names, for a message."""
    return ", ".join([*names[:_SHOWN], *(["…"] if len(names) > _SHOWN else [])]) or "nothing"
