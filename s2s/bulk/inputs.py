"""Which files are translated, and what the files with their translations are called."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pyarrow import fs

from s2s.bulk.files import has_quoted_path, joined, reading, run_folder_of, split_query
from s2s.bulk.formats import FORMATS, format_of
from s2s.errors import BadInput
from s2s.locations import absolute
from s2s.storage import filesystem, is_uri

_SAVED = ("state.json", "dataset_info.json")  # files beside the data of a saved dataset


@dataclass(frozen=True)
class InputFile:
    """A file to translate."""

    location: str  # path or URI
    name: str  # below the folder of the outputs
    format: str  # a key of `FORMATS`
    size: int
    modified: int  # time in nanoseconds, 0 if the storage does not say it

    @property
    def is_text(self) -> bool:
        """Whether its format is one of text."""
        return FORMATS[self.format].is_text

    @property
    def has_changed(self) -> bool:
        """Whether size or time of the file are not what they were when it was found."""
        system, path = filesystem(self.location)
        with reading(self.location):
            info = system.get_file_info(path)
        # A store may list a time in milliseconds, and give that of an object in seconds.
        unit = 10**9 if is_uri(self.location) else 1
        seen = info.size, (info.mtime_ns or 0) // unit
        return seen != (self.size, self.modified // unit)


@dataclass(frozen=True)
class Inputs:
    """The files that a user names."""

    files: list[InputFile]
    described: list[InputFile]  # JSON files of saved datasets, which are written along
    is_file: bool  # whether a single file is named, and not a folder, a pattern or several

    def outputs(self, output: str) -> dict[str, str]:
        """Return the location of the output of each file, by the file's name.

        A file in a folder that exists, or whose name ends in a slash, has the name of the input.

        Raises:
            BadInput: an output is an input.
        """
        names = [each.name for each in (*self.files, *self.described)]
        if self.is_file and not (output.endswith("/") or _is_folder(output)):
            found = {names[0]: output}
        else:
            if not is_uri(output) and Path(output).is_file():
                raise BadInput(f"--output {output} is a file; name a folder for several outputs")
            found = {name: joined(output, name) for name in names}
        inputs = {_absolute(each.location) for each in (*self.files, *self.described)}
        for location in found.values():
            if _absolute(location) in inputs:
                raise BadInput(f"--output {location} is the input; name another file")
        return found


def find_inputs(names: Iterable[str]) -> Inputs:
    """Return the files that paths, folders, patterns and URIs name.

    Raises:
        BadInput: a file does not exist, or two have the same name.
    """
    named = list(names)
    found = [each for name in named for each in _found(name)]
    by_name: dict[str, InputFile] = {}
    for each in found:
        other = by_name.setdefault(each.name, each)
        if other.location != each.location:
            raise BadInput(f"{other.location} and {each.location} would have the same output")
    files = list(by_name.values())
    is_file = len(named) == 1 and len(files) == 1 and files[0].location == named[0]
    data = [each for each in files if each.format]
    if not data:
        raise BadInput(f"{' '.join(named)}: there is no file to translate")
    return Inputs(data, [each for each in files if not each.format], is_file)


def refuse_nested(names: Iterable[str], inputs: Inputs, output: str) -> None:
    """Refuse an output that would be taken for an input when the command is run again.

    Args:
        names: of the inputs, as the user gives them.
        inputs: what the names stand for now.

    Raises:
        BadInput: `output` is in a folder of inputs or matches a pattern, or an input is in it.
    """
    for name in names:
        if _is_folder(name) and _lies_in(output, name):
            raise BadInput(f"--output {output} is in the folder of inputs {name}; name another")
    outputs = inputs.outputs(output)
    run = run_folder_of(next(iter(outputs.values())) if inputs.is_file else output)
    for name in () if inputs.is_file else names:
        pattern = PurePosixPath(_absolute(name)).parts
        for location in (*outputs.values(), joined(run, "run.json")):
            if _matches(PurePosixPath(_absolute(location)).parts, pattern):
                raise BadInput(
                    f"--output {output}: {location} would be found by --input {name} when you run "
                    "the command again; name another"
                )
    for file in inputs.files:
        for folder in (run,) if inputs.is_file else (output, run):
            if _lies_in(file.location, folder):
                raise BadInput(
                    f"{file.location} is in {folder}, where the translation is written; name "
                    "another --output"
                )


def _found(name: str) -> Iterator[InputFile]:
    """Yield the files that a path, folder, pattern or URI names."""
    system, path = filesystem(name)
    with reading(name):
        info = system.get_file_info(path)
    if info.type == fs.FileType.File:
        # A local path is without its links, whose names alone may tell the format.
        yield _input(name, PurePosixPath(path if is_uri(name) else name).name, info)
    elif info.type == fs.FileType.Directory:
        yield from _in_folder(name, system, path)
    elif not any(mark in path for mark in "*?["):
        if not is_uri(name) and Path(name).exists():
            raise BadInput(f"{name}: this is a pipe or device; give its text on standard input")
        raise BadInput(f"{name}: no such file")
    else:
        matches = list(_matching(name, system, path))
        if not matches:
            raise BadInput(f"{name}: no such file, and no file matches it as a pattern")
        yield from matches


def _matching(name: str, system: fs.FileSystem, path: str) -> Iterator[InputFile]:
    """Yield the files that match a pattern, with their names below the folder without marks."""
    parts = PurePosixPath(path).parts
    fixed = next(n for n, part in enumerate(parts) if any(mark in part for mark in "*?["))
    base = str(PurePosixPath(*parts[:fixed]))
    if not is_uri(name):
        pattern = str(PurePosixPath(*parts[fixed:]))
        for match in sorted(map(str, Path(base).glob(pattern))):
            info = system.get_file_info(match)
            if info.type == fs.FileType.File:
                yield _input(match, str(Path(match).relative_to(base)), info)
            elif _is_saved(system, match):
                yield from _in_folder(match, system, match, str(Path(match).relative_to(base)))
        return
    wanted = parts[fixed:]
    before, query = split_query(name)
    folder = before.rstrip("/").rsplit("/", len(wanted))[0] + query
    for info in _files_below(system, base, recursive=len(wanted) > 1 or "**" in wanted):
        below = PurePosixPath(info.path).relative_to(base)
        if _matches(below.parts, wanted):
            yield _input(joined(folder, str(below)), str(below), info)


def _matches(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Return whether the components of a path match a pattern's."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[n:], wanted[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _in_folder(
    name: str, system: fs.FileSystem, path: str, prefix: str = ""
) -> Iterator[InputFile]:
    """Yield the files of a folder and its subfolders, but for hidden ones.

    Of a directory saved by datasets, its data files, and the JSON files that describe them.
    """
    infos = _files_below(system, path, recursive=True)
    names = {PurePosixPath(info.path).relative_to(path): info for info in infos}
    data = {
        below.parent: files
        for below, info in names.items()
        if below.name == "state.json" and (files := _data_files(system, info.path)) is not None
    }
    for below, info in names.items():
        if any(part.startswith((".", "_")) for part in below.parts):
            continue
        is_saved = below.parent in data
        location = joined(name, str(below))
        output = str(PurePosixPath(prefix) / below)
        if below.name == "dataset_dict.json" or (is_saved and below.name in _SAVED):
            yield _input(location, output, info, form="")
        elif is_saved:
            if below.name in data[below.parent]:
                yield _input(location, output, info, form="arrow")
        else:
            yield _input(location, output, info)


def _data_files(system: fs.FileSystem, state: str) -> set[str] | None:
    """Return the names of the data files of a saved dataset, or None if it is none.

    Args:
        state: path of its `state.json`.
    """
    with reading(state), system.open_input_stream(state) as file:
        content = file.read()
    try:
        return {each["filename"] for each in json.loads(content)["_data_files"]}
    except (ValueError, KeyError, TypeError):
        return None


def _files_below(system: fs.FileSystem, path: str, *, recursive: bool) -> list[fs.FileInfo]:
    """Return the files in a folder, in the order of their names."""
    with reading(path):
        infos = system.get_file_info(fs.FileSelector(path, recursive=recursive))
    return sorted(
        (info for info in infos if info.type == fs.FileType.File), key=lambda info: info.path
    )


def _is_saved(system: fs.FileSystem, path: str) -> bool:
    state, splits = system.get_file_info([f"{path}/state.json", f"{path}/dataset_dict.json"])
    if splits.type == fs.FileType.File:
        return True
    return state.type == fs.FileType.File and _data_files(system, state.path) is not None


def _input(location: str, name: str, info: fs.FileInfo, form: str | None = None) -> InputFile:
    form = format_of(name) if form is None else form
    return InputFile(location, name, form, info.size, info.mtime_ns or 0)


def _is_folder(location: str) -> bool:
    system, path = filesystem(location)
    with reading(location):
        return bool(system.get_file_info(path).type == fs.FileType.Directory)


def _absolute(location: str) -> str:
    """Return a location in the one way in which it is compared: a path, or a URI without quotes."""
    text = split_query(absolute(location))[0]
    return unquote(text) if has_quoted_path(text) else text


def _as_named(location: str) -> str:
    """Return a location likewise, but by the names of its links."""
    return _absolute(location) if is_uri(location) else str(Path(location).absolute())


def _lies_in(location: str, folder: str) -> bool:
    """Return whether a location is in a folder, by its name or by where its links lead."""
    return any(
        f"{form(location)}/".startswith(f"{form(folder).rstrip('/')}/")
        for form in (_as_named, _absolute)
    )
