"""The web page: one file without anything from elsewhere, and the policy that says so."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import Request, Response

PAGE = files("s2s.serving.http").joinpath("page.html").read_text("utf-8")


def inline_hashes(html: str, tag: str) -> str:
    """Return a document's scripts or styles as a content security policy names them."""
    elements = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (hashlib.sha256(text.encode()).digest() for text in elements)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


PAGE_POLICY = (
    f"default-src 'none'; script-src {inline_hashes(PAGE, 'script')}; "
    f"style-src {inline_hashes(PAGE, 'style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


async def page(_: Request) -> Response:
    """Answer with the page."""
    return Response(
        PAGE,
        media_type="text/html",
        headers={"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"},
    )
