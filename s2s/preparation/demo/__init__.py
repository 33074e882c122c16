"""The embedded demo corpus: simple English sentences with their French translations.

Templates choose a meaning; pyrealb realises it in both languages, with all inflection, agreement,
elision and contraction. Each English word and tense has one French counterpart, so a small model
learns the corpus in minutes.
"""

import gzip
import hashlib
import importlib.metadata
import json
import uuid
import zlib
from pathlib import Path

from s2s.mirrors import cache_folder
from s2s.preparation.demo.grammar import Grammar
from s2s.preparation.demo.lexicon import Pair
from s2s.preparation.demo.phrases import library

__all__ = ["generate", "load"]


def generate(count: int = 20_000, seed: int = 0) -> list[Pair]:
    """Return English sentences with their French translations, none twice in either language.

    The same count, seed and version of pyrealb give the same pairs in the same order.

    Raises:
        ValueError: the grammar does not have so many sentences.
    """
    rb = library()
    before = rb.getLanguage(), rb.Constituent.exceptionOnWarning
    grammar, rejected = Grammar(seed), 0
    pairs, seen = list[Pair](), set[str]()
    try:
        while len(pairs) < count:
            pair = grammar.sentence()
            if seen.isdisjoint(pair) and all(3 <= len(s.split()) <= 12 for s in pair):
                pairs.append(pair)
                seen.update(pair)
                rejected = 0
            elif (rejected := rejected + 1) == 1000:
                raise ValueError(f"the demo grammar has no more than {len(pairs)} sentences")
    finally:
        rb.load(before[0])
        rb.Constituent.exceptionOnWarning = before[1]
    return pairs


def load(count: int = 20_000, seed: int = 0) -> list[Pair]:
    """Return what `generate` returns, from a cache in S2S_CACHE or the user's cache directory.

    Raises:
        ValueError: the grammar does not have so many sentences.
        OSError: the cache directory cannot be written.
    """
    files = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    generator = b"".join([*files, importlib.metadata.version("pyrealb").encode()])
    digest = hashlib.sha256(generator).hexdigest()[:16]
    directory = cache_folder()
    path = directory / f"demo-{count}-{seed}-{digest}.json.gz"
    try:  # gzip ends in a checksum, so a readable file is whole
        cached = json.loads(gzip.decompress(path.read_bytes()))
        return [(english, french) for english, french in cached]
    except (OSError, EOFError, zlib.error, ValueError):
        pairs = generate(count, seed)
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    unfinished.write_bytes(gzip.compress(json.dumps(pairs).encode(), mtime=0))
    unfinished.replace(path)
    return pairs
