"""The web pages that may change something."""

from __future__ import annotations

from typing import Any

import pytest

from taijitu_server.errors import HttpError
from taijitu_server.http.origin import check_origin
from taijitu_server.http.request import Request
from taijitu_server.settings import Settings


def call_from(**headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body is not for this")

    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
    return Request(scope, receive)


@pytest.mark.parametrize(
    ("origin", "host", "cors_origins"),
    [
        ("", "a.example", ""),
        ("http://a.example:8000", "a.example:8000", ""),
        ("http://a.example:8000", "A.Example:8000", ""),
        ("https://b.example", "a.example", "https://c.example, https://b.example"),
        ("https://b.example", "a.example", "*"),
        ("null", "a.example", "*"),
    ],
)
def test_pages_of_this_server_and_of_the_allowed_ones_are_let_in(origin: str, host: str, cors_origins: str) -> None:
    check_origin(call_from(origin=origin, host=host), Settings(cors_origins=cors_origins))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://b.example", "a.example"),
        ("http://a.example:8001", "a.example:8000"),
        ("http://[", "a.example"),
        ("null", "a.example"),
        ("null", ""),
        ("a.example", "a.example"),
    ],
)
def test_other_pages_are_refused(origin: str, host: str) -> None:
    with pytest.raises(HttpError) as refused:
        check_origin(call_from(origin=origin, host=host), Settings(cors_origins="https://c.example"))
    assert (refused.value.status, refused.value.reason) == (403, "origin")
