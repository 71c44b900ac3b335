"""API keys, read from a file with one key per line.

A given key is compared with every known one, in constant time, so that timing tells nothing about them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from taijitu_runtime.errors import UsageError
from taijitu_server.errors import API_KEY, HttpError
from taijitu_server.http.request import Request

MIN_KEY_LENGTH = 16


class ApiKeys:
    """The known API keys; without a file, no request needs one."""

    def __init__(self, file: Path | None) -> None:
        self._digests = [] if file is None else [_digest(key) for key in _read(file)]

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


def _read(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file}: got a file of keys that cannot be read ({error}), expected one key per line; check --api-keys"
        ) from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or min(map(len, keys)) < MIN_KEY_LENGTH:
        raise UsageError(f"{file}: got a key shorter than {MIN_KEY_LENGTH} characters, or none; write one key per line")
    return keys


def _key_from_protocols(protocols: str) -> str:
    found = re.search(r"(?:^|[ ,])key\.([0-9a-fA-F]+)", protocols)
    try:
        return bytes.fromhex(found[1]).decode() if found else ""
    except ValueError:
        return ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
