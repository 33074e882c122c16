"""HTML whose text is translated: every mark of it stays, byte for byte."""

import html
import re
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from s2s.decoding.translator import Translator
from s2s.serving.http.markup import Markup, parts_of
from s2s.text.alignment import Alignment
from tests.support.serving import client_of, models_of


def same(text: str) -> str:
    """The HTML, translated by nobody."""
    markup = Markup(text)
    return markup.filled([each.strip() for each in markup.texts])


def shouted(text: str) -> str:
    """The HTML, its texts in capitals and between marks: what was translated can be seen."""
    markup = Markup(text)
    translations = [f"«{each.strip().upper()}»" for each in markup.texts]
    alignments = [
        Alignment(
            0,
            0,
            len(translation),
            [
                (source.start(), target.start(), target.end())
                for source, target in zip(words(text), words(translation), strict=True)
            ],
        )
        for text, translation in zip(markup.texts, translations, strict=True)
    ]
    return markup.filled(translations, [[each] for each in alignments])


def words(text: str) -> Iterator[re.Match[str]]:
    """The places of the words of a text, and of its marks."""
    return re.finditer(r"«?\w+»?|[^\w\s«»]»?", text)


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
MARKED = ["<b translate=no>", "<p translate=no>", "<i translate=yes>", "</b>", "</p>", "</i>"]
SPACES = ["\n", "\r", "\r\n", "\t", " ", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\xa0", "\0"]
PIECES = st.one_of(map(st.sampled_from, (BEGINS, ENDS, TAGS, VERBATIM, MARKED, REFERENCES, SPACES)))
ANY = st.one_of(st.text(max_size=9), st.lists(PIECES, max_size=12).map("".join))


@given(ANY)
@example("<")
@example("a<!--")
@example("<script>x")
@example("\r\n<p>\r\n</p>")
@example("</")
@example("<![CDATA[x")
def test_the_parts_of_any_text_are_the_text(text: str) -> None:
    parts = [part if isinstance(part, str) else part.html for part in parts_of(text)]
    assert "".join(parts) == text
    assert all(parts)


@given(ANY)
def test_of_any_text_there_are_as_many_texts_as_are_put_back(text: str) -> None:
    markup = Markup(text)
    assert all(each.strip() for each in markup.texts)
    assume("\ue000" not in text)
    made = markup.filled(["\ue000"] * len(markup.texts))
    assert made.count("\ue000") == len(markup.texts)
    marks = "".join(
        part if isinstance(part, str) else "".join(anchor.html for anchor in part.anchors)
        for part in parts_of(text)
    )
    rest = iter(made)
    assert all(character in rest for character in marks)  # in order


@given(st.text(st.characters(exclude_characters="<>&", exclude_categories=["Cs"])))
def test_text_without_marks_is_one_text(text: str) -> None:
    shown = re.sub(r"[ \t\n\r\f]+", " ", text).strip()
    assert Markup(text).texts == ([shown] if shown else [])
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


# The marks of such HTML, where no quoted value has a bare > in it.
MARKS = r"<(script|style|pre|code|textarea)\b.*?</\1>|<!--.*?-->|<[^>]*>"
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
    marks = re.compile(MARKS, re.DOTALL)

    def found(given: str) -> list[str]:
        return [each.group() for each in marks.finditer(given)]

    assert found(shouted(text)) == found(text)
    between = html.unescape(marks.sub("", text))
    assert "".join("".join(Markup(text).texts).split()) == "".join(between.split())


LINKS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=8)


@settings(max_examples=60)
@given(WELL_FORMED, st.lists(st.tuples(st.text("ab c", max_size=4), LINKS), min_size=1))
def test_marks_keep_their_order_wherever_words_go(
    text: str, drawn: list[tuple[str, list[tuple[int, int]]]]
) -> None:
    markup = Markup(text)
    translations, alignments = [], []
    for source, (said, links) in zip(markup.texts, cycle(drawn), strict=False):
        parts = [f"{said}w{number}" for number in range(len(links))]
        translation, begin, found = " ".join(parts), 0, []
        for word, (place, _) in zip(parts, links, strict=True):
            found.append((min(place, len(source)), begin, begin + len(word)))
            begin += len(word) + 1
        translations.append(translation)
        alignments.append([Alignment(0, 0, len(translation), found)])
    made = markup.filled(translations, alignments)
    marks = re.compile(MARKS, re.DOTALL)
    assert [m.group() for m in marks.finditer(made)] == [m.group() for m in marks.finditer(text)]
    rest = "".join(html.unescape(marks.sub("", made)).split())
    assert rest == "".join("".join(translations).split())


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
        ("a <code>b</code> c", "«A <code>b</code> C»"),
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
    text = f"{space}a{space}<br><b>{space}b</b>"
    assert shouted(text) == f"{space}«A»{space}<br><b>{space}«B»</b>"


@pytest.mark.parametrize(
    ("text", "texts", "wanted"),
    [
        ("<p>\n  a\n  b c\n</p>", ["a b c"], "<p>\n  «A B C»\n</p>"),
        ("a <b>b</b> c", ["a b c"], "«A <b>B</b> C»"),
        ("<b>a</b> b", ["a b"], "<b>«A</b> B»"),
        ("<i>a <b>b</b></i>", ["a b"], "<i>«A <b>B»</b></i>"),
        ("<p>a<p>b", ["a", "b"], "<p>«A»<p>«B»"),
        ("a <b>b</i> c</b> d", ["a b c d"], "«A <b>B</i> C</b> D»"),
        ("<my-tag>a</my-tag>b", ["a", "b"], "<my-tag>«A»</my-tag>«B»"),
        ("a <img src=x> b c", ["a b c"], "«A <img src=x> B C»"),
        ("a <!-- x -->b", ["a b"], "«A <!-- x -->B»"),
    ],
)
def test_inline_tags_do_not_cut_a_sentence(text: str, texts: list[str], wanted: str) -> None:
    assert Markup(text).texts == texts
    assert shouted(text) == wanted


@pytest.mark.parametrize(
    ("text", "texts", "wanted"),
    [
        ("<p translate=no>a</p>b", ["b"], "<p translate=no>a</p>«B»"),
        ("<p class='x notranslate'>a</p>b", ["b"], "<p class='x notranslate'>a</p>«B»"),
        ("<p class=notranslated>a</p>", ["a"], "<p class=notranslated>«A»</p>"),
        (
            "<div translate=no><p>a<b>b</b></p></div>",
            [],
            "<div translate=no><p>a<b>b</b></p></div>",
        ),
        (
            "<div translate=no>a <p translate=yes>b</p> c</div>d",
            ["b", "d"],
            "<div translate=no>a <p translate=yes>«B»</p> c</div>«D»",
        ),
        (
            "<div translate=no>a <b translate>b</b> c</div>",
            ["b"],
            "<div translate=no>a <b translate>«B»</b> c</div>",
        ),
        ("<p translate=no>a<p>b", ["b"], "<p translate=no>a<p>«B»"),
        ("<p>a <b translate=no>b</p>c", ["a", "c"], "<p>«A» <b translate=no>b</p>«C»"),
        ("<code><b translate=yes>a</b></code>", [], "<code><b translate=yes>a</b></code>"),
        (
            'a <i translate="no">:x:</i>, b <a translate="no" href="#">#<b>c</b></a> d',
            ["a, b d"],
            '«A <i translate="no">:x:</i>, B <a translate="no" href="#">#<b>c</b></a> D»',
        ),
        ("<a translate=no>@<b>x</b></a> a", ["a"], "<a translate=no>@<b>x</b></a> «A»"),
        (
            "a <i translate=no>x</i> <i translate=no>y</i> b",
            ["a b"],
            "«A <i translate=no>x</i> <i translate=no>y</i> B»",
        ),
    ],
)
def test_what_is_marked_stays_byte_for_byte(text: str, texts: list[str], wanted: str) -> None:
    assert Markup(text).texts == texts
    assert shouted(text) == wanted


@pytest.mark.parametrize(
    ("text", "translation", "links", "wanted"),
    [
        ("a <b>black</b> cat", "un chat noir", [0, 8, 2], "un chat <b>noir</b>"),
        ("a black <b>cat</b>", "un chat noir", [0, 8, 2], "un <b>chat</b> noir"),
        ("<b>a</b> black cat", "un chat noir", [0, 8, 2], "<b>un</b> chat noir"),
        ("a <i><b>black</b> cat</i>", "un chat noir", [0, 8, 2], "un <i>chat <b>noir</b></i>"),
        ("a<wbr> black cat", "un chat noir", [0, 8, 2], "un<wbr> chat noir"),
        ("a <b>black</b> cat", "un & chat", [0, 0, 8], "un <b>&amp;</b> chat"),  # by position
        ("a <b>black</b> cat", "chat", [8], "<b>chat</b>"),
        ("a <b>black</b> cat", "", [], "<b></b>"),
    ],
)
def test_tags_go_where_their_words_go(
    text: str, translation: str, links: list[int], wanted: str
) -> None:
    aligned = [
        (place, word.start(), word.end())
        for place, word in zip(links, words(translation), strict=True)
    ]
    alignment = Alignment(0, 0, len(translation), aligned)
    assert Markup(text).filled([translation], [[alignment]]) == wanted


def test_tags_stay_in_their_sentences() -> None:
    markup = Markup("I see. <b>You</b> see it. <i>See.</i>")
    assert markup.texts == ["I see. You see it. See."]
    said = ["Oh oh oh oh oh oh oh je vois.", "Tu le vois.", "Vois."]
    alignments = [
        Alignment(0, 0, 29, [(0, 0, 28), (5, 28, 29)]),
        Alignment(7, 30, 11, [(0, 0, 2), (8, 3, 5), (4, 6, 10), (10, 10, 11)]),
        Alignment(19, 42, 5, [(0, 0, 4), (3, 4, 5)]),
    ]
    made = markup.filled([" ".join(said)], [alignments])
    assert made == f"{said[0]} <b>Tu</b> le vois. <i>Vois.</i>"


def test_a_translation_cannot_become_a_mark() -> None:
    markup = Markup("<p>&lt;script&gt;</p>")
    assert markup.texts == ["<script>"]
    assert markup.filled(["<img src=x onerror=a()> &copy;"]) == (
        "<p>&lt;img src=x onerror=a()&gt; &amp;copy;</p>"
    )


LONG = [
    "<a ",
    "<a b='",
    "<a\n",
    "\n<",
    "a<b>",
    "a<b>b</b> ",
    "</b><b>a",
    "<i>a <b translate=no>x</b>",
]


@pytest.mark.parametrize("piece", [*BEGINS, *TAGS, *VERBATIM, *MARKED, *LONG])
def test_no_text_of_the_greatest_size_takes_long(piece: str) -> None:
    began = time.process_time()  # ours alone: the machine may be busy
    shouted((piece * 10_000)[:10_000])
    assert time.process_time() - began < 3


# ---- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(model_dir: Path) -> Iterator[httpx.Client]:
    with models_of(model_dir) as models, client_of(models) as client:
        yield client


def ask(client: httpx.Client, q: object, **more: object) -> httpx.Response:
    body = {"q": q, "source": "en", "target": "fr", "format": "html", **more}
    return client.post("/translate", json=body)


def test_html_is_translated_between_its_marks(client: httpx.Client, translator: Translator) -> None:
    text = '<p class="a">I see trees.</p>\n<!-- x --><script>I want bread.</script> you want bread?'
    trees, bread = translator.translate(["I see trees.", "you want bread?"])
    wanted = f'<p class="a">{trees}</p>\n<!-- x --><script>I want bread.</script> {bread}'
    response = ask(client, text)
    assert (response.status_code, response.json()) == (200, {"translatedText": wanted})


def test_what_mastodon_marks_stays(client: httpx.Client) -> None:
    emoji, tag = (
        '<span translate="no">:blobcat:</span>',
        '<a class="mention hashtag" translate="no" href="#">#<span>trees</span></a>',
    )
    answer = ask(client, f"<p>I see {emoji} trees, you want {tag}</p>").json()["translatedText"]
    assert answer.count(emoji) == answer.count(tag) == 1
    assert re.fullmatch(f"<p>[^<]*{emoji}[^<]*{tag}</p>", answer)


def test_a_line_break_in_html_is_a_space(client: httpx.Client, translator: Translator) -> None:
    answer = ask(client, "<p>\n  I see\n  trees.\n</p>").json()["translatedText"]
    assert answer == f"<p>\n  {translator.translate(['I see trees.'])[0]}\n</p>"


def test_cells_of_numbers_stay(client: httpx.Client) -> None:
    text = "<td>3</td><td> 12:30&nbsp;</td><td>&euro;&#53;</td><p>I see <b>trees</b>.</p>"
    answer = ask(client, text).json()["translatedText"]
    assert answer.startswith(text.partition("<p>")[0])


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
    row = "<p>a"
    assert ask(client, row * 1_900).status_code == 200
    # To come again, which 429 asks for, would never help.
    response = ask(client, row * 2_100)
    assert (response.status_code, "2,000 sentences" in response.json()["error"]) == (413, True)
