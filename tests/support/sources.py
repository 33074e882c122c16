"""What a preparation finds and reads in sources, without preparing a corpus."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from s2s.preparation import Source
from s2s.preparation.discovery import find_origins
from s2s.preparation.readers import read_origin
from s2s.preparation.sources import Origin

Rows = list[tuple[str, str, str]]  # source, target and drop


def source_of(*paths: Path | str, languages: str = "en fr", **more: object) -> Source:
    """These paths as a source."""
    one, two = languages.split()
    names = tuple(map(str, paths))
    return Source(source=names, source_language=one, target_language=two, **more)


def origins_of(source: Source) -> list[Origin]:
    """The origins of local files."""
    return find_origins(source, Path("/nowhere"))


def rows_of_origin(origin: Origin, source: Source) -> Iterator[tuple[str, str, str]]:
    """The rows of an origin, as its reader gives them."""
    with tempfile.TemporaryDirectory() as folder:
        for table in read_origin(origin, source, Path(folder)):
            yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def rows_of(*paths: Path | str, languages: str = "en fr", **more: object) -> Rows:
    """The rows of all origins of these paths."""
    source = source_of(*paths, languages=languages, **more)
    return [row for origin in origins_of(source) for row in rows_of_origin(origin, source)]


def pairs_of(*paths: Path | str, **more: object) -> list[tuple[str, str]]:
    """The pairs of these paths, none of which may be left out."""
    rows = rows_of(*paths, **more)  # type: ignore[arg-type]
    assert [drop for _, _, drop in rows if drop] == []
    return [(source, target) for source, target, _ in rows]


def splits_of(*paths: Path | str, languages: str = "en fr", **more: object) -> dict[str, str]:
    """The split that each origin is for, by the label below the folder of the first path."""
    folder = Path(paths[0]) if Path(paths[0]).is_dir() else Path(paths[0]).parent
    origins = origins_of(source_of(*paths, languages=languages, **more))
    return {origin.label.removeprefix(f"{folder}/"): origin.split for origin in origins}
