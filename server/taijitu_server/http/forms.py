"""The pictures of a request for /classify: a raw body, a multipart form, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from taijitu_server.errors import HttpError, bad_request
from taijitu_server.http.body import Bodies
from taijitu_server.http.exchange import Call

BINARY_TYPES = frozenset({"", "application/octet-stream"})
FIELD = b"file"
MAX_PARTS = 1000
MAX_PART_HEADER_BYTES = 8192

Pictures = Callable[[], list[bytes]]


async def read_pictures(call: Call, bodies: Bodies, max_pictures: int) -> Pictures:
    """Read the body; what is returned parses it for its pictures: for a large body, to be called off the event loop.

    HttpError 400, 413 or 415, from here or from the call.
    """
    kind = call.header(b"content-type").partition(";")[0].strip().lower()
    if kind in BINARY_TYPES or kind.startswith("image/"):
        body = await bodies.read(call)
        if not body:
            raise bad_request("the body is empty; send a picture's bytes, or a form with a file field 'file'")
        return lambda: [body]
    if kind == "multipart/form-data":
        boundary = parse_options_header(call.headers[b"content-type"])[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= 200:
            raise bad_request("the form has no boundary of 1 to 200 characters in its Content-Type")
        form = await bodies.read(call)
        return lambda: pictures_from_form(form, boundary, max_pictures)
    if kind == "application/json":
        text = await bodies.read(call)
        return lambda: pictures_from_json(text, max_pictures)
    expected = "image/*, application/octet-stream, multipart/form-data or application/json"
    raise HttpError(415, "content_type", f"got Content-Type {kind[:100]}, expected {expected}")


def pictures_from_json(text: bytes, max_pictures: int) -> list[bytes]:
    """The pictures of {"image": base64} or {"images": [base64, ...]}; HttpError 400 or 413."""
    try:
        content: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is no JSON: {error.msg[:100]}") from None
    expected = 'expected {"image": base64} or {"images": [base64, ...]}'
    if not isinstance(content, dict) or len(content.keys() & {"image", "images"}) != 1:
        raise bad_request(f"got other JSON, {expected}")
    texts = content["images"] if "images" in content else [content["image"]]
    if not isinstance(texts, list) or not texts or not all(isinstance(item, str) for item in texts):
        raise bad_request(f"got other JSON, {expected}")
    if len(texts) > max_pictures:
        raise too_many(max_pictures)
    try:
        return [base64.b64decode(item, validate=True) for item in texts]
    except (binascii.Error, ValueError):
        raise bad_request("got text that is no base64; URLs are not fetched: send the picture itself") from None


def pictures_from_form(body: bytes, boundary: bytes, max_pictures: int) -> list[bytes]:
    """The file fields called 'file' of a multipart form; HttpError 400 or 413."""
    form = _Form(boundary, max_pictures)
    try:
        form.parser.write(body)
    except MultipartParseError as error:
        raise bad_request(f"the form is malformed: {str(error)[:100]}") from None
    if not form.is_complete:
        raise bad_request("the form is cut off: its closing boundary is missing")
    if not form.pictures:
        raise bad_request("the form has no file field called 'file'; send the picture under that name")
    return [bytes(picture) for picture in form.pictures]


def too_many(max_pictures: int) -> HttpError:
    """413 for a request with more pictures than that."""
    return HttpError(413, "pictures", f"got more than {max_pictures} pictures in one request; send fewer at a time")


class _Form:
    """Keeps the bytes of the file fields named `file`, and nothing of all other fields."""

    def __init__(self, boundary: bytes, max_pictures: int) -> None:
        self.pictures: list[bytearray] = []
        self.is_complete = False
        self._max_pictures = max_pictures
        self._parts = self._header_bytes = 0
        self._name = self._value = b""
        self._taken: bytearray | None = None
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._add_value,
                "on_header_end": self._header,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise bad_request(f"the form has more than {MAX_PARTS} parts")
        self._header_bytes = 0
        self._name = self._value = b""
        self._taken = None

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_PART_HEADER_BYTES:
            raise bad_request(f"a part of the form has more than {MAX_PART_HEADER_BYTES} bytes of headers")

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            if options.get(b"name") == FIELD and b"filename" in options:
                if len(self.pictures) == self._max_pictures:
                    raise too_many(self._max_pictures)
                self._taken = bytearray()
                self.pictures.append(self._taken)
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._taken is not None:
            self._taken += data[start:end]

    def _end(self) -> None:
        self.is_complete = True
