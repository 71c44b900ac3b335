"""The page at /: one file, without a word from elsewhere, and allowed to do no more than it needs."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

FILE = Path(__file__).parents[1] / "page.html"


def add_page(app: FastAPI) -> None:
    """Add / and /docs, which leads to the page's list of the API."""
    content = FILE.read_bytes()
    headers = {
        "Content-Security-Policy": policy(content.decode()),
        "Permissions-Policy": "camera=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type="text/html", headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return RedirectResponse("./#api")


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
