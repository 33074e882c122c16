"""The web page: one document without anything from elsewhere, and the policy that says so."""

import base64
import gzip
import hashlib
import re
from importlib.resources import files

from fastapi import Request, Response


def _read(name: str) -> str:
    return files("s2s.serving.http").joinpath(name).read_text("utf-8")


def _put_together(html: str) -> str:
    """Return the page with its style and its scripts inside.

    One document is one request, and never has a script of another version of the service.
    """
    html = re.sub(
        r'<link rel="stylesheet" href="([\w.]+)">',
        lambda link: f"<style>\n{_read(link[1])}</style>",
        html,
    )
    return re.sub(
        r'<script src="([\w.]+)"></script>',
        lambda script: f"<script>\n{_read(script[1])}</script>",
        html,
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inline_hashes(html: str, tag: str) -> str:
    """Return a document's scripts or styles as a content security policy names them."""
    elements = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return " ".join(f"'sha256-{_hash(text)}'" for text in elements)


PAGE = _put_together(_read("page.html"))
PAGE_POLICY = (
    f"default-src 'none'; script-src {inline_hashes(PAGE, 'script')}; "
    f"style-src {inline_hashes(PAGE, 'style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_COMPRESSED = gzip.compress(PAGE.encode(), mtime=0)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "cache-control": "no-cache",  # a browser asks each time whether its copy is still the page
    "etag": f'W/"{_hash(PAGE)}"',  # weak, as it stands for both encodings
    "vary": "accept-encoding",
}


async def page(request: Request) -> Response:
    """Answer with the page, or with 304 if the browser has it already."""
    if _HEADERS["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_HEADERS)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers = {**_HEADERS, "content-encoding": "gzip"}
        return Response(_COMPRESSED, media_type="text/html", headers=headers)
    return Response(PAGE, media_type="text/html", headers=_HEADERS)
