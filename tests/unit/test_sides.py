"""Sides that are swapped, mixed up or of another language are found; all else is left alone."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from s2s.preparation.sides import judge_sides
from tests.support.corpora import Pairs

Captured = pytest.CaptureFixture[str]

# Templates of a few words, as a first try of one's own has them.
WORDS = {
    "en": ("The {a} {b} sees the {c} .", "old young small red", "dog teacher tree child"),
    "fr": ("Le {a} {b} voit le {c} .", "vieux jeune petit rouge", "chien maître arbre enfant"),
    "de": ("Der {a} {b} sieht den {c} .", "alte junge kleine rote", "Hund Lehrer Baum Jungen"),
    "es": ("El {b} {a} ve el {c} .", "viejo joven pequeño rojo", "perro maestro árbol niño"),
    "pt": ("O {b} {a} vê o {c} .", "velho jovem pequeno vermelho", "cão professor livro menino"),
    "gl": ("O {b} {a} ve o {c} .", "vello novo pequeno vermello", "can mestre libro neno"),
    "no": ("Den {a} {b} ser den {c} .", "gamle unge lille røde", "hunden læreren boken gutten"),
    "da": ("Den {a} {b} ser den {c} .", "gamle unge lille røde", "hund lærer bog dreng"),
    "hr": ("{a} {b} vidi taj {c} .", "Stari Mladi Mali Crveni", "pas učitelj stol dječak"),
    "bs": ("{a} {b} vidi taj {c} .", "Stari Mladi Mali Crveni", "pas učitelj sto dječak"),
    "id": ("{b} {a} itu melihat {c} itu .", "tua muda kecil merah", "Anjing Guru Pohon Anak"),
    "ms": ("{b} {a} itu nampak {c} itu .", "tua muda kecil merah", "Anjing Cikgu Pokok Budak"),
    "ru": ("{a} {b} видит этот {c} .", "Старый Молодой Малый Красный", "пёс учитель дуб кот"),
    "zh": ("{a}{b}看见{c}。", "老 年轻的 小 红色的", "狗 老师 树 孩子"),
    "hi": ("{a} {b} उस {c} को देखता है ।", "बूढ़ा जवान छोटा लाल", "कुत्ता शिक्षक पेड़ बच्चा"),
}


def sentences(language: str) -> list[str]:
    template, *words = WORDS[language]
    adjectives, nouns = (each.split() for each in words)
    return [template.format(a=a, b=b, c=c) for a in adjectives for b in nouns for c in nouns]


def pairs_of(one: str, two: str) -> Pairs:
    return list(zip(sentences(one), sentences(two), strict=True))


def turned(pairs: Pairs, every: int) -> Pairs:
    """The pairs, of which every so many is the other way round."""
    return [(b, a) if n % every == 0 else (a, b) for n, (a, b) in enumerate(pairs)]


RIGHT = [
    *(("en", other) for other in WORDS if other != "en"),
    *(("no", "da"), ("da", "no"), ("pt", "gl"), ("gl", "pt"), ("hr", "bs"), ("id", "ms")),
    *(("ru", "en"), ("zh", "en"), ("es", "pt"), ("de", "fr")),
]


@pytest.mark.parametrize(("one", "two"), RIGHT)
def test_sides_of_the_named_languages_are_right(one: str, two: str) -> None:
    assert judge_sides(pairs_of(one, two), (one, two)) is None


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (("en", "no"), ("en", "da")), (("en", "da"), ("en", "nb")), (("en", "hr"), ("en", "sr")),
        (("en", "bs"), ("en", "hr")), (("en", "gl"), ("en", "pt")), (("en", "ms"), ("en", "id")),
        (("en", "hr"), ("en", "sr-Latn")), (("en", "fr"), ("en", "xx")),
        (("en", "hi"), ("en", "mai")), (("fr", "en"), ("fr", "sco")), (("no", "en"), ("da", "en")),
        (("en", "fr"), ("en-US", "fr_CA")), (("en", "zh"), ("eng", "zh-Hant")),
    ],
)  # fmt: skip
def test_relatives_and_unknown_languages_are_taken_as_named(
    texts: tuple[str, str], named: tuple[str, str]
) -> None:
    assert judge_sides(pairs_of(*texts), named) is None


@pytest.mark.parametrize(
    ("one", "two"), [("en", "fr"), ("de", "en"), ("es", "de"), ("en", "ru"), ("zh", "en")]
)
def test_swapped_sides_are_found(one: str, two: str) -> None:
    for rows in (pairs_of(one, two), pairs_of(one, two)[::6]):  # many, and few
        finding = judge_sides(rows, (two, one))
        assert finding is not None
        assert (finding.kind, finding.is_sure, finding.languages) == ("swapped", True, (one, two))


@pytest.mark.parametrize(
    ("one", "two"), [("da", "no"), ("gl", "pt"), ("ms", "id"), ("es", "pt"), ("bs", "hr")]
)
def test_swapped_relatives_are_told_at_most(one: str, two: str) -> None:
    finding = judge_sides(pairs_of(one, two), (two, one))
    assert finding is None or (finding.kind, finding.is_sure) == ("swapped", False)
    assert finding is not None or (one, two) != ("es", "pt")


def test_two_sides_of_one_language_are_told() -> None:
    rows = [(one, " ".join(reversed(one.split()))) for one in sentences("en")]
    finding = judge_sides(rows, ("en", "fr"))
    assert finding is not None
    assert (finding.kind, finding.is_sure, finding.languages) == ("other", False, ("en", "en"))


def test_lists_of_words_are_never_surely_of_another_language() -> None:
    german, french = sentences("de"), sentences("fr")
    words = [
        (" ".join(one.split()[1:3]), " ".join(two.split()[1:3]))
        for one, two in zip(german, french, strict=True)
    ]
    finding = judge_sides(words, ("en", "fr"))
    assert finding is None or not finding.is_sure


def test_sides_are_swapped_though_one_language_is_unknown() -> None:
    finding = judge_sides(pairs_of("en", "fr"), ("xx", "en"))
    assert finding is not None
    assert (finding.kind, finding.is_sure) == ("swapped", True)


@pytest.mark.parametrize(("every", "is_sure"), [(2, True), (3, True), (4, True), (12, False)])
@pytest.mark.parametrize(("one", "two"), [("en", "fr"), ("es", "de")])
def test_rows_the_other_way_round_are_found(one: str, two: str, every: int, is_sure: bool) -> None:
    finding = judge_sides(turned(pairs_of(one, two), every), (one, two))
    assert finding is not None
    assert (finding.kind, finding.is_sure) == ("mixed", is_sure)
    assert finding.share == pytest.approx(1 / every, abs=0.1)


@pytest.mark.parametrize(
    ("texts", "named", "read"),
    [
        (("en", "fr"), ("en", "de"), ("en", "fr")),
        (("de", "en"), ("fr", "en"), ("de", "en")),
        (("en", "ru"), ("en", "fr"), ("en", "ru")),
        (("en", "es"), ("en", "zh"), ("en", "es")),
        (("de", "ru"), ("en", "fr"), ("de", "ru")),
    ],
)
def test_another_language_is_found(
    texts: tuple[str, str], named: tuple[str, str], read: tuple[str, str]
) -> None:
    finding = judge_sides(pairs_of(*texts), named)
    assert finding is not None
    assert (finding.kind, finding.is_sure, finding.languages) == ("other", True, read)


def made_up(seed: int, syllables: str) -> list[str]:
    """Sentences of a language that nobody speaks."""
    draw = random.Random(seed)
    words = [
        "".join(draw.choices(syllables.split(), k=draw.randint(1, 3))) for _ in range(8 << seed)
    ]
    return [" ".join(draw.choices(words, k=draw.randint(3, 6))) + " ." for _ in range(150)]


@pytest.mark.parametrize("named", [("en", "fr"), ("de", "en"), ("ru", "en"), ("fi", "zh")])
@pytest.mark.parametrize(
    "syllables", ["ba ko ti lu me za ro ni", "blo grim zat pel sti", "a e i o an en ir la le el"]
)
def test_made_up_words_are_never_surely_wrong(syllables: str, named: tuple[str, str]) -> None:
    for seed in range(6):
        rows = list(zip(made_up(seed, syllables), made_up(seed + 1, syllables), strict=True))
        finding = judge_sides(rows, named)
        assert finding is None or not finding.is_sure, finding


@pytest.mark.parametrize(
    "row",
    [
        lambda n: (f"sentence {n}", f"phrase {n}"), lambda n: (f"word{n}", f"mot{n}"),
        lambda n: (f"a{n} b{n}", f"c{n} d{n}"), lambda n: (f"{n}", f"{n + 1}"),
        lambda n: (f"Paris {n}", f"Paris {n}!"), lambda n: ("", "x"), lambda n: ("!!!", "???"),
        lambda n: ("abc def", "def abc"), lambda n: ("OK", "D'accord"),
    ],
)  # fmt: skip
def test_rows_that_say_nothing_are_right(row: Callable[[int], tuple[str, str]]) -> None:
    rows = [row(n) for n in range(100)]
    assert judge_sides(rows, ("en", "fr")) is None
    assert judge_sides(rows[:3], ("fr", "de")) is None


# ---- what `prepare` says -------------------------------------------------------------------------


def prepare_rows(pairs: Pairs, folder: Path, languages: str, *flags: str, head: str = "") -> int:
    lines = "".join(f"{one}\t{two}\n" for one, two in pairs)
    (folder / "pairs.tsv").write_text(head + lines, "utf-8")
    names = ["--source", str(folder / "pairs.tsv"), "--languages", languages]
    out = [] if "--dry-run" in flags else ["--out", str(folder / "corpus")]
    return main(["prepare", "demo", "--languages", "en-fr", *names, *out, *flags])


@pytest.mark.parametrize(
    ("head", "columns"), [("", "2 1"), ("english text\tfrançais\n", "'français' 'english text'")]
)
def test_swapped_sides_are_refused_with_the_options_that_mend_them(
    head: str, columns: str, tmp_path: Path, capsys: Captured
) -> None:
    flags = ["--columns", "english text", "français"] if head else []
    assert prepare_rows(pairs_of("en", "fr"), tmp_path, "fr-en", *flags, head=head) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert f"--columns {columns} exchanges them, --languages en-fr" in said
    assert "--corpus.no-check-languages" in said
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.tsv"]

    if not head:
        assert prepare_rows(pairs_of("en", "fr"), tmp_path, "fr-en", "--columns", "2", "1") == 0
        assert Corpus.open(tmp_path / "corpus").split("train")["source"][0].startswith("Le ")


def test_another_language_is_refused_with_its_code(tmp_path: Path, capsys: Captured) -> None:
    assert prepare_rows(pairs_of("de", "en"), tmp_path, "en-fr") == 2
    assert "use --languages de-en" in capsys.readouterr().err
    assert prepare_rows(pairs_of("en", "en"), tmp_path, "en-fr", "--corpus.clean.no-identical") == 0


def test_the_user_has_the_last_word(tmp_path: Path, capsys: Captured) -> None:
    rows = pairs_of("en", "fr")
    assert prepare_rows(rows, tmp_path, "fr-en", "--corpus.no-check-languages") == 0
    assert Corpus.open(tmp_path / "corpus").split("train")["source"][0].startswith("The ")


def test_a_dry_run_shows_the_rules_and_then_refuses(tmp_path: Path, capsys: Captured) -> None:
    rows = [*pairs_of("en", "fr"), ("<b>The dog .", "Le chien .")]
    assert prepare_rows(rows, tmp_path, "fr-en", "--dry-run") == 2
    said = capsys.readouterr()
    assert "1 │ markup" in said.out
    assert "look swapped" in said.err


def test_rows_of_another_script_are_told_and_left_out(tmp_path: Path, capsys: Captured) -> None:
    assert prepare_rows(turned(pairs_of("en", "ru"), 4), tmp_path, "en-ru") == 0
    manifest = Corpus.open(tmp_path / "corpus").manifest
    assert manifest.drops["script"] == 16
    assert "sides_mixed" in {warning.kind for warning in manifest.warnings}


def test_only_the_file_that_is_wrong_is_named(tmp_path: Path, capsys: Captured) -> None:
    rows = pairs_of("en", "fr")
    for name, some in {"a.tsv": rows[:32], "b.tsv": [(b, a) for a, b in rows[32:]]}.items():
        lines = "".join(f"{one}\t{two}\n" for one, two in some)
        (tmp_path / name).write_text(lines, "utf-8")
    flags = ["--source", str(tmp_path), "--out", str(tmp_path / "corpus")]
    assert main(["prepare", "demo", "--languages", "en-fr", *flags]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "b.tsv: the two sides look swapped" in said
    assert "exchange its columns;" in said


def test_what_mends_swapped_sides_depends_on_the_format(tmp_path: Path, capsys: Captured) -> None:
    rows = pairs_of("en", "fr")
    objects = [json.dumps({"fr": one, "en": two}) for one, two in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(objects), "utf-8")
    (tmp_path / "a.fr").write_text("".join(f"{one}\n" for one, _ in rows), "utf-8")
    (tmp_path / "a.en").write_text("".join(f"{two}\n" for _, two in rows), "utf-8")
    (tmp_path / "a.csv").write_text(
        "fr,en\n" + "".join(f"{one},{two}\n" for one, two in rows), "utf-8"
    )
    for name, said in {
        "a.jsonl": "--columns takes its columns in the other order, --languages fr-en",
        "a.fr": "exchange the names of its two files, --languages fr-en",
        "a.csv": "--columns fr en exchanges them, --languages fr-en",
    }.items():
        flags = ["--source", str(tmp_path / name), "--out", str(tmp_path / "corpus")]
        assert main(["prepare", "base", "--languages", "en-fr", *flags]) == 2
        [error] = capsys.readouterr().err.splitlines()
        assert "the source reads as French, the target as English, though" in error
        assert f"--languages is en-fr: {said}" in error
