"""API keys: from a file, one a line; compared in constant time, all of them, whichever matches."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from taijitu_runtime.errors import UsageError
from taijitu_server.errors import API_KEY, HttpError
from taijitu_server.http.exchange import Call

MIN_KEY_LENGTH = 16


class Keys:
    """The keys that let a request in; without a file, every request is let in."""

    def __init__(self, file: Path | None) -> None:
        self._digests = [] if file is None else [_digest(key) for key in _read(file)]

    def check(self, call: Call) -> None:
        """HttpError 401 unless the request bears a key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Browsers can send neither with a WebSocket: there, `Sec-WebSocket-Protocol: taijitu, key.HEX` bears it.
        """
        if not self._digests:
            return
        kind, _, bearer = call.header(b"authorization").partition(" ")
        key = bearer.strip() if kind.lower() == "bearer" else call.header(b"x-api-key")
        given = _digest(key or _key_from_protocols(call.header(b"sec-websocket-protocol")))
        if sum(hmac.compare_digest(given, known) for known in self._digests) == 0:
            text = "got no valid key, expected Authorization: Bearer KEY, or X-API-Key: KEY"
            raise HttpError(API_KEY, text, {"WWW-Authenticate": "Bearer"})


def _read(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: got no readable file of keys ({error}), expected one key a line") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or min(map(len, keys)) < MIN_KEY_LENGTH:
        raise UsageError(f"{file}: got a key shorter than {MIN_KEY_LENGTH} characters, or none; write one key a line")
    return keys


def _key_from_protocols(protocols: str) -> str:
    found = re.search(r"(?:^|[ ,])key\.([0-9a-fA-F]+)", protocols)
    try:
        return bytes.fromhex(found[1]).decode() if found else ""
    except ValueError:
        return ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
