"""Translation memories: inline codes, languages, variants, and units that cannot be read."""

from html import escape
from pathlib import Path

import pytest

from s2s.errors import BadInput
from tests.support.sources import Rows, pairs_of, rows_of

HEAD = '<?xml version="1.0"{}?>\n{}<tmx version="1.4"><header srclang="en"/><body>\n'
END = "</body></tmx>"


def unit(*variants: str, attribute: str = "xml:lang") -> str:
    """A unit of variants such as `en Hello <ph/>`: code and segment."""
    parts = (variant.split(" ", 1) for variant in variants)
    tuvs = (f'<tuv {attribute}="{code}"><seg>{text}</seg></tuv>' for code, text in parts)
    return f"<tu>{''.join(tuvs)}</tu>\n"


def tmx(*units: str, doctype: str = "", encoding: str = "") -> str:
    return HEAD.format(encoding and f' encoding="{encoding}"', doctype) + "".join(units) + END


def read(folder: Path, content: str | bytes, languages: str = "en fr") -> Rows:
    path = folder / "m.tmx"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rows_of(path, languages=languages)


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        (r"Click <bpt i='1'>{\b </bpt>Save<ept i='1'>}</ept>.", "Click Save."),
        ("<bpt i='1'>&lt;b></bpt>Bold<ept i='1'>&lt;/b></ept> text", "Bold text"),
        ("<it pos='begin'>[</it>one<ut>{x}</ut> two<ph>%s</ph>", "one two"),
        ("a <hi type='term'>high <hi>light</hi></hi> b", "a high light b"),
        ("see<ph>{fn <sub>the note</sub>}</ph>here", "see the note here"),
        ("see <ph>{fn <sub>a <bpt i='1'>[</bpt>note</sub>}</ph> here", "see a note here"),
        ("one<ph type='lb'>&lt;br/></ph>two<ph type='lb'/> three", "one two three"),
        ("x <hi>a<ph>{0}</ph>b</hi><ph/> y", "x ab y"),
        ("R &amp; D <![CDATA[<3]]> &#233;", "R & D <3 é"),
    ],
)
def test_native_code_is_no_text(segment: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, tmx(unit(f"en {segment}", "fr x"))) == [(text, "x", "")]


@pytest.mark.parametrize(
    ("codes", "languages"),
    [
        ("en fr", "en fr"), ("EN-US FR_fr", "en fr"), ("en-GB fr-CA", "en fr"),
        ("pt-BR pt-PT", "pt_BR pt_PT"), ("pt-PT pt-BR", "pt pt_BR"), ("zh-CN en", "zh-Hans en"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attribute", ["xml:lang", "lang"])
def test_languages_are_found_however_they_are_spelt(
    codes: str, languages: str, attribute: str, tmp_path: Path
) -> None:
    one, two = codes.split()
    content = tmx(unit(f"{two} b", f"{one} a", "xx c", attribute=attribute))
    assert read(tmp_path, content, languages) == [("a", "b", "")]


def test_a_file_without_a_language_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no text in fr; the languages of the file are de, en-US:"):
        read(tmp_path, tmx(unit("en-US a", "de b")))


def test_a_unit_without_a_language_is_counted(tmp_path: Path) -> None:
    units = unit("en a", "fr b"), unit("en c"), unit("de d"), "<tu/>", unit("en e", "fr ")
    assert read(tmp_path, tmx(*units)) == [
        ("a", "b", ""), ("c", "", "columns"), ("", "", "columns"), ("", "", "columns"),
        ("e", "", ""),
    ]  # fmt: skip


def test_variants_of_a_language_are_counted(tmp_path: Path) -> None:
    content = tmx(unit("en-US a", "fr-CA c", "fr b", "fr d", "en ", "fr-FR b"))
    assert read(tmp_path, content) == [
        ("a", "b", ""),
        ("", "b", "variant"),
        ("a", "d", "variant"),
        ("a", "c", "variant"),
        ("a", "b", "variant"),
    ]


@pytest.mark.parametrize("fault", ["&#31;", "R & D", "&nbsp;", "\x0b", "<b>", "a < b", "]]>"])
def test_what_is_no_xml_costs_its_unit(fault: str, tmp_path: Path) -> None:
    good = [unit(f"en {n}", f"fr {n}") for n in range(3)]
    rows = read(tmp_path, tmx(*good, unit(f"en x {fault}", "fr y"), *good))
    assert [drop for _, _, drop in rows] == ["", "", "", "malformed", "", "", ""]


def test_a_file_of_which_no_unit_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no unit can be read; unit 1: undefined entity"):
        read(tmp_path, tmx(unit("en &x;", "fr y")))


def test_entities_that_the_file_declares_are_read(tmp_path: Path) -> None:
    doctype = '<!DOCTYPE tmx SYSTEM "tmx14.dtd" [<!ENTITY eacute "&#233;">]>\n'
    content = tmx(unit("en a", "fr &eacute;t&eacute;"), unit("en b", "fr &x;"), doctype=doctype)
    assert read(tmp_path, content) == [("a", "été", ""), ("", "", "malformed")]


def test_the_expansion_of_entities_is_limited(tmp_path: Path) -> None:
    bombs = [f'<!ENTITY b{n + 1} "{f"&b{n};" * 50}">' for n in range(6)]
    doctype = f'<!DOCTYPE tmx [<!ENTITY b0 "{"x" * 50}">{"".join(bombs)}]>'
    rows = read(tmp_path, tmx(unit("en a", "fr b"), unit("en c", "fr &b6;"), doctype=doctype))
    assert [drop for _, _, drop in rows] == ["", "malformed"]


def test_units_in_comments_are_not_read(tmp_path: Path) -> None:
    hidden = f"<!-- {unit('en x', 'fr y')} -->"
    assert read(tmp_path, tmx(hidden, unit("en a", "fr b<!-- c -->"), hidden)) == [("a", "b", "")]
    long = f"<!-- {unit('en x', 'fr y') * 9_000} -->"
    assert read(tmp_path, tmx(long, unit("en a", "fr b"), long)) == [("a", "b", "")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "iso-8859-1", "cp1252"])
def test_the_encoding_of_a_file_is_obeyed(encoding: str, tmp_path: Path) -> None:
    declared = encoding.removesuffix("-sig").removesuffix("-le")
    units = [unit("en summer", f"fr l'été {n}") for n in range(9)]
    rows = read(tmp_path, tmx(*units, encoding=declared).encode(encoding))
    assert rows == [("summer", f"l'été {n}", "") for n in range(9)]


@pytest.mark.parametrize("cut", [-3, -10, -30, -80])
def test_a_file_that_breaks_off_is_refused(cut: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"breaks off after unit [34]"):
        read(tmp_path, tmx(*[unit(f"en {n}", f"fr {n}") for n in range(4)])[: cut - 10])


def test_units_are_read_across_the_blocks_of_a_file(tmp_path: Path) -> None:
    texts = [f"{n} {'word ' * (n % 40)}& « é »" for n in range(2_000)]
    texts.insert(7, "long " * 40_000)
    units = [unit(f"en {escape(text)}", f"fr {escape(text)}", "de x") for text in texts]
    path = tmp_path / "m.tmx"
    path.write_text(tmx(*units), "utf-8")
    assert pairs_of(path) == [(text, text) for text in texts]


def test_a_prefix_of_a_namespace_may_stand_before_the_names(tmp_path: Path) -> None:
    content = tmx(unit("en a", "fr b<ph>c</ph>"))
    for name in ("tmx", "body", "tu", "tuv", "seg", "ph", "header"):
        content = content.replace(f"<{name}", f"<t:{name}").replace(f"</{name}", f"</t:{name}")
    for name in ("tu", "tuv"):
        content = content.replace(f"<t:t:{name}", f"<t:{name}").replace(
            f"</t:t:{name}", f"</t:{name}"
        )
    assert read(tmp_path, content) == [("a", "b", "")]
