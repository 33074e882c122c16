"""What MkDocs does beside its own work to build the site: its events, each a function.

The pages in `docs/` are written for the repository as much as for the site: their links lead to
files by relative paths. On the site, pages of the repository outside of `docs/` have a place of
their own, and files of code become pages that show them. The reference of the command line is made
from the parsers.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from website.command_line import reference

ROOT = Path(__file__).parents[1]

# Pages of the repository outside of `docs/`, with their places on the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "cluster/README.md": "cluster.md",
}
# Links to it lead to the front page of the site.
README = "README.md"
DECISIONS = "decisions/"
CLI = "<!-- The reference of the command line -->"

_LINK = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all decisions into the navigation, where `mkdocs.yml` has their folder."""
    docs = Path(config.docs_dir)
    pages = [str(page.relative_to(docs)) for page in sorted(docs.glob(f"{DECISIONS}0*.md"))]
    for section in config.nav or []:
        for entries in section.values():
            if isinstance(entries, list):
                for entry in entries:
                    for title, place in entry.items():
                        if place == DECISIONS:
                            entry[title] = [f"{DECISIONS}README.md", *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of `docs/`, and a page for each file of code that a page links to."""
    for path, place in PAGES.items():
        text = (ROOT / path).read_text("utf-8")
        files.append(File.generated(config, place, content=text))
    shown: set[str] = set()
    for file in files.documentation_pages():
        shown |= {path for path in _linked_files(file) if _shown_at(path) not in PAGES.values()}
    for path in sorted(shown):
        page = File.generated(config, _shown_at(path), content=_code_page(path))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return the text of a page with its links as the site needs them."""
    if page.file.src_uri == "reference/cli.md":
        markdown = markdown.replace(CLI, reference())
    if page.file.src_uri.startswith("code/"):
        return markdown
    source = page.file.src_uri

    def replace(link: re.Match[str]) -> str:
        place = _place(_resolve(source, link[1]))
        if place is None:
            return link[0]
        return f"]({posixpath.relpath(place, posixpath.dirname(source) or '.')}{link[2] or ''})"

    return _LINK.sub(replace, markdown)


def _linked_files(file: File) -> list[str]:
    """Return the files of code that a page links to, by their paths in the repository."""
    paths = (_resolve(file.src_uri, link[1]) for link in _LINK.finditer(file.content_string))
    return [path for path in paths if _is_code(path)]


def _is_code(path: str) -> bool:
    inside_docs = path.startswith("docs/")
    return not inside_docs and path not in (README, *PAGES) and (ROOT / path).is_file()


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
    if path == README:
        return "index.md"
    if path in PAGES:
        return PAGES[path]
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return _shown_at(path) if _is_code(path) else PAGES.get(path)


def _shown_at(path: str) -> str:
    return f"code/{path}.md"


def _code_page(path: str) -> str:
    """Return a page that shows a file of code."""
    language = _LANGUAGES.get(Path(path).suffix, "text")
    return (
        "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n"
        f"# {path}\n\n````````{language}\n{(ROOT / path).read_text('utf-8')}````````\n"
    )
