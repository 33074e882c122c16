"""Cards of sentences, of which a page shows several side by side."""

from collections.abc import Iterable, Sequence

from s2s.reports.elements import Html, element, join


def card(lines: Sequence[tuple[str, object, str]], note: str = "") -> Html:
    """Return a card.

    Args:
        lines: the name of each sentence, its text, and the code of its language.
        note: of the card as a whole.
    """
    terms = (
        join([element("dt", name), element("dd", text, lang=language, dir="auto")])
        for name, text, language in lines
    )
    return element("article", element("dl", *terms), element("p", note) if note else Html(""))


def cards(each: Iterable[Html]) -> Html:
    """Return cards side by side."""
    return element("div", *each, class_="cards")
