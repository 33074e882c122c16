"""What MkDocs does beside its own work to build the site: its events, each a function.

The pages in `docs/` are written for the repository as much as for the site: their links lead to
files by relative paths. On the site, pages of the repository outside of `docs/` have a place of
their own, and files of code become pages that show them. The reference of the command line is made
from the parsers.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from website.command_line import reference

ROOT = Path(__file__).parents[1]

# Pages of the repository outside of `docs/`, with their places on the site.
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "cluster/README.md": "cluster.md",
}
DECISIONS = "decisions/"
CLI = "<!-- The reference of the command line -->"

# A Markdown link, or an address in HTML: what leads to it, the path, and the anchor.
_LINK = re.compile(r"""(\]\(|\b(?:href|src|srcset)=")(?![a-z]+:|#|/)([^)"#\s]+)(#[^)"\s]*)?""")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml"}
_IMAGES = frozenset({".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp"})
# Pages that describe what was tried and decided are found last.
_HISTORY = ("decisions/", "log.md", "benchmarks.md", "changelog.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all decisions into the navigation, where `mkdocs.yml` has their folder."""
    docs = Path(config.docs_dir)
    decisions = [str(page.relative_to(docs)) for page in sorted(docs.glob(f"{DECISIONS}0*.md"))]

    def expanded(navigation: Any) -> Any:
        if isinstance(navigation, list):
            return [expanded(entry) for entry in navigation]
        if isinstance(navigation, dict):
            return {title: expanded(entry) for title, entry in navigation.items()}
        return [f"{DECISIONS}README.md", *decisions] if navigation == DECISIONS else navigation

    config.nav = expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of `docs/`, and the images and files of code that pages link to."""
    for path, place in PAGES.items():
        text = (ROOT / path).read_text("utf-8")
        files.append(File.generated(config, place, content=text))
    linked: set[str] = set()
    for file in files.documentation_pages():
        linked |= _linked_files(file)
    for folder in [path for path in linked if (ROOT / path).is_dir()]:
        linked |= set(_files_in(folder))
    for path in sorted(linked):
        shown = File.generated(config, _shown_at(path), content=_content(path))
        shown.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(shown)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return the text of a page with its links as the site needs them."""
    source = page.file.src_uri
    if source.startswith("code/"):
        return markdown
    if source == "reference/cli.md":
        markdown = markdown.replace(CLI, reference())
    if source.startswith(_HISTORY):
        page.meta["search"] = {"boost": 0.3}

    def replace(link: re.Match[str]) -> str:
        place = _place(_resolve(source, link[2]))
        if place is None:
            return link[0]
        path = posixpath.relpath(place, posixpath.dirname(source) or ".")
        if link[1] != "](":  # in HTML, MkDocs does not make addresses of pages
            path = re.sub(r"\.md$", ".html", path)
        return f"{link[1]}{path}{link[3] or ''}"

    return _LINK.sub(replace, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Mark short code in text, which browsers would break after the dashes of `--beam`."""
    return re.sub(r"<code>([^<\n]{1,30}</code>)", r'<code class="short">\1', html)


def _linked_files(file: File) -> set[str]:
    """Return the files outside of `docs/` that a page links to, by their paths."""
    paths = {_resolve(file.src_uri, link[2]) for link in _LINK.finditer(file.content_string)}
    return {path for path in paths if _place(path) == _shown_at(path)}


def _is_shown(path: str) -> bool:
    """Return whether a file or folder outside of `docs/` gets a place where it is linked."""
    return not f"{path}/".startswith("docs/") and path not in PAGES and (ROOT / path).exists()


def _is_image(path: str) -> bool:
    return Path(path).suffix in _IMAGES


def _files_in(folder: str) -> list[str]:
    return [f"{folder}/{file.name}" for file in sorted((ROOT / folder).iterdir()) if file.is_file()]


def _resolve(page: str, target: str) -> str:
    """Return the path in the repository that a link leads to.

    Args:
        page: place of the page on the site.
        target: of the link, relative to the page's file.
    """
    by_place = {place: path for path, place in PAGES.items()}
    folder = posixpath.dirname(by_place.get(page, f"docs/{page}"))
    return posixpath.normpath(posixpath.join(folder, target))


def _place(path: str) -> str | None:
    """Return the place on the site of a file of the repository; None if it has none."""
    if (ROOT / path / "README.md").is_file():
        path = f"{path}/README.md"
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return _shown_at(path) if _is_shown(path) else None


def _shown_at(path: str) -> str:
    if (ROOT / path).is_dir():
        return f"code/{path}/index.md"
    return f"images/{path}" if _is_image(path) else f"code/{path}.md"


def _content(path: str) -> str | bytes:
    """Return an image, or a page that shows a file of code or lists a folder."""
    if _is_image(path):
        return (ROOT / path).read_bytes()
    page = f"---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n# {path}\n\n"
    if (ROOT / path).is_dir():
        for file in _files_in(path):
            place = posixpath.relpath(_shown_at(file), f"code/{path}")
            page += f"- [{posixpath.basename(file)}]({place})\n"
        return page
    language = _LANGUAGES.get(Path(path).suffix, "text")
    return f"{page}````````{language}\n{(ROOT / path).read_text('utf-8')}````````\n"
