"""Elements and documents of HTML, in which all text is escaped."""

import html
import re
from collections.abc import Iterable
from importlib import resources


class Html(str):
    """Text that is HTML already; all other text is escaped when an element takes it in."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Html:
    """Return an element of HTML.

    Args:
        content: what the element holds, escaped unless it is `Html`.
        attributes: by name, with `_` for each hyphen, and at the end of a name that is a keyword of
            Python; None gives no attribute.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Iterable[object]) -> Html:
    """Return content side by side, escaped unless it is `Html`."""
    return Html("".join(c if isinstance(c, Html) else html.escape(as_text(c)) for c in content))


def as_text(value: object) -> str:
    """Return a value as text, whole numbers with separators of thousands."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def bar(low: float, high: float) -> Html:
    """Return a line from 0 to 100 with a mark from `low` to `high`."""
    low, high = (min(max(end, 0.0), 100.0) for end in (low, high))
    mark = element("i", style=f"left: {low:.2f}%; width: {high - low:.2f}%")
    return element("span", mark if high > low else "", class_="line", aria_hidden="true")


def value_bar(value: float, text: str | None = None) -> Html:
    """Return a value from 0 to 100 as text, with one decimal unless it is given, and as a bar."""
    return join([f"{value:.1f}" if text is None else text, bar(0, value)])


def section(title: str, *content: object, anchor: str | None = None) -> Html:
    """Return content under a heading that `anchor` links to."""
    return element("section", element("h2", title), *content, id=anchor)


def with_options(text: str) -> Html:
    """Return text whose options, such as `--beam`, stay on one line each."""
    parts = re.split(r"(--[a-z][a-z0-9.-]*[a-z0-9])", text)
    return join(element("code", p, class_="option") if p.startswith("--") else p for p in parts)


def scrollable(content: Html, label: str) -> Html:
    """Return content that scrolls by itself where the window is too narrow for it.

    Args:
        label: what the content is, for a reader who only hears the page.
    """
    # The keyboard scrolls what has the focus.
    return element("div", content, class_="scroll", tabindex="0", role="group", aria_label=label)


def document(title: str, *content: Html) -> str:
    """Return a whole HTML file, which lets browsers load nothing and run no script."""
    css = resources.files("s2s.reports").joinpath("page.css").read_text("utf-8")
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            element("title", title),
            element("style", Html("\n" + css)),
        ]
    )
    page = element("html", element("head", head), element("body", *content), lang="en")
    return f"<!doctype html>\n{page}\n"


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
