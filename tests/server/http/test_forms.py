"""The pictures of a request for /classify: what is parsed, and when."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from taijitu_server.errors import HttpError
from taijitu_server.http.body import BodyReader
from taijitu_server.http.forms import Pictures, read_pictures
from taijitu_server.http.request import Request
from taijitu_server.settings import Settings

PICTURE = b"\xff\xd8 \r\n-- \r\n"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + PICTURE + b"\r\n--b--\r\n"


def read(*pieces: bytes, most: int = 2, **headers: str) -> Pictures:
    """Return the result of `read_pictures` for a form that arrives in these pieces."""
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    named = {"content-type": "multipart/form-data; boundary=b"} | headers
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in named.items()]
    scope = {"type": "http", "method": "POST", "path": "/classify", "query_string": b"", "headers": raw}
    return asyncio.run(read_pictures(Request(scope, receive), BodyReader(Settings()), most))


@pytest.mark.parametrize("size", [1, 7, len(FORM)])
def test_a_form_gives_its_files_in_pieces_of_any_size(size: int) -> None:
    assert read(*(FORM[start : start + size] for start in range(0, len(FORM), size)))() == [PICTURE]


def test_a_form_may_be_compressed() -> None:
    assert read(gzip.compress(FORM), content_encoding="gzip")() == [PICTURE]


@pytest.mark.parametrize(
    ("form", "status", "text"),
    [
        (b"x", 400, "malformed"),
        (FORM[:-10], 400, "boundary"),
        (b"", 400, "boundary"),
        (FORM.replace(b"file", b"name", 1), 400, "got 'name'"),
        (b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + PICTURE + b"\r\n" + FORM, 400, "without a name"),
        (b"--b\r\n\r\n" + PICTURE + b"\r\n" + FORM, 400, "without a name"),
        (FORM.replace(b"\r\n\r\n", b"\r\nContent-Disposition: form-data; name=file\r\n\r\n", 1), 400, "two names"),
        (FORM.replace(b"\r\n--b--", b"\r\n" + FORM[:-7]), 413, "more than 1"),
    ],
)
def test_a_form_is_parsed_in_the_thread_that_asks_for_its_pictures(form: bytes, status: int, text: str) -> None:
    pictures = read(form, most=1)  # in the event loop: nothing is said yet
    with pytest.raises(HttpError, match=text) as refused:
        pictures()
    assert refused.value.status == status
