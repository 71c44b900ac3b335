"""Which pages may have a browser change something here: browsers let any page send simple POSTs and open WebSockets."""

from __future__ import annotations

from urllib.parse import urlsplit

from taijitu_server.errors import HttpError
from taijitu_server.settings import Settings


def check_origin(origin: str, host: str, settings: Settings) -> None:
    """HttpError 403 for a page of another site; by the headers Origin, which is empty but for browsers, and Host."""
    allowed = settings.allowed_origins()
    if not origin or "*" in allowed or origin in allowed or (host and _place(origin) == host):
        return
    raise HttpError(403, "origin", f"got a page of {origin[:100]}, expected one of this server, or of --cors-origins")


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
