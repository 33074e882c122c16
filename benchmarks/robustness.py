"""What a model loses when its sources are written as keyboards, editors and browsers write them.

`python -m benchmarks.robustness --model MODEL --corpus CORPUS` translates the sources of a split as
they are and with each kind of noise in turn, and prints for each kind how many sources it changes,
how many of their translations differ, and BLEU of those sources, clean and noisy, against the same
references. In capitals and title case, BLEU leaves case aside. `--noises` picks some.
"""

import argparse
import random
import sys
import unicodedata
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.train import cpu_name
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.evaluation.references import References
from s2s.evaluation.scores import Score, score

CONSOLE = Console(width=120)

Noise = Callable[[str, random.Random], str]


def _at_a_space(sentence: str, written: str) -> str:
    """Return a sentence whose middle space is written otherwise."""
    spaces = [place for place, character in enumerate(sentence) if character == " "]
    if not spaces:
        return sentence
    place = spaces[len(spaces) // 2]
    return sentence[:place] + written + sentence[place + 1 :]


def _in_the_longest_word(sentence: str, written: str) -> str:
    longest = max(sentence.split(), key=len, default="")
    if len(longest) < 5:
        return sentence
    return sentence.replace(longest, longest[:3] + written + longest[3:], 1)


def _full_width(sentence: str) -> str:
    return sentence.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})


def _typo(sentence: str, chance: random.Random) -> str:
    """Return a sentence in which two letters that stand inside a word are swapped."""
    places = [
        place
        for place in range(1, len(sentence) - 2)
        if sentence[place - 1 : place + 3].isalpha() and sentence[place] != sentence[place + 1]
    ]
    if not places:
        return sentence
    place = chance.choice(places)
    return sentence[:place] + sentence[place + 1] + sentence[place] + sentence[place + 2 :]


NOISES: dict[str, Noise] = {
    "doubled space": lambda s, _: _at_a_space(s, "  "),
    "no-break space": lambda s, _: _at_a_space(s, "\u00a0"),
    "tab": lambda s, _: _at_a_space(s, "\t"),
    "thin space before the mark": lambda s, _: s[:-1] + "\u202f" + s[-1:] if s[-1:] in "?!." else s,
    "curly apostrophe": lambda s, _: s.replace("'", "\u2019"),
    "curly quotation marks": lambda s, _: s.replace(' "', " \u201c").replace('"', "\u201d"),
    "no-break hyphen": lambda s, _: s.replace("-", "\u2011"),
    "ellipsis": lambda s, _: s.replace("...", "\u2026"),
    "byte order mark": lambda s, _: "\ufeff" + s,
    "left-to-right mark": lambda s, _: "\u200e" + s,
    "soft hyphen": lambda s, _: _in_the_longest_word(s, "\u00ad"),
    "zero-width space": lambda s, _: _in_the_longest_word(s, "\u200b"),
    "decomposed (NFD)": lambda s, _: unicodedata.normalize("NFD", s),
    "full width": lambda s, _: _full_width(s),
    "ALL CAPITALS": lambda s, _: s.upper(),
    "Title Case": lambda s, _: " ".join(word[:1].upper() + word[1:] for word in s.split(" ")),
    "small letters": lambda s, _: s.lower(),
    "two letters swapped": _typo,
}
CASELESS = ("ALL CAPITALS", "Title Case", "small letters")


def main() -> None:
    """Translate with each kind of noise and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model directory")
    add("--corpus", type=Path, required=True, help="corpus directory")
    add("--split", choices=("train", "valid", "test"), default="test")
    add("--sentences", type=int, default=600, help="sources at most")
    add("--beam", type=int, help="instead of the model's own")
    add("--noises", nargs="+", choices=NOISES, default=list(NOISES))
    arguments = parser.parse_args()

    translator = Translator.load(arguments.model).with_settings(beam=arguments.beam)
    references = References.of(Corpus.open(arguments.corpus), arguments.split)
    sources = references.sources[: arguments.sentences]
    clean = list(translator.translate(sources))
    table = Table(title=f"{arguments.model}, {len(sources)} sources of {arguments.split}")
    table.add_column("noise")
    for name in ("sources changed", "translations differ", "BLEU clean", "noisy", "lost"):
        table.add_column(name, justify="right")
    for noise in arguments.noises:
        chance = random.Random(0)  # noqa: S311
        noisy = [NOISES[noise](source, chance) for source in sources]
        changed = [n for n, source in enumerate(sources) if noisy[n] != source]
        if not changed:
            table.add_row(noise, "0")
            continue
        made = list(translator.translate([noisy[n] for n in changed]))
        kept = [clean[n] for n in changed]
        targets = [references.targets[n] for n in changed]
        fold = str.lower if noise in CASELESS else str
        scores = [
            _bleu([fold(text) for text in texts], [[*map(fold, group)] for group in targets])
            for texts in (kept, made)
        ]
        differ = sum(a != b for a, b in zip(map(fold, kept), map(fold, made), strict=True))
        before, after = (each.score for each in scores)
        table.add_row(
            noise,
            str(len(changed)),
            f"{differ / len(changed):.0%}",
            f"{before:.2f}",
            f"{after:.2f}",
            f"{before - after:.2f}",
        )
    CONSOLE.print(f"{cpu_name()}, torch {torch.__version__}, {date.today()}; {sys.argv[1:]}")
    CONSOLE.print(table)


def _bleu(translations: list[str], references: list[list[str]]) -> Score:
    [result] = score(translations, references, "as read", measures=("BLEU",))
    return result


if __name__ == "__main__":
    main()
