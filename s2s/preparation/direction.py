"""The direction of translation, where sources state their languages."""

import re
from collections.abc import Iterable
from pathlib import Path

from s2s.errors import BadInput
from s2s.preparation.recognition import detect_format, format_of_name, plain_head
from s2s.preparation.tmx import stated_codes
from s2s.text.language_pairs import language_pair
from s2s.text.languages import language_name

_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst)$")


def stated_languages(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the source and target language that sources state, or None if they do not.

    The embedded corpus, a configuration of the Hugging Face Hub such as `en-fr`, a TMX file with a
    source language, and a text file in a language (`train.en`) beside one of the same name in a
    single other language do.
    """
    found = list(filter(None, map(_stated, names)))
    # Two parallel files that are both named state the direction of the first one.
    agree = {frozenset(pair) for pair in found}
    return found[0] if len(agree) == 1 else None


def _stated(name: str) -> tuple[str, str] | None:
    if name == "demo":
        return "en", "fr"
    if name.startswith("hub:"):
        return _pair(name.rpartition(":")[2])
    path = Path(name)
    try:
        if not path.is_file():
            return None
        if format_of_name(path.name) is None and (pair := _parallel(path)) is not None:
            return pair
        head = plain_head(path)
    except (OSError, BadInput):
        return None  # reading the source tells what is wrong with it
    if detect_format(path.name, head) != "tmx":
        return None
    codes = stated_codes(head)
    return None if codes is None else _pair(":".join(codes))


def _parallel(path: Path) -> tuple[str, str] | None:
    """Return the languages of a text file and of the only other one beside it."""
    stem, _, own = _COMPRESSED.sub("", path.name).rpartition(".")
    codes = set()
    for other in path.parent.iterdir():
        other_stem, _, code = _COMPRESSED.sub("", other.name).rpartition(".")
        if stem and other_stem == stem and code != own and _pair(f"{own}:{code}") is not None:
            codes.add(code)
    return _pair(f"{own}:{codes.pop()}") if len(codes) == 1 else None


def _pair(text: str) -> tuple[str, str] | None:
    try:
        pair = language_pair(text)
    except BadInput:
        return None
    # Any short word may be a code; only languages that have a name are taken for one.
    return pair if all(language_name(code) != code for code in pair) else None
