"""Judgement of which side of a corpus is in which language, on a sample of its rows.

py3langid judges. It is often wrong about a short sentence, so only what many rows agree on counts.
Languages that it does not know, and relatives that are easily confused, are taken as named.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from s2s.text.detection import all_probabilities, detectable_language, prose

SAMPLE_ROWS = 400
"""Rows of all sources together that are judged."""

SAMPLE_CHARACTERS = 300
"""Characters of a side of a row that are judged."""

_MIN_ROWS = 8  # for any judgement
_GROUP_CHARACTERS = 150  # of a text that is judged as one
_MIN_GROUPS = 2
_CLEAR = 2.0  # log-odds, of both sides of a row together, by which it is one way round
_MOST, _FEW = 0.85, 0.05  # shares of rows and of texts
_LEAST = 1e-6  # probability: below, differences mean nothing

# Languages that are confused even in long texts, by the codes of py3langid and others.
_RELATIVES = [
    frozenset(group.split())
    for group in (
        "no nb nn da sv is fo",
        "hr sr bs sh sl cnr",
        "mk bg sr ru uk be rue",
        "cs sk pl hsb dsb csb szl",
        "pt gl es ca oc an ast ext mwl lad",
        "fr oc wa ca frp pcd ht",
        "it sc scn co la vec lmo pms nap fur rm",
        "id ms jv su min ban bjn tl ceb ilo war pam",
        "nl af li fy nds vls zea",
        "de lb nds als gsw bar ksh pfl yi",
        "fi et vep olo krl",
        "lt lv ltg sgs",
        "hi mr ne sa mai bho new gom kok",
        "ur fa ps sd ug ar arz ary ckb ku azb pnb tg",
        "zh yue wuu gan hak ja lzh",
        "zu xh ss nr st tn nso ts ve sn ny rw rn lg sw ln",
        "tr az tk uz crh gag tt ba kk ky",
        "ga gd gv",
        "cy br kw",
        "en sco jam pcm",
        "eo ia io ie vo",
        "he yi",
        "am ti",
        "bn as bpy",
        "mi haw sm to ty",
        "th lo km",
        "ka xmf",
        "bo dz",
    )
]


# Languages that made-up words are not taken for, and so which a side surely is if it reads as one.
_COMMON = frozenset(
    code
    for line in (
        "ar be bg bn ca cs da de el en es et eu fa fi fr gu he hi hr hu hy id is it ja ka kk",
        "kn ko lt lv mk ml mr nl no pa pl pt ro ru sk sl sq sr sv ta te th tr uk ur vi zh",
    )
    for code in line.split()
)
_UNSPACED = frozenset(("ja", "th", "zh"))  # which write no spaces between words
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class Finding:
    """What the sample shows to be wrong with the sides of a source."""

    kind: Literal["swapped", "mixed", "other"]
    """`swapped` or `mixed` up, all rows or some; or a side of an `other` language than named."""

    is_sure: bool

    languages: tuple[str, str]
    """What each side reads as: the code that the user gives the language, or py3langid's."""

    share: float = 1.0
    """Of the rows that are clearly one way round, those that are the other way round."""


def judge_sides(pairs: Sequence[tuple[str, str]], languages: tuple[str, str]) -> Finding | None:
    """Return what is wrong with the sides of some rows, or None if nothing clearly is.

    Args:
        pairs: source and target of rows that are spread over a source.
        languages: codes of source and target, as the user names them.
    """
    shortened = [
        (prose(one[:SAMPLE_CHARACTERS]), prose(two[:SAMPLE_CHARACTERS])) for one, two in pairs
    ]
    rows = [(one, two) for one, two in dict.fromkeys(shortened) if one and two and one != two]
    names = [detectable_language(code) for code in languages]
    if len(rows) < _MIN_ROWS or not any(names):
        return None
    sides = [_Side([row[n] for row in rows]) for n in (0, 1)]
    if not _are_relatives(*names):
        found = _turned_round(rows, names, languages)
        if found is not None:
            return found
    elif all(
        name != named and side.share_of_exactly(name) >= _MOST
        for side, name, named in zip(sides, names[::-1], names, strict=True)
    ):
        return Finding("swapped", False, (languages[1], languages[0]))
    other = [side.is_other_than(name) for side, name in zip(sides, names, strict=True)]
    if not any(other):
        return None
    one, two = (
        side.language if is_other else code
        for side, is_other, code in zip(sides, other, languages, strict=True)
    )
    # Two sides of one language may be meant so: sentences that are simplified, or reversed.
    is_sure = not _are_relatives(*(side.language for side in sides)) and any(
        each and side.is_clear for each, side in zip(other, sides, strict=True)
    )
    return Finding("other", is_sure, (one, two))


def _turned_round(
    rows: list[tuple[str, str]], names: list[str | None], languages: tuple[str, str]
) -> Finding | None:
    """Return whether all or some rows are the other way round."""
    odds = [_log_odds(one, names) - _log_odds(two, names) for one, two in rows]
    turned = [row for row, odd in zip(rows, odds, strict=True) if odd < -_CLEAR]
    clear = sum(abs(odd) > _CLEAR for odd in odds)
    share = len(turned) / clear if clear else 0.0
    if clear < max(_MIN_ROWS / 2, 0.2 * len(rows)) or share < _FEW:
        return None
    # A second judgement, on longer texts: such rows must read as what they should not be.
    sides = [_Side([row[n] for row in turned]) for n in (0, 1)]
    wanted = names[::-1]
    agrees = [
        name is None or (side.share_of(name) >= _MOST)
        for side, name in zip(sides, wanted, strict=True)
    ]
    contradicts = [
        name is not None and side.share_of(name) > _FEW
        for side, name in zip(sides, names, strict=True)
    ]
    if not all(agrees) or any(contradicts) or sides[0].language == sides[1].language:
        return None
    reversed_codes = (languages[1], languages[0])
    if share >= _MOST:
        return Finding("swapped", True, reversed_codes, share)
    return Finding("mixed", share >= 0.2, reversed_codes, share)


def _log_odds(text: str, names: list[str | None]) -> float:
    """Return how much likelier a text is of the first language than of the second.

    Of a language that cannot be told, any other one takes the place.
    """
    probability = all_probabilities(text)
    one, two = (
        probability[name]
        if name is not None
        else max(each for other, each in probability.items() if other not in names)
        for name in names
    )
    return math.log(max(one, _LEAST)) - math.log(max(two, _LEAST))


class _Side:
    """The sentences of a side, read as longer texts and as its words, each once."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = sentences
        tops = Counter(next(iter(all_probabilities(text))) for text in _longer(sentences))
        self._shares = {name: count / tops.total() for name, count in tops.most_common()}
        self._texts = tops.total()

    @property
    def language(self) -> str:
        """The language that most texts read as."""
        return next(iter(self._shares))

    def share_of(self, name: str) -> float:
        """Return the share of the texts that read as a language or one of its relatives."""
        return sum(share for own, share in self._shares.items() if _are_relatives(own, name))

    @property
    def is_clear(self) -> bool:
        """Whether the side is surely of `language`; lists of words and names never are."""
        words = sum(len(sentence.split()) for sentence in self._sentences)
        are_sentences = self.language in _UNSPACED or words >= 3 * len(self._sentences)
        return (
            self.language in _COMMON
            and are_sentences
            and self._of_words.get(self.language, 0.0) > 0.8
        )

    def share_of_exactly(self, name: str | None) -> float:
        """Return the share of the texts that read as a language itself."""
        return self._shares.get(name, 0.0) if name else 0.0

    def is_other_than(self, name: str | None) -> bool:
        """Return whether the side reads as another language, which `language` tells."""
        return (
            name is not None
            and self.language != _NO_LANGUAGE
            and self._texts >= _MIN_GROUPS
            and self.share_of(name) <= _FEW
            and self._shares[self.language] >= _MOST
            and self._words_agree(name)
        )

    def _words_agree(self, name: str) -> bool:
        """Return whether the words, each once, read as the same language.

        Sentences of one template have the same few words again and again, which alone make no
        language.
        """
        probability = self._of_words
        top = next(iter(probability))
        return (
            _are_relatives(top, self.language)
            and probability[top] > 0.6
            and probability[name] < 0.02
        )

    @cached_property
    def _of_words(self) -> dict[str, float]:
        words = dict.fromkeys(word for text in self._sentences for word in text.split())
        return all_probabilities(" ".join(words)[:4000])


def _longer(sentences: Sequence[str]) -> list[str]:
    """Return sentences joined to texts that are long enough to be judged."""
    texts, held = [], ""
    for sentence in sentences:
        held = f"{held} {sentence}" if held else sentence
        if len(held) >= _GROUP_CHARACTERS:
            texts.append(held)
            held = ""
    return texts if texts and not held else [*texts, held]


def _are_relatives(one: str | None, two: str | None) -> bool:
    return one == two or any(one in group and two in group for group in _RELATIVES)
