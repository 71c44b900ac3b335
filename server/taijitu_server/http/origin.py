"""Checks of Host and Origin: protection against DNS rebinding and cross-site requests.

Browsers let any page send simple POSTs and open WebSockets, and any site can resolve its own name to 127.0.0.1 (DNS
rebinding), so that its pages have the same origin as this server.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from taijitu_server.errors import HOST, ORIGIN, HttpError, bad_request
from taijitu_server.http.request import Request
from taijitu_server.settings import Settings

# The value of a Host header: a name or an address, and an optional port.
HOST_HEADER = re.compile(r"(?P<name>\[[0-9a-f:.%]+\]|[^\[\]:/?#@\s]+)(?::\d{0,5})?", re.IGNORECASE)
LOOPBACK = re.compile(r"localhost|.+\.localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]")


class HostNames:
    """The host names that requests may be for.

    Where the server listens on the loopback interface only (`is_local`), these are the names of that interface and
    `--allowed-hosts`. Elsewhere host names are checked only where `--allowed-hosts` is set.
    """

    def __init__(self, settings: Settings, is_local: bool) -> None:
        self._allowed = [name.lower().rstrip(".") for name in settings.allowed_host_names()]
        self._is_checked = (is_local or bool(self._allowed)) and "*" not in self._allowed
        self._known: set[bytes] = set()

    def check(self, request: Request, any_name: bool) -> None:
        """Raise HttpError 400 for a request with no Host or with two, 421 for a name that is not served here."""
        host = request.headers.get(b"host")
        if host is None:
            if request.scope.get("http_version") == "1.0":
                return
            raise bad_request("got no Host header, expected one")
        headers = request.scope["headers"]
        if len(headers) != len(request.headers) and sum(name == b"host" for name, _ in headers) > 1:
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


def check_origin(request: Request, settings: Settings) -> None:
    """Raise HttpError 403 for a request from a page of another site.

    Sec-Fetch-Site decides where the browser sends it: a page cannot forge it, and it is right also behind a proxy that
    changes Host. Otherwise Origin, which only browsers send, has to equal Host.
    """
    origin, host, site = request.header(b"origin"), request.header(b"host").lower(), request.header(b"sec-fetch-site")
    allowed = settings.allowed_origins()
    if "*" in allowed or origin in allowed or site in ("same-origin", "none"):
        return
    if not site and (not origin or (host and _host_of(origin) == host)):
        return
    raise HttpError(
        ORIGIN,
        f"got a request from a page of {origin[:100] or 'another site'}, expected one of this server or of "
        "--cors-origins; behind a proxy, let it forward Host",
    )


def _matches(name: str, allowed: str) -> bool:
    return name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
