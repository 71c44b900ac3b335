"""The page at /: one file that loads nothing from other sites, with a strict Content-Security-Policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse
from taijitu_server.state import ServerState

FILE = Path(__file__).parents[1] / "page.html"


async def page(state: ServerState, request: Request) -> WholeResponse:
    """Return the page."""
    content, headers = _page()
    return WholeResponse(content, content_type="text/html; charset=utf-8", headers=headers)


async def docs(state: ServerState, request: Request) -> WholeResponse:
    """Redirect to the API reference in the page."""
    return WholeResponse(b"", 307, headers={"Location": "./#api"})


@functools.cache
def _page() -> tuple[bytes, dict[str, str]]:
    content = FILE.read_bytes()
    return content, {
        "Content-Security-Policy": policy(content.decode()),
        "Permissions-Policy": "camera=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def policy(html: str) -> str:
    """Return a Content-Security-Policy that allows the page's own script and style, by their hashes, and no others."""
    script, style = (_hash(html, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' blob: data:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(html: str, tag: str) -> str:
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
