"""Where sentence pairs come from: what the user names, and the files and datasets behind it."""

from dataclasses import dataclass

from s2s.config import Section


class Source(Section):
    """What the user names, and how to read it.

    `s2s.preparation.discovery` turns it into origins.
    """

    source: tuple[str, ...]
    """Files, directories, patterns, URIs, `hub:NAME:CONFIG` or `demo`, whose rows are split."""

    valid: tuple[str, ...] = ()
    """As `source`, for the split `valid` alone; its rows are used as they are."""

    test: tuple[str, ...] = ()
    """As `source`, for the split `test` alone; its rows are used as they are."""

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
    """One thing to read: a file, a byte range of it, two parallel files, or a dataset."""

    split: str  # `valid` or `test` if the user provides that split, "" if the rows are to be split
    format: str  # a key of `s2s.preparation.readers.FORMATS`
    label: str  # its name in messages
    paths: tuple[str, ...]  # of files; of a Hub dataset, its name, configuration and split
    members: tuple[str, ...] = ()  # of the archive at paths[0]
    byte_range: tuple[int, int] | None = None  # first byte, and the one after the last; None: all
    stamps: tuple[str, ...] = ()  # sizes and times of the files, by which a change is noticed
    encoding: str = ""  # of its text files if it is not UTF-8, which is then made of it
    hint: str = ""  # what is probably wrong with its files, and what to do
