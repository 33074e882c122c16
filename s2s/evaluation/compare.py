"""Two systems on the same sentences: which translates better, and whether by chance."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation import scores as metrics
from s2s.evaluation.evaluate import Part, check_languages


def compare(
    a: Path,
    b: Path,
    corpus: Path,
    part: str,
    on_batch: Callable[[int], None] = lambda sentences: None,
    *,
    beam: int | None = None,
    samples: int = metrics.SAMPLES,
) -> dict[str, Any]:
    """The scores of two systems on a part of a corpus, and the differences' significance.

    A system is a model directory, or a text file of its translations: a line for each different
    source in the order of first appearance, or a line for each row, of which the first of each
    source counts. The references are the sentences as read, whatever the models' normalisers.

    Args:
        on_batch: told the number of sentences of each translated batch.
        beam: hypotheses that models keep at a time, 1 for greedy decoding; None takes each
            model's own setting.
        samples: bootstrap resamples, 1 or more.

    Raises:
        BadInput: a directory is broken or of other languages, the corpus has no such part, a file
            is not UTF-8 or has another number of lines, or a model cannot decode with such a beam.
    """
    opened = Corpus.open(corpus)
    asked = Part.of(opened, part)
    # Both are read before either translates: a bad name is told at once.
    first, second = (_opened(system, opened, asked, beam) for system in (a, b))
    ours, theirs = (
        system if isinstance(system, list) else system.translate(asked.sources, on_batch)
        for system in (first, second)
    )
    differences = metrics.compare(
        ours, theirs, asked.references, tokenize=asked.tokenize, samples=samples
    )
    return {
        "a": str(a),
        "b": str(b),
        "part": part,
        "sentences": len(asked.sources),
        "different": sum(one != other for one, other in zip(ours, theirs, strict=True)),
        "samples": samples,
        "scores": [asdict(difference) for difference in differences],
    }


def _opened(system: Path, corpus: Corpus, part: Part, beam: int | None) -> Translator | list[str]:
    """A model, or the translations of a file, one for each source."""
    if not system.is_file():
        if not system.exists():
            raise BadInput(f"{system}: no such model directory or file of translations")
        translator = Translator.load(system).with_settings(beam=beam)
        check_languages(system, translator.config, corpus)
        return translator
    try:
        text = system.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{system} is not UTF-8") from None
    # A line ends at a line feed alone: a sentence may hold what `splitlines` takes for an end.
    lines = (
        [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    )
    sources, rows = len(part.sources), len(part.rows)
    if len(lines) == sources:
        return lines
    if len(lines) != rows:
        raise BadInput(
            f"{system} has {len(lines):,} lines; a line for each of the {sources:,} different "
            f"sources is expected, or one for each of the {rows:,} rows"
        )
    firsts: dict[int, str] = {}
    for source, line in zip(part.rows, lines, strict=True):
        firsts.setdefault(source, line)
    return [firsts[source] for source in range(sources)]
