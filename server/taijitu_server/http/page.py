"""The page at /: one file, without a word from elsewhere, and allowed to do no more than it needs."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from taijitu_server.http.exchange import Call, WholeReply
from taijitu_server.state import ServerState

FILE = Path(__file__).parents[1] / "page.html"


async def page(state: ServerState, call: Call) -> WholeReply:
    """The page."""
    content, headers = _page()
    return WholeReply(content, content_type="text/html; charset=utf-8", headers=headers)


async def docs(state: ServerState, call: Call) -> WholeReply:
    """The way to the page's list of the API."""
    return WholeReply(b"", 307, headers={"Location": "./#api"})


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
    """A Content-Security-Policy that lets the page's own script and style run, by their hashes, and nothing else."""
    script, style = (_hash(html, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' blob: data:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(html: str, tag: str) -> str:
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
