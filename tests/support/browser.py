"""Pages in a real browser."""

import shutil
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium")

# Pairs of labels of a plot that cover each other.
_OVERLAPS = """[...document.querySelectorAll("svg")].flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text")].map(
    text => ({text: text.textContent, ...text.getBoundingClientRect().toJSON()}));
  return boxes.flatMap((one, n) => boxes.slice(n + 1)
    .filter(other => one.left < other.right - 1 && other.left < one.right - 1
      && one.top < other.bottom - 4 && other.top < one.bottom - 4)
    .map(other => [one.text, other.text]));
})"""


def require_readable(page: Path) -> None:
    """Check a page on a phone in dark, and in a wide window in light.

    Nobody is shut out by what axe can find, nothing runs out of the window, no labels of a plot
    cover each other, and the page asks for no other file.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    heard: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width, scheme in ((390, "dark"), (1280, "light")):
            shown = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
            shown.on("request", lambda request: heard.append(request.url))
            shown.on("console", lambda message: heard.append(message.text))
            shown.goto(page.as_uri())
            assert axe.Axe().run(shown).response["violations"] == []
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            boxes = [plot.bounding_box() for plot in shown.locator("svg").all()]
            assert boxes
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
            assert shown.evaluate(_OVERLAPS) == []
            shown.close()
        browser.close()
    assert set(heard) == {page.as_uri()}
