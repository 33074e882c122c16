"""What the names of files say of a corpus: which split they hold, and which files are parallel."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from s2s.preparation.archives import COMPRESSED_SUFFIXES
from s2s.preparation.variants import side_of_code
from s2s.text.languages import base_language, canonical_code

SPLIT_NAMES = {
    "train": "train", "training": "train", "trn": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "development": "valid", "newsdev": "valid",
    "test": "test", "testing": "test", "tst": "test", "devtest": "test", "newstest": "test",
}  # fmt: skip
"""Splits by the names in use."""

# Words beside the name of a split that say nothing: "test_set_part_1_of_3".
_FILLING = {"", "set", "split", "data", "of", "part", "final"}

_MARKS = {"src": 0, "tgt": 1, "trg": 1, "source": 0, "target": 1}
_CODE = re.compile(r"[a-z]{2,3}([-_][a-z]{4})?([-_]([a-z]{2}|\d{3}))?", re.IGNORECASE)

# Files that authors and archivers add to the data.
_ACCOMPANYING = re.compile(
    r"(readme|licen[cs]e|copying|copyright|notice|authors|changelog|citation|metadata"
    r"|dataset_infos?)(?![a-z])",
    re.IGNORECASE,
)


def is_data(path: str) -> bool:
    """Return whether a file may hold rows: not if archivers or authors add such to the data."""
    name = PurePosixPath(path).name
    return not (
        path.startswith("__MACOSX/") or name.startswith(("_", ".")) or _ACCOMPANYING.match(name)
    )


def split_of_name(path: str, languages: tuple[str, str]) -> str:
    """Return the split that a file holds by its name or by that of a folder; "" if none is named.

    Args:
        path: of the file, below the folder or archive that the user names.
    """
    *folders, name = PurePosixPath(path.lower()).parts
    for folder in reversed(folders):
        if folder in SPLIT_NAMES:
            return SPLIT_NAMES[folder]
    found: set[str] = set()
    for piece in name.split("."):
        words = [
            word
            for word in (word.rstrip("0123456789") for word in re.split(r"[\W_]+", piece))
            if word not in _FILLING and word not in _MARKS and side_of_code(word, languages) is None
        ]
        found.update(SPLIT_NAMES[word] for word in words[:1] + words[-1:] if word in SPLIT_NAMES)
    return found.pop() if len(found) == 1 else ""


class ParallelFiles:
    """The pairs of files in a folder whose lines belong together.

    Their names differ in the language alone: `train.en` and `train.fr`, `train.en.txt` and
    `train.fr.txt`, `src-train.txt` and `tgt-train.txt`, `source` and `target`.
    """

    def __init__(self, names: Iterable[str], languages: tuple[str, str]) -> None:
        self._languages = languages
        self._names: dict[tuple[str, int], list[str]] = defaultdict(list)  # by stem and side
        for name in sorted(names):
            for stem, side in _sides(name, languages):
                self._names[stem, side].append(name)

    def pair(self, name: str) -> tuple[str, str] | None:
        """Return the names of two parallel files, source first, if `name` is one of them."""
        for stem, side in _sides(name, self._languages):
            if others := self._names.get((stem, 1 - side)):
                start = name.partition(".")[0]  # Train.EN may be there beside train.en
                other = min(
                    others, key=lambda each: (self._distance(each), not each.startswith(start))
                )
                return (other, name) if side else (name, other)
        return None

    def missing(self, name: str) -> str | None:
        """Return the name of the file that a file of one language lacks beside it.

        That is None if the file is not of one language by its name, or is one of a pair.
        """
        if self.pair(name) is not None:
            return None
        for stem, side in _sides(name, self._languages):
            mark = stem.partition(":")[0]
            other = {"": self._languages[1 - side], "src": ("src", "tgt")[1 - side]}.get(
                mark, ("source", "target")[1 - side]
            )
            return _renamed(name, self._languages, other)
        return None

    def _distance(self, name: str) -> bool:
        """Return whether a file is of a variant of a language: `train.fr-CA` for `fr`."""
        return not any(
            re.search(rf"(^|[^a-z]){re.escape(code)}($|[^a-z-])", name, re.IGNORECASE)
            for code in self._languages
        )


def may_be_parallel(name: str, languages: tuple[str, str]) -> bool:
    """Return whether a file may be one of two parallel files by its name."""
    return next(_marks(name, languages), None) is not None


def is_of_one_language(name: str, languages: tuple[str, str]) -> bool:
    """Return whether a name ends in the code of a language, as `train.fr` and `train.EN.gz` do."""
    bare = _without(name, COMPRESSED_SUFFIXES)
    code = PurePosixPath(bare).suffix.removeprefix(".")
    return canonical_code(code) in map(canonical_code, languages)


def _sides(name: str, languages: tuple[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the ways in which a file may be one of two: the name without its mark, and its side."""
    for begin, end, kind, side in _marks(name, languages):
        yield f"{kind}:{name[:begin]}*{name[end:]}".lower(), side


def _marks(name: str, languages: tuple[str, str]) -> Iterator[tuple[int, int, str, int]]:
    """Yield the places of a name that may be the mark of a language: begin, end, kind and side.

    The longest mark at the end comes first: `pt-BR` before `BR`.
    """
    path = _without(_without(name, COMPRESSED_SUFFIXES), (".txt",))
    first = path.rfind("/") + 1
    places = [place.start() for place in re.finditer(r"[.\-_ ]", path) if place.start() >= first]
    spans = [(begin + 1, len(path)) for begin in [first - 1, *places]]
    suffix = path[first:].rpartition(".")[2] if "." in path[first:] else ""
    if not suffix or suffix.lower() in SPLIT_NAMES:  # not `en.po`, which is a catalogue
        spans += [(first, end) for end in places]
    for begin, end in spans:
        mark = path[begin:end].lower()
        if mark in _MARKS:
            yield begin, end, "source" if mark in ("source", "target") else "src", _MARKS[mark]
        elif (
            _CODE.fullmatch(mark)
            and not _names_both(mark, languages)
            and (side := side_of_code(mark, languages)) is not None
        ):
            yield begin, end, "", side


def _names_both(code: str, languages: tuple[str, str]) -> bool:
    """Return whether a mark such as `en-fr` names both languages, rather than English in France."""
    language, *rest = re.split("[-_]", code)
    side = side_of_code(language, languages)
    if side is None:
        return False
    own, other = (base_language(languages[each]) for each in (side, 1 - side))
    return own != other and other in rest


def _renamed(name: str, languages: tuple[str, str], mark: str) -> str:
    """Return a name with another mark in the place of its own."""
    begin, end, *_ = next(_marks(name, languages))
    return f"{name[:begin]}{mark}{name[end:]}"


def _without(name: str, suffixes: tuple[str, ...]) -> str:
    """Return a name without a suffix."""
    suffix = next((each for each in suffixes if name.lower().endswith(each)), "")
    return name[: len(name) - len(suffix)]
