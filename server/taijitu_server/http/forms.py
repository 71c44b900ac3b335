"""Read the pictures of a request to /classify: a raw body, a multipart form, or base64 in JSON."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from taijitu_runtime.errors import one_line
from taijitu_server.errors import CONTENT_TYPE, PICTURES, HttpError, bad_request
from taijitu_server.http.body import BodyReader
from taijitu_server.http.json_body import content_from_json
from taijitu_server.http.request import Request, unknown_name
from taijitu_server.http.response import JSON

BINARY_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})  # the last one is S3's
FORM = "multipart/form-data"
CURL_DEFAULT = "application/x-www-form-urlencoded"
FIELD = "file"
BASE64_EXPECTED = "a picture in base64, or as a data URL"
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
URL = re.compile(r"[a-z]{2,10}://", re.IGNORECASE)
MAX_PARTS = 1000
MAX_PART_HEADER_BYTES = 8192

Pictures = Callable[[], list[bytes]]


async def read_pictures(request: Request, bodies: BodyReader, max_pictures: int) -> Pictures:
    """Read the body and return a function that parses it into pictures.

    Parsing a large body takes long; call the function in another thread than the event loop's.

    Raises:
        HttpError: 400, 413 or 415; also raised by the returned function.
    """
    kind = request.header(b"content-type").partition(";")[0].strip().lower()
    if kind in BINARY_TYPES or kind.startswith("image/"):
        body = await bodies.read(request)
        if not body:
            raise bad_request("the body is empty; send the bytes of a picture, or a form with a file field 'file'")
        return lambda: [body]
    if kind == FORM:
        boundary = parse_options_header(request.headers[b"content-type"])[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= 200:
            raise bad_request(
                "got a form whose Content-Type has no boundary of 1 to 200 characters; do not set that header by hand, "
                "the client library writes it"
            )
        form = await bodies.read(request)
        return lambda: pictures_from_form(form, boundary, max_pictures)
    if kind == JSON:
        text = await bodies.read(request)
        return lambda: pictures_from_json(text, max_pictures)
    expected = f"image/*, application/octet-stream, {FORM} or {JSON}"
    hint = "; curl --data-binary needs -H 'Content-Type: image/jpeg'" if kind == CURL_DEFAULT else ""
    raise HttpError(CONTENT_TYPE, f"got Content-Type {kind[:100]}, expected {expected}{hint}")


def pictures_from_json(text: bytes, max_pictures: int) -> list[bytes]:
    """Return the pictures of {"image": base64} or {"images": [base64, ...]}. Raises HttpError 400 or 413."""
    content = content_from_json(text, most_lists=2)
    expected = 'expected {"image": base64} or {"images": [base64, ...]}'
    if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= {"image", "images"}:
        names = ", ".join(map(str, content))[:100] if isinstance(content, dict) else type(content).__name__
        raise bad_request(f"got JSON with {names or 'nothing'}, {expected}; put top and model into the query")
    texts = content["images"] if "images" in content else [content["image"]]
    if not isinstance(texts, list) or not texts or not all(isinstance(item, str) for item in texts):
        raise bad_request(f"got JSON of another form, {expected}")
    if len(texts) > max_pictures:
        raise too_many(max_pictures)
    return [bytes_from_base64(item) for item in texts]


def bytes_from_base64(text: str) -> bytes:
    """Decode base64 in the forms that clients write: with line ends, without padding, URL-safe, or as a data URL.

    Raises:
        HttpError: 400 for any other text.
    """
    head = DATA_URL.match(text)
    digits = text[head.end() :] if head else text
    try:
        return base64.b64decode(digits, validate=True)
    except ValueError:
        pass
    digits = "".join(digits.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        if head is None and text[:5].lower() == "data:":
            raise bad_request(f"got a data URL without ';base64,', expected {BASE64_EXPECTED}") from None
        if URL.match(text):
            raise bad_request(f"got a URL, which the server does not fetch, expected {BASE64_EXPECTED}") from None
        detail = one_line(error)[:100]
        raise bad_request(f"got text that is not base64 ({detail}), expected {BASE64_EXPECTED}") from None


def pictures_from_form(body: bytes, boundary: bytes, max_pictures: int) -> list[bytes]:
    """Return the contents of the fields named 'file' of a multipart form. Raises HttpError 400 or 413."""
    form = _Form(boundary, max_pictures)
    try:
        form.parser.write(body)
    except MultipartParseError as error:
        raise bad_request(
            f"the form is malformed, or has another boundary than its Content-Type says: {str(error)[:100]}"
        ) from None
    if not form.is_complete:
        raise bad_request("the form is truncated: its closing boundary is missing")
    if not form.pictures:
        raise bad_request(f"the form has no field called {FIELD!r}; send the picture under that name")
    return [bytes(picture) for picture in form.pictures]


def too_many(max_pictures: int) -> HttpError:
    """Return the error 413 for a request with more than `max_pictures` pictures."""
    return HttpError(PICTURES, f"got more than {max_pictures} pictures in one request; send fewer at a time")


class _Form:
    """Collects the contents of the fields named `file`, with or without a file name; any other field is an error."""

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
                "on_headers_finished": self._check_named,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise bad_request(f"got a form of more than {MAX_PARTS} parts; send fewer at a time")
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
            raise bad_request(f"got a part with more than {MAX_PART_HEADER_BYTES} bytes of headers; send less")

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")
            if name != FIELD:
                raise unknown_name("the form's field", name, (FIELD,))
            if self._taken is not None:
                raise bad_request("got a part of the form with two names, expected one")
            if len(self.pictures) == self._max_pictures:
                raise too_many(self._max_pictures)
            self._taken = bytearray()
            self.pictures.append(self._taken)
        self._name = self._value = b""

    def _check_named(self) -> None:
        if self._taken is None:
            raise bad_request(f"got a part of the form without a name, expected the name {FIELD!r}")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._taken is not None:
            self._taken += data[start:end]

    def _end(self) -> None:
        self.is_complete = True
