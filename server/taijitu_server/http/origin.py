"""Which pages may have a browser change something here, and under which names this server is asked.

Browsers let any page send simple POSTs and open WebSockets, and any site can have its own name lead to 127.0.0.1 (DNS
rebinding): its page then counts as one of this server.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from taijitu_server.errors import HOST, ORIGIN, HttpError, bad_request
from taijitu_server.http.exchange import Call
from taijitu_server.settings import Settings

# A name or an address, and perhaps a port, as a Host header has it.
HOST_HEADER = re.compile(r"(?P<name>\[[0-9a-f:.%]+\]|[^\[\]:/?#@\s]+)(?::\d{0,5})?", re.IGNORECASE)
LOOPBACK = re.compile(r"localhost|.+\.localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]")


class Hosts:
    """The names that requests may have in Host.

    Where the server listens for its own machine only (`is_local`), those of that machine and `--allowed-hosts`: nobody
    else has a name for it. Elsewhere they are checked only where `--allowed-hosts` is set.
    """

    def __init__(self, settings: Settings, is_local: bool) -> None:
        self._allowed = [name.lower().rstrip(".") for name in settings.allowed_host_names()]
        self._is_checked = (is_local or bool(self._allowed)) and "*" not in self._allowed
        self._known: set[bytes] = set()

    def check(self, call: Call, any_name: bool) -> None:
        """HttpError 400 for a request without a Host or with two, 421 for a name that is not served here."""
        host = call.headers.get(b"host")
        if host is None:
            if call.scope.get("http_version") == "1.0":
                return
            raise bad_request("got no Host header, expected one")
        headers = call.scope["headers"]
        if len(headers) != len(call.headers) and sum(name == b"host" for name, _ in headers) > 1:
            raise bad_request("got more than one Host header, expected one")
        if any_name or not self._is_checked or host in self._known:
            return
        text = host.decode("latin-1")
        found = HOST_HEADER.fullmatch(text)
        name = found["name"].lower().rstrip(".") if found else ""
        if not name or not (LOOPBACK.fullmatch(name) or any(_matches(name, known) for known in self._allowed)):
            expected = ", ".join(["localhost", *self._allowed][:8])
            raise HttpError(HOST, f"got Host {text[:100]!r}, expected {expected}; add it to --allowed-hosts")
        if len(self._known) < 64:
            self._known.add(host)


def check_origin(call: Call, settings: Settings) -> None:
    """HttpError 403 for a page of another site.

    By Sec-Fetch-Site where the browser sends it: a page cannot forge it, and it is right behind a proxy that changes
    Host. Else Origin, which only browsers send, has to be this server's Host.
    """
    origin, host, site = call.header(b"origin"), call.header(b"host").lower(), call.header(b"sec-fetch-site")
    allowed = settings.allowed_origins()
    if "*" in allowed or origin in allowed or site in ("same-origin", "none"):
        return
    if not site and (not origin or (host and _place(origin) == host)):
        return
    raise HttpError(
        ORIGIN,
        f"got a page of {origin[:100] or 'another site'}, expected one of this server, or of --cors-origins; behind a "
        "proxy, have it pass Host on",
    )


def _matches(name: str, allowed: str) -> bool:
    return name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
