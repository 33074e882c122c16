"""The web page in a real browser, over a real model, server and socket; no Ray."""

import gzip
import json
import math
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from s2s.config import Config, DataConfig, TextConfig
from s2s.corpus import Corpus
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.serving.engine.models import Models
from s2s.serving.http.api_keys import Keys, new_key, read_keys
from s2s.serving.http.gate import Limits
from tests.support.corpora import SUBJECTS, VERBS, Pairs, prepare_file, train_model
from tests.support.serving import copied, models_of, serving

BROWSER = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

sync_api.expect.set_options(timeout=60_000)  # a machine may be busy
Visit = Callable[..., Any]  # opens an address, and gives Playwright's page

TEXT = "I don't see school."
LONG = f"{TEXT}\n\nyou want bread? we see Paris!"
DOGS = "they see dogs."  # which the model has no word for
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
COPIES = {"permissions": ["clipboard-read", "clipboard-write"]}


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
    with models_of(looking) as models:
        yield models


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    with serving(models) as address:
        yield address


@pytest.fixture(scope="module")
def several(looking: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The model under three pairs of languages, two of them the reverse of each other."""
    folder = tmp_path_factory.mktemp("pairs")
    with models_of(
        looking,
        copied(looking, folder / "de-fr", "de", "fr"),
        copied(looking, folder / "fr-en", "fr", "en"),
    ) as models:
        yield models


@pytest.fixture(scope="module")
def crossroads(several: Models) -> Iterator[str]:
    """The address of a service of several languages."""
    with serving(several) as address:
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

    def opened(address: str, script: str = "", query: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(60_000)
        page = contexts[-1].new_page()
        page.on("console", logged)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(script)
        page.goto(address + query)
        sync_api.expect(page.locator("#count")).not_to_be_empty()
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
    for _ in range(1200):
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


def test_typing_gives_what_the_translator_gives(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    """With other ends of lines than CR and LF, which do not end a line of a stream."""
    page = visit(address)
    page.locator("#text").press_sequentially(LONG, delay=5)
    shows(page, translate(LONG))
    assert page.locator("#translation").get_attribute("lang") == "fr"
    assert page.locator("#count").text_content() == f"{len(LONG)} / 10,000"
    text = f"{TEXT}\n\u2028we see Paris!\u2029 {TEXT}\x85"
    page.fill("#text", text)
    shows(page, translate(text))
    assert page.locator(".sentence").count() >= 2
    # The server escapes them for clients to which they are ends of lines.
    body = {"q": text, "source": "en", "target": "fr"}
    with httpx.stream("POST", f"{address}/v1/translate/stream", json=body) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert json.loads(lines[-1].removeprefix("data: "))["translatedText"] == translate(text)
    # The page takes them as they are, and CR and LF wherever a stream is cut.
    read = """async (chunks) => {
      const stream = new ReadableStream({
        start(control) {
          for (const chunk of chunks) control.enqueue(new TextEncoder().encode(chunk));
          control.close();
        }
      });
      const found = [];
      for await (const { name, data } of events(new Response(stream))) found.push([name, data]);
      return found;
    }"""
    chunks = [
        ": hello\r\nevent: grown\r",
        "\ndata:",
        ' "a\u2028\u2029\x85b"\r\n\r',
        "\nevent:done\rdata: [1,\rdata: 2]\r",
        "\r",
        'data: "x: y"\n\nevent: cut\ndata: 1',
    ]
    assert page.evaluate(read, chunks) == [
        ["grown", "a\u2028\u2029\x85b"],
        ["done", [1, 2]],
        ["message", "x: y"],
    ]


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
    page = visit(address, locale="nl")
    assert page.title() == "Translate – s2s"  # there are no Dutch texts
    page.clock.install()  # no time passes, so that typing alone gives nothing
    page.fill("#text", TEXT)
    page.press("#text", "Control+Enter")
    shows(page, translate(TEXT))
    page.locator(".word").first.press("Escape")
    sync_api.expect(page.locator("#clear")).to_be_disabled()
    page.fill("#text", TEXT)
    page.click("#clear")
    assert page.locator("#text").input_value() == ""
    assert page.locator("#translation").text_content() == ""
    assert page.evaluate("document.activeElement.id") == "text"
    sync_api.expect(page.locator("#help")).to_be_visible()
    sync_api.expect(page.locator("#copy")).to_be_disabled()


def test_text_is_never_markup(address: str, visit: Visit) -> None:
    page = visit(address)
    page.fill("#text", "<img src=x onerror=alert(1)> <b>bread</b>")
    sync_api.expect(page.locator("#more")).to_be_visible()
    page.click("summary")
    assert page.locator("main :is(img, b)").count() == 0
    assert page.locator(".token", has_text="<").count() > 0


# ---- details ------------------------------------------------------------------------------------


def in_words(translation: Translation) -> str:
    """How sure the model is, by the geometric mean of the words' probabilities."""
    mean = math.exp(sum(translation.word_scores) / len(translation.word_scores))
    return "likely" if mean >= 0.7 else "uncertain" if mean >= 0.4 else "a guess"


def test_each_sentence_has_other_translations(
    address: str, visit: Visit, looking: Path, translate: Callable[[str], str]
) -> None:
    """A sentence is chosen in the translation, another translation with the keyboard."""
    beam = Translator.load(looking).with_settings(beam=4, n_best=4)
    [others] = beam.hypotheses(["you want bread?"])
    page = visit(address)
    page.fill("#text", LONG)
    shows(page, translate(LONG))
    choices = page.locator("#choices label")
    page.locator(".sentence").nth(1).locator(".word").first.click()
    sync_api.expect(page.locator("#place")).to_have_text("Sentence 2 of 3")
    sync_api.expect(choices).to_have_count(len(others))
    assert page.locator(".token").all_text_contents() == others[0].source_words
    offered = choices.locator("span[lang=fr]").all_text_contents()
    assert offered[0] == translate("you want bread?")
    told = dict(zip(offered, choices.locator(".quiet").all_text_contents(), strict=True))
    assert told == {other.text: in_words(other) for other in others}
    choices.locator("input").first.press("ArrowDown")
    assert choices.locator("input").nth(1).is_checked()
    shows(page, translate(LONG).replace(offered[0], offered[1]))
    page.click("#next")
    sync_api.expect(choices.first).to_contain_text(translate("we see Paris!"))
    page.click("#previous")
    sync_api.expect(choices.locator("input").nth(1)).to_be_checked()
    choices.nth(2).click()
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
    sync_api.expect(page.locator("#explanation")).to_contain_text("; likely")
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
    with models_of(model_dir) as models, serving(models) as address:
        page = visit(address)
        page.fill("#text", TEXT)
        shows(page, Translator.load(model_dir).translate([TEXT])[0])
        assert "no attention" in page.locator("#explanation").text_content()
        sync_api.expect(page.locator("#map")).to_be_hidden()


# ---- languages and links ------------------------------------------------------------------------


def names(page: Any, box: str) -> list[str]:
    """The languages that a box offers."""
    found: list[str] = page.locator(f"{box} option").all_text_contents()
    return found


def test_languages_are_chosen_detected_and_swapped(
    crossroads: str, several: Models, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(crossroads)
    assert names(page, "#from") == ["Detect language", "German", "English", "French"]
    assert page.locator("#from").input_value() == "en"
    assert page.locator("#to-name").text_content() == "French"
    page.fill("#text", TEXT)
    shows(page, translate(TEXT))
    page.select_option("#from", "de")
    sync_api.expect(page.locator("#model")).to_have_text(
        f"Model de-fr, version {several.all[1].version}"
    )
    assert page.locator("#text").get_attribute("lang") == "de"
    sync_api.expect(page.locator("#swap")).to_be_hidden()
    page.select_option("#from", "auto")
    sync_api.expect(page.locator("#from option").first).to_have_text("English (detected)")
    shows(page, translate(TEXT))
    page.click("#swap")
    assert page.locator("#text").input_value() == translate(TEXT)
    assert page.locator("#from").input_value() == "fr"
    assert page.locator("#to-name").text_content() == "English"
    # The model of this pair knows no word of the text, which stays as it is.
    sync_api.expect(page.locator("#translation")).to_have_text(translate(translate(TEXT)))
    # A text in the target language is translated into another.
    page.select_option("#from", "auto")
    page.fill("#text", "The weather is very nice today, and we want to go to the beach.")
    sync_api.expect(page.locator("#from option").first).to_have_text("English (detected)")
    assert page.locator("#to-name").text_content() == "French"


def test_links_fill_the_form(
    crossroads: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    query = "/?source=DE&target=fr-CA&q=we%20see%20Paris%21%26"
    page = visit(crossroads, query=query, **COPIES)
    shows(page, translate("we see Paris!&"))
    assert page.locator("#from").input_value() == "de"
    assert page.url == crossroads + query
    page.fill("#text", LONG)
    page.select_option("#from", "en")
    shows(page, translate(LONG))
    assert page.url == f"{crossroads}/?source=en&target=fr"
    assert page.evaluate("history.length") <= 2  # of an empty page and of ours
    page.click("#copy")
    sync_api.expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == translate(LONG)
    page.click("#link")
    sync_api.expect(page.locator("#link")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlsplit(link).query) == {"source": ["en"], "target": ["fr"], "q": [LONG]}
    # A long text stands where no server has to take it.
    long = f"{TEXT} " * 300
    hidden = urlsplit(page.evaluate("text => linkTo(text)", long))
    assert (hidden.query, parse_qs(hidden.fragment)["q"]) == ("", [long])
    page.goto(f"{crossroads}/#q=we+see+Paris!")
    shows(page, translate("we see Paris!"))


def test_the_page_speaks_the_language_of_the_browser(crossroads: str, visit: Visit) -> None:
    page = visit(crossroads, locale="de-AT")
    assert page.locator("html").get_attribute("lang") == "de-AT"
    assert page.title() == "Übersetzen – s2s"
    assert names(page, "#from") == ["Sprache erkennen", "Deutsch", "Englisch", "Französisch"]
    page.route("**/stream", lambda route: route.abort())
    page.fill("#text", TEXT)
    sync_api.expect(page.locator("#fault")).to_contain_text("Der Server ist nicht erreichbar.")
    texts = page.evaluate("TEXTS")
    assert set(texts) >= {"en", "fr", "de", "es", "it", "pt"}
    for code, own in texts.items():
        assert own.keys() == texts["en"].keys(), code
        for name, text in own.items():
            places = [n for n in ("{0}", "{1}") if n in texts["en"][name]]
            assert text and [n for n in ("{0}", "{1}") if n in text] == places, (code, name)
    # A language that is only a target is no source.
    french = {"code": "fr", "name": "French", "targets": ["fr"]}
    english = {"code": "en", "name": "English", "targets": ["en", "fr"]}
    page.route("**/languages", lambda route: route.fulfill(json=[english, french]))
    page.reload()
    sync_api.expect(page.locator("#from-name")).to_have_text("Englisch")
    sync_api.expect(page.locator("#to-name")).to_have_text("Französisch")
    for hidden in ("#from", "#to", "#swap"):
        sync_api.expect(page.locator(hidden)).to_be_hidden()


# ---- refusals -----------------------------------------------------------------------------------


def keeps(page: Any, translation: str) -> None:
    """Check that an old translation is still there, as an old one."""
    sync_api.expect(page.locator("#translation")).to_have_class("old")
    assert page.locator("#translation").text_content() == translation


def test_too_long_a_text_is_refused(
    models: Models, visit: Visit, translate: Callable[[str], str]
) -> None:
    """By the page; and by the server, if the page is told another limit."""
    with serving(models, limits=Limits(characters=20)) as address:
        page = visit(address)
        page.fill("#text", TEXT)
        shows(page, translate(TEXT))
        page.fill("#text", LONG)
        sync_api.expect(page.locator("#fault")).to_have_text(
            "The text is too long. Shorten it to 20 characters."
        )
        keeps(page, translate(TEXT))
        page.evaluate("limit = 100")
        page.press("#text", "Control+Enter")
        sync_api.expect(page.locator("#fault")).to_contain_text("too much at once")
        keeps(page, translate(TEXT))
        page.fill("#text", TEXT)
        sync_api.expect(page.locator("#fault")).to_be_empty()
        shows(page, translate(TEXT))


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
        assert key not in page.url + page.evaluate("linkTo('')")
        page.reload()  # the tab keeps the key, and only the tab
        page.fill("#text", LONG)
        shows(page, translate(LONG))
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_the_page_asks_again_when_the_server_says_when(
    address: str, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    sync_api.expect(page.locator("#key")).to_be_hidden()
    page.fill("#text", LONG)
    shows(page, translate(LONG))
    busy = {"status": 429, "headers": {"retry-after": "1"}, "json": {"error": "too much waits"}}
    page.route("**/stream", lambda route: route.fulfill(**busy), times=1)
    page.fill("#text", TEXT)
    sync_api.expect(page.locator("#fault")).to_have_text("Too many requests. Trying again in 1 s.")
    keeps(page, translate(LONG))
    shows(page, translate(TEXT))


def test_what_goes_wrong_is_told(
    address: str, models: Models, visit: Visit, translate: Callable[[str], str]
) -> None:
    page = visit(address)
    model = {"name": "m", "version": models.all[0].version, "source": "en", "target": "fr"}
    done = {"translatedText": "je je je", "model": model, "incomplete": True}
    cut = f"event: done\ndata: {json.dumps(done)}\n\n"
    page.route("**/stream", lambda route: route.fulfill(body=cut), times=1)
    page.fill("#text", TEXT)
    sync_api.expect(page.locator("#status")).to_have_text("may be incomplete")
    assert page.locator("#translation").text_content() == "je je je"
    page.route("**/stream", lambda route: route.abort(), times=1)
    page.press("#text", "Control+Enter")
    sync_api.expect(page.locator("#fault")).to_contain_text("can’t be reached")
    sync_api.expect(page.locator("#translation")).to_have_attribute("aria-busy", "false")
    page.click("#fault button")
    shows(page, translate(TEXT))
    sync_api.expect(page.locator("#status")).to_be_empty()


def test_a_browser_gets_the_page_once(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False) as client:
        plain = client.get("/", headers={"accept-encoding": "identity"})
        assert plain.headers.get("content-encoding") is None
        packed = client.get("/", headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.text == plain.text
        assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content))
        assert "script src" not in plain.text
        again = client.get("/", headers={"if-none-match": plain.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


# ---- how it looks -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(scheme: str, crossroads: str, visit: Visit) -> None:
    """A phone in light, a wide window in dark: with all that the page can show."""
    wide = {"viewport": {"width": 1280, "height": 900}}
    size = wide if scheme == "dark" else PHONE
    page = visit(crossroads, color_scheme=scheme, reduced_motion="reduce", **size)
    if scheme == "dark":
        assert axe.Axe().run(page).response["violations"] == []
    page.fill("#text", f"{LONG} {DOGS} {'a' * 80}")
    sync_api.expect(page.locator("#more")).to_be_visible()
    page.click("summary")
    word = page.locator(".word").nth(3)
    if scheme == "dark":
        word.hover()
    else:
        sync_api.expect(page.locator("#explanation")).to_have_text("Tap a word of the translation.")
        word.tap()
    assert any(weights(page))
    assert page.locator("#hint").is_visible() == (scheme == "dark")
    assert (page.locator("#clear").bounding_box()["height"] > 40) == (scheme == "light")
    assert axe.Axe().run(page).response["violations"] == []
    width = size["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [page.locator(f"#{one}").bounding_box()["y"] for one in ("text", "translation")]
    assert (tops[0] == tops[1]) == (scheme == "dark")
    # A long text makes no long page.
    page.fill("#text", f"{TEXT}\n" * 60)
    sync_api.expect(page.locator("#place")).to_have_text("Sentence 1 of 60")
    assert page.evaluate("document.documentElement.scrollHeight / innerHeight") < 2.5
