"""The embedded demo corpus: what it holds, that its French is sound, and its cache."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2s.preparation import demo

COUNT = 20_000
FEW = 300


@pytest.fixture(scope="module", params=[5_000, pytest.param(COUNT, marks=pytest.mark.slow)])
def pairs(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """The first pairs of the corpus, or all of them."""
    made = demo.generate() if request.param == COUNT else demo.generate(request.param)
    assert len(made) == request.param
    return made


def test_no_sentence_is_there_twice(pairs: list[tuple[str, str]]) -> None:
    for sentences in zip(*pairs, strict=True):
        assert len(set(sentences)) == len(pairs)


def test_a_seed_decides_all(pairs: list[tuple[str, str]]) -> None:
    assert demo.generate(FEW) == pairs[:FEW]
    other = demo.generate(FEW, seed=1)
    assert len(set(other) & set(pairs[:FEW])) < FEW / 10


def test_another_process_says_the_same_and_prints_nothing(pairs: list[tuple[str, str]]) -> None:
    code = f"import json; from s2s.preparation import demo; print(json.dumps(demo.generate({FEW})))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [tuple(pair) for pair in json.loads(run.stdout)] == pairs[:FEW]
    assert run.stderr == ""


def test_pyrealb_is_left_as_it_was_found() -> None:
    demo.generate(1)  # it imports pyrealb without the warnings that one gives
    import pyrealb

    pyrealb.load("fr")
    try:
        demo.generate(10)
        assert pyrealb.getLanguage() == "fr"
        assert not pyrealb.Constituent.exceptionOnWarning
    finally:
        pyrealb.load("en")


def test_sentences_are_written_as_such(pairs: list[tuple[str, str]]) -> None:
    for english, french in pairs:
        assert re.fullmatch(r"[A-Z][A-Za-z' ]+[.?]", english), english
        assert re.fullmatch(r"[A-ZÀÉÊÎ][A-Za-zà-ÿ', -]+(\.|\u202f\?)", french), french
        assert "  " not in english + french
        assert english.endswith("?") == french.endswith("?")
        assert 3 <= len(english.split()) <= 12
        assert 3 <= len(french.split()) <= 12


@pytest.mark.parametrize(
    ("english", "french"),
    [
        (r"n't\b", r"\b(ne |n').*\bpas\b"),
        (r"\bnever\b", r"\b(ne |n').*\bjamais\b"),
        (r"^(Do|Does|Did|Is|Are|Was|Were|Will|Can|Must|Would) .*\?", r"^Est-ce (que |qu')"),
        (r"^Who ", r"^Qui "),
        (r"^What ", r"^Qu'est-ce (que |qu')"),
        (r"^Where ", r"^Où est-ce (que |qu')"),
        (r"^How many ", r"^Combien d(e |')"),
        (r"^Please ", r"^S'il vous plaît, "),
        (r"^There (is|are|isn't|aren't) ", r"^Il (y a|n'y a pas) "),
        (r"\byesterday\b", r"\bhier\b"),
        (r"^She (went|came|arrived)\b", r"^Elle est (allée|venue|arrivée)\b"),
        (r"\b(saw|met|called|invited) them\b", r"\bles (ai|a|avons|avez|ont) \w+s\b"),
        (r"\b(saw|met|called|invited) her(?= last|[.?])", r"\bl'(ai|a|avons|avez|ont) \w+e\b"),
        (r"^They were\b", r"^Ils étaient\b"),
        (r"\b([Ww]ill|won't)\b", r"\w+r(ai|a|ons|ez|ont)\b"),
        (r"\bwould", r"\bvoudr(ais|ait|ions|iez|aient)\b"),
        (r"\b(can|can't)\b", r"\bp(eux|eut|ouvons|ouvez|euvent)\b"),
        (r"\b[Ss]ixteen\b", r"\b[Ss]eize\b"),
        (r"\b([Mm]y|[Oo]ur)\b", r"\b([Mm]on|[Mm]a|[Mm]es|[Nn]otre|[Nn]os)\b"),
        (r"\bthat (he|she|they|I|we|you)\b", r"\bqu(e |')"),
        (r"\bbigger than\b", r"\bplus grande?s? que\b"),
        (r"\bat the school\b", r"\bà l'école\b"),
        (r"\bto the market\b", r"\bau marché\b"),
    ],
)
def test_each_kind_of_sentence_occurs_and_is_said_alike(
    pairs: list[tuple[str, str]], english: str, french: str
) -> None:
    said = [pair for pair in pairs if re.search(english, pair[0])]
    assert len(said) >= 5 * len(pairs) // COUNT
    assert [pair for pair in said if not re.search(french, pair[1])] == []


VOWEL = "[aeiouyhâàéèêîôû]"


@pytest.mark.parametrize(
    ("language", "wrong"),
    [
        (1, rf"\b(le|la|je|me|ne|de|que|se) {VOWEL}"),
        (1, rf"\b(ma|sa|ce) {VOWEL}"),
        (1, rf"\b(le|un|ce|mon|notre|votre) (beau|vieux) {VOWEL}"),
        (1, r"\b(de|à) (le|les)\b"),
        (1, r"\bpas (un|une|des|du) "),
        (1, r"\bdes (grand|petit|beau|belle|vieux|vieille|bon|bonne|jeune|mauvais)"),
        (1, r"\b(un|le|ce) \w+ \w+euse\b"),
        (1, r"^(La|Cette|Une|Ma) \w+ (est|était|sera) (beau|blanc|grand|petit|vert|vieux)\b"),
        (1, r"^(Les|Ces|Nos) \w+ (sont|étaient|seront) (belle|blanche|grande?|petite?|verte?)\b"),
        (0, r"\ba [aeiou]|\ban [^aeiou]"),
        (0, r"\b(do|does|did|is|are|was|were|will|would|can|must) not\b|\bcannot\b"),
        (0, r"^(he|she|who) (eat|go|have|don't)\b"),
    ],
)
def test_what_is_wrong_occurs_nowhere(
    pairs: list[tuple[str, str]], language: int, wrong: str
) -> None:
    found = [pair for pair in pairs if re.search(wrong, pair[language], re.IGNORECASE)]
    assert found == []


def test_vocabulary_fits_a_small_model(pairs: list[tuple[str, str]]) -> None:
    for sentences in zip(*pairs, strict=True):
        words = {word for sentence in sentences for word in re.findall(r"[\w-]+", sentence)}
        assert 600 < len(words) < 1_500


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "new" / "cache"
    monkeypatch.setenv("S2S_CACHE", str(directory))
    return directory


def test_load_reads_what_it_cached(cache: Path) -> None:
    pairs = demo.load(FEW)
    assert pairs == demo.generate(FEW)
    (file,) = cache.iterdir()
    assert demo.load(FEW) == pairs
    # A cache with other words in it shows that a second load does not generate.
    file.write_bytes(gzip.compress(json.dumps([["Hello.", "Bonjour."]]).encode()))
    assert demo.load(FEW) == [("Hello.", "Bonjour.")]


def test_each_count_and_seed_has_its_cache(cache: Path) -> None:
    assert demo.load(20) == demo.load(30)[:20] != demo.load(20, seed=1)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        lambda whole: b"not a cache",
        lambda whole: gzip.compress(b"[[1"),
    ],
    ids=["empty", "half", "a byte short", "a bit changed", "something else", "half a text"],
)
def test_a_damaged_cache_is_made_anew(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    pairs = demo.load(FEW)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert demo.load(FEW) == pairs
    assert file.read_bytes() == whole
    assert list(cache.iterdir()) == [file]
