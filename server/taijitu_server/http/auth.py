"""API keys.

A given key is compared with every known one, in constant time, so that timing tells nothing about them.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from taijitu_server.errors import API_KEY, HttpError
from taijitu_server.http.request import Request


class ApiKeys:
    """The known API keys; without any, no request needs one."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, request: Request) -> None:
        """Raise HttpError 401 unless the request has a key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Browsers can send neither header with a WebSocket; they send the key in hexadecimal digits, as
        `Sec-WebSocket-Protocol: taijitu, key.HEX`.
        """
        if not self._digests:
            return
        kind, _, bearer = request.header(b"authorization").partition(" ")
        key = bearer.strip() if kind.lower() == "bearer" else request.header(b"x-api-key")
        given = _digest(key or _key_from_protocols(request.header(b"sec-websocket-protocol")))
        if sum(hmac.compare_digest(given, known) for known in self._digests) == 0:
            text = "got no valid key, expected Authorization: Bearer KEY, or X-API-Key: KEY"
            raise HttpError(API_KEY, text, {"WWW-Authenticate": "Bearer"})


def _key_from_protocols(protocols: str) -> str:
    found = re.search(r"(?:^|[ ,])key\.([0-9a-fA-F]+)", protocols)
    try:
        return bytes.fromhex(found[1]).decode() if found else ""
    except ValueError:
        return ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
