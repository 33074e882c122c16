"""The comparison of two systems on the same sentences: which is better, and whether by chance."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from operator import ne
from pathlib import Path
from types import MappingProxyType

from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import CorpusWarning
from s2s.corpus.warnings import score_warnings
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.references import References, check_languages
from s2s.evaluation.scores import SAMPLES, Difference, composed, paired_bootstrap
from s2s.text.lines import split_lines

_NUMBERS_SHOWN = 10  # of rows in a message


@dataclass(frozen=True)
class System:
    """A named system that is compared: a translator, or the translations of another program."""

    name: str
    output: Translator | list[str]  # a list has a translation for each source of the references

    def translate(self, sources: list[str], on_batch: Callable[[int], None]) -> list[str]:
        """Return a translation of each source."""
        if isinstance(self.output, list):
            return self.output
        return self.output.translate_rows(sources, on_batch)


@dataclass(frozen=True)
class Comparison:
    """The scores of two systems on a split of a corpus, and the significance of differences."""

    a: str  # names of the systems
    b: str
    split: str
    sentences: int  # distinct sources
    different: int  # of them, those that the systems translate differently
    samples: int  # bootstrap resamples
    differences: tuple[Difference, ...]  # of BLEU, chrF and TER

    def warnings(self, manifest: Manifest) -> tuple[CorpusWarning, ...]:
        """Return a warning if the split is so small that its scores are uncertain.

        Args:
            manifest: of the corpus that the split is of.
        """
        bleu = next(each for each in self.differences if each.name == "BLEU")
        return score_warnings(manifest, self.split, self.sentences, max(bleu.a, bleu.b))

    def to_json(self) -> str:
        """Return the comparison as JSON text."""
        content = {
            "a": self.a,
            "b": self.b,
            "part": self.split,
            "sentences": self.sentences,
            "different": self.different,
            "samples": self.samples,
            "scores": [asdict(difference) for difference in self.differences],
        }
        return json.dumps(content, indent=2)


def compare(
    a: System,
    b: System,
    references: References,
    *,
    samples: int = SAMPLES,
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> Comparison:
    """Return the scores of two systems on the sources of a split, with tests of significance.

    The references are the sentences as read, whatever the models' normalisers.

    Args:
        samples: bootstrap resamples, 1 or more.
        on_batch: called with the number of sentences of each translated batch.

    Raises:
        BadInput: a system's list of translations is not one for each source.
    """
    for system in (a, b):
        if isinstance(system.output, list) and len(system.output) != len(references.sources):
            raise BadInput(
                f"{system.name} has {len(system.output):,} translations "
                f"of {len(references.sources):,} sources"
            )
    first, second = (system.translate(references.sources, on_batch) for system in (a, b))
    differences = paired_bootstrap(
        first, second, references.targets, tokenize=references.tokenize, samples=samples
    )
    return Comparison(
        a=a.name,
        b=b.name,
        split=references.split,
        sentences=len(references.sources),
        different=sum(map(ne, composed(first), composed(second))),
        samples=samples,
        differences=tuple(differences),
    )


def open_system(
    path: Path,
    corpus: Corpus,
    references: References,
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> System:
    """Return the system of a model directory, or of a text file of translations.

    A file has a line for each source of the references, or a line for each row of the split, of
    which the first line of each source counts. It may also have the lines of the rows that were
    left out of a split that the user provided, which then count as little.

    Args:
        corpus: has the references; a model must be of its languages.
        overrides: decoding settings, by name, that replace those of a model.

    Raises:
        BadInput: there is no such file or directory, the directory is broken or of other languages,
            the model cannot decode with such settings, or the file is not UTF-8 or has another
            number of lines.
    """
    if path.is_file():
        return System(str(path), _read_translations(path, references))
    if not path.exists():
        raise BadInput(f"{path}: no such model directory or file of translations")
    translator = Translator.load(path).with_settings(**overrides)
    check_languages(translator.config, corpus, str(path))
    return System(str(path), translator)


def _read_translations(path: Path, references: References) -> list[str]:
    """Return the translations of a file, one for each source."""
    try:
        lines = split_lines(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None
    sources, rows = len(references.sources), len(references.source_of_row)
    if len(lines) == sources:
        return lines
    left_out = set(references.left_out)
    if len(lines) == rows + len(left_out):
        lines = [line for number, line in enumerate(lines, start=1) if number not in left_out]
    if len(lines) != rows:
        raise BadInput(f"{path} has {len(lines):,} lines; expected {_expected_lines(references)}")
    first_lines: dict[int, str] = {}
    for source, line in zip(references.source_of_row, lines, strict=True):
        first_lines.setdefault(source, line)
    return [first_lines[source] for source in range(sources)]


def _expected_lines(references: References) -> str:
    """Return in words which numbers of lines a file of translations may have."""
    sources, rows = len(references.sources), len(references.source_of_row)
    expected = (
        f"one for each of the {sources:,} distinct sources, or one for each of the {rows:,} rows"
    )
    if not references.left_out:
        return expected
    numbers = ", ".join(map(str, references.left_out[:_NUMBERS_SHOWN]))
    more = ", …" if len(references.left_out) > _NUMBERS_SHOWN else ""
    return (
        f"{expected}, or {rows + len(references.left_out):,} with those that prepare left out "
        f"(rows {numbers}{more} of {references.split})"
    )
