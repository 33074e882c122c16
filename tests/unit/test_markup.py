"""HTML whose text is translated: every mark of it stays, byte for byte."""

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from s2s.decoding.translator import Translator
from s2s.serving.engine.models import Models
from s2s.serving.http.markup import Markup, _parts
from tests.support.serving import client_of, in_threads


def same(text: str) -> str:
    """The HTML, translated by nobody."""
    markup = Markup(text)
    return markup.filled([each.strip() for each in markup.texts])


def shouted(text: str) -> str:
    """The HTML, its texts in capitals and between marks: what was translated can be seen."""
    markup = Markup(text)
    return markup.filled([f"«{each.strip().upper()}»" for each in markup.texts])


# ---- any text ------------------------------------------------------------------------------------

# Of pieces that a parser looks for, so that chance finds the places where it stumbles.
BEGINS = ["<", "</", "<!", "<!--", "<?", "<![CDATA[", "<b", "</b", "<3", '<a href="', "&", "&#"]
ENDS = [
    ">",
    "/>",
    "-->",
    "--!>",
    "?>",
    "]]>",
    ";",
    "'",
    '"',
    "=",
    "a",
    "é",
    "🙂",
    "\u0301",
    "\ud800",
]
TAGS = ["<p>", "</p>", "<br/>", "<a href='x>y'>", "<title>", "<svg/>", "<math>", "<!doctype x>"]
VERBATIM = ["<script>", "</script>", "<style>", "</style", "<pre>", "</pre>", "<CODE>", "</Code >"]
REFERENCES = ["&amp;", "&amp", "&#65;", "&#x41", "&nbsp;", "&nosuch;", "&#0;", "&lt", "&#xD800;"]
SPACES = ["\n", "\r", "\r\n", "\t", " ", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\xa0", "\0"]
PIECES = st.one_of(map(st.sampled_from, (BEGINS, ENDS, TAGS, VERBATIM, REFERENCES, SPACES)))
ANY = st.one_of(st.text(max_size=9), st.lists(PIECES, max_size=12).map("".join))


@given(ANY)
@example("<")
@example("a<!--")
@example("<script>x")
@example("\r\n<p>\r\n</p>")
@example("</")
@example("<![CDATA[x")
def test_the_parts_of_any_text_are_the_text(text: str) -> None:
    parts = _parts(text)
    assert "".join(part for part, _ in parts) == text
    assert all(part for part, _ in parts)


@given(ANY)
def test_of_any_text_there_are_as_many_texts_as_are_put_back(text: str) -> None:
    markup = Markup(text)
    assert all(each.strip() for each in markup.texts)
    assume("\ue000" not in text)
    made = markup.filled(["\ue000"] * len(markup.texts))
    assert made.count("\ue000") == len(markup.texts)
    marks = "".join(part for part, prose in _parts(text) if not prose)
    rest = iter(made)
    assert all(character in rest for character in marks)  # in order


@given(st.text(st.characters(exclude_characters="<>&", exclude_categories=["Cs"])))
def test_text_without_marks_is_one_text(text: str) -> None:
    assert Markup(text).texts == ([text.strip()] if text.strip() else [])
    assert same(text) == text


# ---- well-formed HTML ----------------------------------------------------------------------------

LETTERS = st.characters(codec="utf-8", exclude_characters="<>&", exclude_categories=["Cc", "Cs"])
PROSE = st.text(LETTERS, min_size=1, max_size=12).map(lambda text: html.escape(text, quote=False))
VALUE = st.text(LETTERS, max_size=8).map(lambda text: html.escape(f"<{text}>"))
NAMES = ["p", "b", "div", "a", "H1", "td", "em", "my-tag"]
ATTRIBUTE = st.one_of(
    st.tuples(st.sampled_from(["href", "title", "data-x", "CLASS"]), VALUE).map(
        lambda each: f' {each[0]}="{each[1]}"'
    ),
    st.sampled_from([" hidden", " a=b", "\n id='x'", ' x = "y"', " alt='I see trees.'"]),
)
ATTRIBUTES = st.lists(ATTRIBUTE, max_size=3).map("".join)
COMMENT = st.text(LETTERS, max_size=9).map(lambda text: f"<!--a{text.replace('-', '')}a-->")
SCRIPT = st.tuples(
    st.sampled_from(["script", "style", "pre", "code", "textarea"]),
    ATTRIBUTES,
    st.sampled_from(["", "I see trees.", "x &amp; y", "var a = 'é';\n", "p { color: red }", " "]),
).map(lambda each: f"<{each[0]}{each[1]}>{each[2]}</{each[0]}>")
LEAF = st.one_of(PROSE, COMMENT, SCRIPT, st.sampled_from(["<br>", "<br/>", "<img src=x />", "\n "]))


def _element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inside = st.lists(children, max_size=4).map("".join)
    return st.tuples(st.sampled_from(NAMES), ATTRIBUTES, inside).map(
        lambda each: f"<{each[0]}{each[1]}>{each[2]}</{each[0]}>"
    )


WELL_FORMED = st.lists(st.recursive(LEAF, _element, max_leaves=12), max_size=4).map("".join)


@settings(max_examples=60)
@given(WELL_FORMED)
@example("<!doctype html><html><body><p>I see trees.</p></body></html>")
@example('<p title="a > b">x</p>')
@example("<svg><text>I see trees.</text></svg>")
def test_what_is_not_changed_stays_byte_for_byte(text: str) -> None:
    assert same(text) == text


@settings(max_examples=60)
@given(WELL_FORMED)
def test_marks_stay_where_every_text_is_changed(text: str) -> None:
    # A pattern of our own for the marks of HTML as above, where no quoted value has a bare > in it.
    verbatim = r"<(script|style|pre|code|textarea)\b.*?</\1>"
    marks = re.compile(rf"{verbatim}|<!--.*?-->|<[^>]*>", re.DOTALL)

    def found(given: str) -> list[str]:
        return [each.group() for each in marks.finditer(given)]

    assert found(shouted(text)) == found(text)
    between = [each.strip() for each in re.split(r"\0", marks.sub("\0", text)) if each.strip()]
    assert [each.strip() for each in Markup(text).texts] == [html.unescape(e) for e in between]


# ---- what stands in it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<p>a</p>", "<p>«A»</p>"),
        ("<p> a\n</p>", "<p> «A»\n</p>"),
        ("a<br>b", "«A»<br>«B»"),
        ("<script>a</script>b", "<script>a</script>«B»"),
        ("<script>if (a < b) c('</p>')</script>d", "<script>if (a < b) c('</p>')</script>«D»"),
        ("<style>p { a: b }</style>c", "<style>p { a: b }</style>«C»"),
        ("<pre>a <b>b</b> c</pre>d", "<pre>a <b>b</b> c</pre>«D»"),
        ("<code>a</code> b", "<code>a</code> «B»"),
        ("<CODE>a</Code> b", "<CODE>a</Code> «B»"),
        ("<code><code>a</code>b</code>c", "<code><code>a</code>b</code>«C»"),
        ("<pre>a<code>b</pre>c", "<pre>a<code>b</pre>«C»"),
        ("</code>a", "</code>«A»"),
        ("<textarea>a</textarea>b", "<textarea>a</textarea>«B»"),
        ("<svg><text>a</text></svg>b", "<svg><text>a</text></svg>«B»"),
        ("<!-- a -->b", "<!-- a -->«B»"),
        ("<?php a ?>b", "<?php a ?>«B»"),
        ("<img alt='a'>b", "<img alt='a'>«B»"),
        ("a &lt;b&gt; &amp; c", "«A &lt;B&gt; &amp; C»"),
        ("&eacute;&#233;&#xE9;", "«ÉÉÉ»"),
        ("AT&T", "«AT&amp;T»"),
        ("a < b", "«A &lt; B»"),
        ('"a"', '«"A"»'),
    ],
)
def test_only_prose_is_translated(text: str, wanted: str) -> None:
    assert shouted(text) == wanted


@pytest.mark.parametrize("space", ["&nbsp;", "&#160;", "&#xA0;", "&emsp;", " &nbsp; ", "\xa0"])
def test_spaces_that_are_spelt_out_stay(space: str) -> None:
    assert same(f"<td>{space}</td>") == f"<td>{space}</td>"
    assert Markup(f"<td>{space}</td>").texts == []
    assert shouted(f"a{space}<b>b</b>{space}c") == f"«A»{space}<b>«B»</b>{space}«C»"


def test_a_translation_cannot_become_a_mark() -> None:
    markup = Markup("<p>&lt;script&gt;</p>")
    assert markup.texts == ["<script>"]
    assert markup.filled(["<img src=x onerror=a()> &copy;"]) == (
        "<p>&lt;img src=x onerror=a()&gt; &amp;copy;</p>"
    )


@pytest.mark.parametrize("piece", [*BEGINS, *TAGS, *VERBATIM, "<a ", "<a b='", "<a\n", "\n<"])
def test_no_text_of_the_greatest_size_takes_long(piece: str) -> None:
    began = time.process_time()  # ours alone: the machine may be busy
    Markup((piece * 10_000)[:10_000])
    assert time.process_time() - began < 3


# ---- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(model_dir: Path) -> Iterator[httpx.Client]:
    models = Models(in_threads())
    models.serve([model_dir])
    with client_of(models) as client:
        yield client
    models.close()


def ask(client: httpx.Client, q: object, **more: object) -> httpx.Response:
    body = {"q": q, "source": "en", "target": "fr", "format": "html", **more}
    return client.post("/translate", json=body)


def test_html_is_translated_between_its_marks(client: httpx.Client, translator: Translator) -> None:
    text = '<p class="a">I see trees.</p>\n<!-- x --><script>I want bread.</script> you want bread?'
    trees, bread = translator.translate(["I see trees.", "you want bread?"])
    wanted = f'<p class="a">{trees}</p>\n<!-- x --><script>I want bread.</script> {bread}'
    response = ask(client, text)
    assert (response.status_code, response.json()) == (200, {"translatedText": wanted})


def test_a_list_of_html_is_translated_each_for_itself(
    client: httpx.Client, translator: Translator
) -> None:
    trees = translator.translate(["I see trees."])[0]
    answer = ask(client, ["<b>I see trees.</b>", "<hr>", "I see trees.<br>I see trees."]).json()
    assert answer == {
        "translatedText": [f"<b>{trees}</b>", "<hr>", f"{trees}<br>{trees}"],
    }


def test_alternatives_of_html_have_its_marks(client: httpx.Client) -> None:
    answer = ask(client, "<p>I <b>see</b> trees.</p>", alternatives=3).json()
    assert answer["alternatives"]
    for other in answer["alternatives"]:
        assert re.sub(r"(?<=>)[^<]+", "", other) == "<p><b></b></p>"
        assert other != answer["translatedText"]


def test_entities_reach_the_model_as_letters(client: httpx.Client, translator: Translator) -> None:
    answer = ask(client, "it&#39;s said that bread &amp; trees").json()["translatedText"]
    [plain] = translator.translate(["it's said that bread & trees"])
    assert html.unescape(answer) == plain


@pytest.mark.parametrize("text", ["<hr>", "<p></p>", "<!-- a -->", "<code>a</code>", "&nbsp;<br>"])
def test_html_without_text_stays(text: str, client: httpx.Client) -> None:
    for alternatives in (0, 2):
        response = ask(client, text, alternatives=alternatives)
        assert response.status_code == 200
        assert response.json()["translatedText"] == text


def test_in_plain_text_marks_are_words(client: httpx.Client, translator: Translator) -> None:
    text = "<p>I see trees.</p>"
    answer = ask(client, text, format="text").json()
    assert answer == {"translatedText": translator.translate([text])[0]}


def test_html_within_the_limits_is_translated_by_a_server_with_nothing_to_do(
    client: httpx.Client,
) -> None:
    row = "<i>a"
    assert ask(client, row * 1_000).status_code == 200
    # To come again, which 429 asks for, would never help.
    response = ask(client, row * 1_200)
    assert (response.status_code, "1,024 texts" in response.json()["error"]) == (413, True)
