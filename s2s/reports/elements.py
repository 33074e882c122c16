"""Elements and documents of HTML, in which all text is escaped."""

import html
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


def section(title: str, *content: object, anchor: str | None = None) -> Html:
    """Return content under a heading that `anchor` links to."""
    return element("section", element("h2", title), *content, id=anchor)


def document(title: str, *content: Html, styles: tuple[str, ...] = ()) -> str:
    """Return a whole HTML file, which lets browsers load nothing and run no script.

    Args:
        styles: names of the style sheets in this package that the file has beside `page.css`.
    """
    css = "".join("\n" + _read_style(name) for name in ("page.css", *styles))
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            element("title", title),
            element("style", Html(css)),
        ]
    )
    page = element("html", element("head", head), element("body", *content), lang="en")
    return f"<!doctype html>\n{page}\n"


def _read_style(name: str) -> str:
    return resources.files("s2s.reports").joinpath(name).read_text("utf-8")


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
