"""The web page in a real browser, over a real model, server and socket; no Ray."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from s2s.config import Config, DataConfig, TextConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.serving.engine.models import Models
from s2s.serving.http.api_keys import Keys, new_key, read_keys
from s2s.serving.http.gate import Limits
from tests.support.corpora import SUBJECTS, VERBS, Pairs, prepare_file, train_model
from tests.support.serving import in_threads, serving

BROWSER = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

Visit = Callable[..., Any]  # opens an address, and gives Playwright's page

TEXT = "I don't see school."
LONG = f"{TEXT}\n\nyou want bread? we see Paris!"
DOGS = "they see dogs."  # which the model has no word for


@pytest.fixture(scope="module")
def looking(pairs: Pairs, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a model with attention, and no word for dogs: each has another name."""
    path = tmp_path_factory.mktemp("pages")
    dogs = [
        (f"{s} {v} dogs.", f"{SUBJECTS[s]} {VERBS[v]} {name}{s}{v.split()[0][:3]}.")
        for s, v, name in product(SUBJECTS, VERBS, ("rex", "fido", "médor"))
    ]
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs + dogs)
    (path / "pairs.txt").write_text(lines, "utf-8")
    text = TextConfig(min_frequency=4)
    prepare_file(path / "pairs.txt", DataConfig(text=text, corpus=tiny.corpus), path / "corpus")
    model = tiny.model.model_copy(update={"attention": "general"})
    config = tiny.model_copy(update={"model": model, "text": text})
    train_model(Corpus.open(path / "corpus"), config, path / "looking")
    return path / "looking"


@pytest.fixture(scope="module")
def translate(looking: Path) -> Callable[[str], str]:
    """What the model makes of a text."""
    translator = Translator.load(looking)
    return lambda text: translator.translate([text])[0]


@pytest.fixture(scope="module")
def models(looking: Path) -> Iterator[Models]:
    models = Models(in_threads())
    models.serve([looking])
    yield models
    models.close()


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    with serving(models) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens pages. Afterwards none has logged an error, or asked any other server."""
    contexts: list[Any] = []
    errors: list[str] = []
    asked: list[str] = []
    addresses: list[str] = []

    def logged(message: Any) -> None:
        refused = "Failed to load resource" in message.text  # the browser's own words for 4xx
        if message.type in ("error", "warning") and not refused:
            errors.append(message.text)

    def opened(address: str, script: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", logged)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(script)
        page.goto(address)
        sync_api.expect(page.locator("#model")).not_to_be_empty()
        addresses.append(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((*addresses, "data:"))] == []


def shows(page: Any, translation: str) -> None:
    """Wait until the page is done, and has this translation."""
    sync_api.expect(page.locator("#translation")).to_have_text(translation)
    sync_api.expect(page.locator("#translation")).to_have_attribute("aria-busy", "false")
    sync_api.expect(page.locator("#more")).to_be_visible()
    assert page.locator("#translation").text_content() == translation


def until(page: Any, true: str) -> None:
    """Wait for something. Playwright's own way evaluates strings, which the policy forbids."""
    for _ in range(200):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    pytest.fail(true)


def weights(page: Any) -> list[float]:
    """How dark each token of the text is."""
    told = "all => all.map(one => Number(one.style.getPropertyValue('--weight')))"
    found: list[float] = page.locator(".token").evaluate_all(told)
    return found


# ---- translating --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TEXT, LONG])
def test_typing_gives_what_the_translator_gives(
    text: str, address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    page.locator("#text").press_sequentially(text, delay=5)
    shows(page, translate(text))
    assert page.locator("#translation").get_attribute("lang") == "fr"
    assert page.locator("#count").text_content() == f"{len(text)} / 10,000"


def test_words_appear_before_the_answer_is_whole(address: str, visit: Visit) -> None:
    page = visit(
        address,
        """window.seen = []; addEventListener("DOMContentLoaded", () => new MutationObserver(() =>
             seen.push(document.getElementById("translation").textContent)
           ).observe(document.getElementById("translation"), {childList: true}));""",
    )
    pane = page.locator("#translation").bounding_box()
    page.fill("#text", "we see Paris!")
    sync_api.expect(page.locator("#more")).to_be_visible()
    seen = page.evaluate("seen")
    assert len(set(seen)) > 1
    assert all(page.locator("#translation").text_content().startswith(text) for text in seen)
    assert page.locator("#translation").bounding_box() == pane


def test_an_older_answer_never_overwrites_a_newer_one(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    late = """
      const real = fetch;
      window.streams = 0;
      window.late = false;
      window.fetch = async (path, how) => {
        if (!path.endsWith("stream") || window.streams++) return real(path, how);
        await new Promise((go) => setTimeout(go, 700));
        const response = await real(path, { ...how, signal: undefined });
        window.late = true;
        return response;
      };"""
    page = visit(address, late)
    page.fill("#text", "we see Paris!")
    until(page, "streams === 1")
    page.fill("#text", TEXT)
    shows(page, translate(TEXT))
    until(page, "late")
    page.wait_for_timeout(200)
    shows(page, translate(TEXT))


def test_keys_translate_at_once_and_clear(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    page.clock.install()  # no time passes, so that typing alone gives nothing
    page.fill("#text", TEXT)
    page.press("#text", "Control+Enter")
    shows(page, translate(TEXT))
    page.locator(".word").first.press("Escape")
    assert page.locator("#text").input_value() == ""
    assert page.locator("#translation").text_content() == ""
    assert page.evaluate("document.activeElement.id") == "text"
    sync_api.expect(page.locator("#help")).to_be_visible()
    sync_api.expect(page.locator("#copy")).to_be_disabled()


def test_a_translation_is_copied(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    page.fill("#text", LONG)
    shows(page, translate(LONG))
    page.click("#copy")
    sync_api.expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == translate(LONG)


def test_text_is_never_markup(address: str, visit: Visit) -> None:
    page = visit(address)
    page.fill("#text", "<img src=x onerror=alert(1)> <b>bread</b>")
    sync_api.expect(page.locator("#more")).to_be_visible()
    page.click("summary")
    assert page.locator("main :is(img, b)").count() == 0
    assert "<b>" in page.locator("legend").text_content()


# ---- details ------------------------------------------------------------------------------------


def test_another_translation_is_chosen_with_the_keyboard(
    address: str, visit: Visit, looking: Path, translate: Callable[[str], str]
) -> None:
    beam = Translator.load(looking).with_settings(beam=4, n_best=4)
    [others] = beam.hypotheses(["you want bread?"])
    page = visit(address)
    page.fill("#text", LONG)
    shows(page, translate(LONG))
    second = page.locator("fieldset").nth(1)
    offered = second.locator("span[lang=fr]").all_text_contents()
    assert offered[0] == translate("you want bread?")
    assert set(offered) >= {other.text for other in others}
    second.locator("input").first.press("ArrowDown")
    assert second.locator("input").nth(1).is_checked()
    shows(page, translate(LONG).replace(offered[0], offered[1]))
    second.locator("label").nth(2).click()
    shows(page, translate(LONG).replace(offered[0], offered[2]))


def test_a_word_shades_the_tokens_that_it_looks_at(
    address: str, visit: Visit, looking: Path, translate: Callable[[str], str]
) -> None:
    [[best]] = Translator.load(looking).hypotheses([TEXT])
    assert best.attention is not None
    page = visit(address)
    page.fill("#text", TEXT)
    shows(page, translate(TEXT))
    words = page.locator(".word")
    assert words.all_text_contents() == best.words[:-1]
    assert page.locator(".token").all_text_contents() == best.source_words
    assert not any(weights(page))
    words.nth(1).hover()
    assert weights(page) == pytest.approx(best.attention[1], abs=1e-3)
    page.mouse.move(0, 0)
    assert not any(weights(page))
    words.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert weights(page) == pytest.approx(best.attention[2], abs=1e-3)
    assert page.locator("#explanation").text_content().startswith(f"{best.words[2]} ← ")
    page.click("summary")
    cells = len(best.words) * len(best.source_words)
    sync_api.expect(page.locator("td[title]")).to_have_count(cells)


def test_unknown_words_are_marked(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    page.fill("#text", DOGS)
    shows(page, translate(DOGS))
    unknown = page.locator(".unknown")
    assert unknown.all_text_contents() == ["<unk>"]
    assert "no word" in unknown.get_attribute("title")
    unknown.hover()
    assert "no word" in page.locator("#explanation").text_content()


def test_a_model_without_attention_says_so(model_dir: Path, visit: Visit) -> None:
    models = Models(in_threads())
    models.serve([model_dir])
    with serving(models) as address:
        page = visit(address)
        page.fill("#text", TEXT)
        shows(page, Translator.load(model_dir).translate([TEXT])[0])
        assert "no attention" in page.locator("#explanation").text_content()
        sync_api.expect(page.locator("#maps")).to_be_hidden()
    models.close()


def test_languages_can_be_chosen_where_there_are_several(
    looking: Path, visit: Visit, tmp_path: Path, translate: Callable[[str], str]
) -> None:
    other = Path(shutil.copytree(looking, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "source_language": "de"}), "utf-8")
    models = Models(in_threads())
    models.serve([looking, other])
    with serving(models) as address:
        page = visit(address)
        assert page.locator("#from option").all_text_contents() == ["English", "German"]
        assert page.locator("#to-name").text_content() == "French"
        sync_api.expect(page.locator("#to")).to_be_hidden()
        page.fill("#text", TEXT)
        page.select_option("#from", "de")
        shows(page, translate(TEXT))
        model = f"Model other, version {models.all[1].version}"
        assert page.locator("#model").text_content() == model
        assert page.locator("#text").get_attribute("lang") == "de"
    models.close()


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_too_long_a_text_is_refused(told: bool, models: Models, visit: Visit) -> None:
    """By the page; and by the server, if the page is told another limit."""
    with serving(models, limits=Limits(characters=20)) as address:
        page = visit(address)
        if not told:
            page.evaluate("limit = 100")
        page.fill("#text", LONG)
        sync_api.expect(page.locator("#fault")).to_contain_text("Shorten the text.")
        page.fill("#text", TEXT)
        sync_api.expect(page.locator("#more")).to_be_visible()
        assert page.locator("#fault").text_content() == ""


def test_a_key_is_asked_for_where_one_is_needed(
    models: Models, visit: Visit, tmp_path: Path, translate: Callable[[str], str]
) -> None:
    key, line = new_key("reader")
    (tmp_path / "keys").write_text(line, "utf-8")
    with serving(models, keys=Keys(read_keys(tmp_path / "keys"))) as address:
        page = visit(address)
        page.fill("#text", TEXT)
        sync_api.expect(page.locator("#fault")).to_have_text(
            "An API key is needed. Enter a valid key above."
        )
        page.fill("#secret", key)
        page.press("#secret", "Enter")
        shows(page, translate(TEXT))
        assert page.locator("#fault").text_content() == ""
        assert key not in page.url


def test_the_page_asks_again_when_the_server_says_when(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    sync_api.expect(page.locator("#key")).to_be_hidden()
    busy = {"status": 429, "headers": {"retry-after": "1"}, "json": {"error": "too much waits"}}
    page.route("**/stream", lambda route: route.fulfill(**busy), times=1)
    page.fill("#text", TEXT)
    sync_api.expect(page.locator("#fault")).to_have_text("too much waits. Trying again in 1 s.")
    shows(page, translate(TEXT))


def test_a_server_that_is_gone_is_told(address: str, visit: Visit) -> None:
    page = visit(address)
    page.route("**/stream", lambda route: route.abort())
    page.fill("#text", TEXT)
    sync_api.expect(page.locator("#fault")).to_contain_text("can’t be reached")
    sync_api.expect(page.locator("#translation")).to_have_attribute("aria-busy", "false")


# ---- how it looks -------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_nobody_is_shut_out(scheme: str, width: int, address: str, visit: Visit) -> None:
    size = {"width": width, "height": 900}
    page = visit(address, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    if width == 1280:
        assert axe.Axe().run(page).response["violations"] == []
    page.fill("#text", f"{LONG} {DOGS} {'a' * 80}")
    sync_api.expect(page.locator("#more")).to_be_visible()
    page.click("summary")
    page.locator(".word").nth(3).hover()
    assert any(weights(page))
    assert axe.Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [page.locator(f"#{one}").bounding_box()["y"] for one in ("text", "translation")]
    assert (tops[0] == tops[1]) == (width == 1280)
