"""Corpora of made-up sentences in English and four languages of other scripts and word orders.

A sentence has a subject, an object, a verb and a time or place: "The dog sees the cat today."
"""

from collections.abc import Callable
from itertools import permutations, product
from typing import NamedTuple


class _Noun(NamedTuple):
    english: str
    german: tuple[str, str]  # as subject, as object
    russian: tuple[str, str]
    chinese: str
    hindi: tuple[str, str, str]  # as subject, as object, the ending of its verb


_NOUNS = (
    _Noun("dog", ("der Hund", "den Hund"), ("собака", "собаку"), "狗", ("कुत्ता", "कुत्ते", "ा")),
    _Noun("cat", ("die Katze", "die Katze"), ("кошка", "кошку"), "猫", ("बिल्ली", "बिल्ली", "ी")),
    _Noun("child", ("das Kind", "das Kind"), ("ребёнок", "ребёнка"), "孩子", ("बच्चा", "बच्चे", "ा")),
    _Noun("bird", ("der Vogel", "den Vogel"), ("птица", "птицу"), "鸟", ("चिड़िया", "चिड़िया", "ी")),
    _Noun(
        "teacher", ("der Lehrer", "den Lehrer"), ("учитель", "учителя"), "老师",
        ("शिक्षक", "शिक्षक", "ा"),
    ),
    _Noun("friend", ("der Freund", "den Freund"), ("друг", "друга"), "朋友", ("मित्र", "मित्र", "ा")),
    _Noun(
        "neighbour", ("der Nachbar", "den Nachbarn"), ("сосед", "соседа"), "邻居",
        ("पड़ोसी", "पड़ोसी", "ा"),
    ),
    _Noun("mother", ("die Mutter", "die Mutter"), ("мать", "мать"), "母亲", ("माता", "माता", "ी")),
    _Noun("doctor", ("der Arzt", "den Arzt"), ("врач", "врача"), "医生", ("डॉक्टर", "डॉक्टर", "ा")),
    _Noun("horse", ("das Pferd", "das Pferd"), ("лошадь", "лошадь"), "马", ("घोड़ा", "घोड़े", "ा")),
)  # fmt: skip
_VERBS = (  # in English, German, Russian, Chinese and Hindi
    ("sees", "sieht", "видит", "看见", "देखत"),
    ("hears", "hört", "слышит", "听见", "सुनत"),
    ("loves", "liebt", "любит", "爱", "चाहत"),
    ("looks for", "sucht", "ищет", "寻找", "ढूँढत"),
    ("understands", "versteht", "понимает", "理解", "समझत"),
)
_WHEN = (
    ("today", "heute", "сегодня", "今天", "आज"),
    ("every day", "jeden Tag", "каждый день", "每天", "हर दिन"),
    ("at home", "zu Hause", "дома", "在家", "घर पर"),
    ("in the garden", "im Garten", "в саду", "在花园里", "बगीचे में"),
    ("on Sunday", "am Sonntag", "в воскресенье", "星期天", "रविवार को"),
    ("in the evening", "am Abend", "вечером", "晚上", "शाम को"),
    ("with joy", "mit Freude", "с радостью", "高兴地", "ख़ुशी से"),
)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


_Sentence = Callable[[_Noun, _Noun, tuple[str, ...], tuple[str, ...]], str]
_SENTENCES: dict[str, _Sentence] = {
    "de": lambda s, o, v, w: _capitalised(f"{s.german[0]} {v[1]} {o.german[1]} {w[1]}."),
    "ru": lambda s, o, v, w: _capitalised(f"{s.russian[0]} {v[2]} {o.russian[1]} {w[2]}."),
    "zh": lambda s, o, v, w: f"{s.chinese}{w[3]}{v[3]}{o.chinese}。",
    "hi": lambda s, o, v, w: f"{s.hindi[0]} {w[4]} {o.hindi[1]} को {v[4]}{s.hindi[2]} है।",
}
LANGUAGES = tuple(_SENTENCES)


def made_up(language: str) -> list[tuple[str, str]]:
    """Return 3,150 sentences in English, with their translations, one of each meaning."""
    make = _SENTENCES[language]
    return [
        (f"The {s.english} {v[0]} the {o.english} {w[0]}.", make(s, o, v, w))
        for (s, o), v, w in product(permutations(_NOUNS, 2), _VERBS, _WHEN)
    ]
