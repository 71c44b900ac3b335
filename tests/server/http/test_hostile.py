"""Bytes that no HTTP client would send, to a real server; after each one it is alive and answers a good request."""

from __future__ import annotations

import io
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from taijitu_runtime.classifier import Classifier
from tests.helpers.image_file import image_file, png_declaring, with_scans
from tests.helpers.raw_http import answers, connect, received
from tests.helpers.server_process import Server
from tests.helpers.waiting import eventually

HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def strict(shipped_onnx: Path) -> Iterator[Server]:
    limits = ["--header-timeout-s", "0.5", "--body-timeout-s", "0.5", "--keep-alive-s", "1", "--max-connections", "40"]
    with Server(str(shipped_onnx), *limits, levels=("info",)) as running:
        yield running


@pytest.fixture(autouse=True)
def still_right_afterwards(strict: Server, jpeg: bytes) -> Iterator[None]:
    yield
    assert httpx.get(f"{strict.url}/v2/health/live").status_code == 200
    reply = httpx.post(f"{strict.url}/classify", content=jpeg, timeout=30)
    assert reply.json()["answers"][0]["label"] == "cat"


def exchange(server: Server, sent: bytes) -> tuple[int, str]:
    """Return status and error text of the response to some bytes, after which the server closes."""
    with connect(server) as connection:
        connection.sendall(sent)
        reply = received(connection)
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (b"nonsense\r\n\r\n", 400, "HTTP"),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP"),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "HTTP"),
        (HEAD + b"Content-Length: -3\r\n\r\n", 400, "HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "HTTP"),
        (HEAD + b"X-Long: " + bytes(200_000).replace(b"\0", b"a"), 431, "larger than 65536 bytes"),
        (HEAD + b"X: a\r\n" * 40_000 + b"\r\n", 431, "larger than 65536 bytes"),
        (b"GET /" + b"a" * 100_000, 431, "larger than 65536 bytes"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 65_537, 400, "65536"),
        (HEAD, 408, "headers did not arrive within 0.5 s"),
        (HEAD + b"Content-Length: 100\r\n\r\nabc", 408, "body did not arrive within 0.5 s"),
    ],
    ids=[
        *["nonsense", "length and chunked", "two lengths", "negative", "bad chunk", "long header", "many headers"],
        *["long path", "many chunks", "stalled head", "stalled body"],
    ],
)
def test_refused_bytes(strict: Server, sent: bytes, status: int, text: str) -> None:
    found = exchange(strict, sent)
    assert found[0] == status
    assert text in found[1]


# A path that waits for the rest of the body, and two that are answered without it.
@pytest.mark.parametrize("path", ["/classify", "/classify?model=unknown", "/nowhere"])
def test_a_body_that_breaks_off_gets_one_answer(strict: Server, path: str) -> None:
    with connect(strict) as connection:
        head = HEAD.replace(b"/classify", path.encode()) + b"Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"2\r\nab\r\nno chunk\r\n")
        assert [status for status, _ in answers(connection)] == [400]


def test_a_connection_that_never_speaks_is_closed(strict: Server) -> None:
    with connect(strict) as connection:
        assert received(connection) == b""


def test_slow_headers_do_not_extend_the_time_limit(strict: Server) -> None:
    began = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(HEAD)
        while time.monotonic() - began < 5:
            try:
                connection.sendall(b"X-A: b\r\n")
            except OSError:
                break
            time.sleep(0.1)
    assert time.monotonic() - began < 5


def test_connections_beyond_the_limit_are_told_so(strict: Server) -> None:
    opened = [connect(strict) for _ in range(40)]
    try:
        with connect(strict) as further:
            reply = received(further)
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"\r\nretry-after: 1\r\n" in reply
    finally:
        for connection in opened:
            connection.close()
    eventually(lambda: httpx.get(f"{strict.url}/health/live").status_code == 200)  # they count until it sees them end


def test_clients_that_leave_while_they_wait_are_dropped(strict: Server, jpeg: bytes) -> None:
    def gone() -> float:
        text = httpx.get(f"{strict.url}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("taijitu_requests_total{") and "499" in line]
        return sum(float(line.split()[-1]) for line in lines)

    before = gone()
    for _ in range(20):
        with connect(strict) as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg[:-1])
    eventually(lambda: gone() >= before + 20)


def progressive(side: int) -> bytes:
    return image_file(Image.new("RGB", (side, side)), "JPEG", progressive=True)


def forged(format_: str) -> bytes:
    """Make a small picture whose header declares the largest size that the format can have."""
    data = bytearray(image_file(Image.new("RGB", (16, 16), (200, 30, 90)), format_))
    place = {"JPEG": data.find(b"\xff\xc0") + 5, "BMP": 18, "GIF": 6, "WEBP": 26}[format_]
    side = struct.pack("<I", 2**31 - 1) if format_ == "BMP" else b"\xff\xff"
    data[place : place + 2 * len(side)] = side * 2
    return bytes(data)


COSTLY: dict[str, tuple[Callable[[], bytes], int]] = {
    "400 scans": (lambda: with_scans(progressive(8), 400), 413),
    "80,000 scans": (lambda: with_scans(progressive(8), 80_000), 413),
    "80,000 scans of a large picture": (lambda: with_scans(progressive(6000), 80_000), 413),
    "49 megapixels in few bytes": (lambda: image_file(Image.new("1", (8000, 6200)), "PNG"), 413),
    "900 megapixels, a thousandth there": (lambda: png_declaring(30_000, 30_000, bytes(900_000)), 413),
    "the largest PNG": (lambda: png_declaring(2**31 - 1, 2**31 - 1), 413),
    "a PNG of a single row": (lambda: png_declaring(2**31 - 1, 1), 413),
    "no size": (lambda: png_declaring(0, 0), 422),
    "forged JPEG": (lambda: forged("JPEG"), 413),
    "forged BMP": (lambda: forged("BMP"), 413),
    "forged GIF": (lambda: forged("GIF"), 413),
    "forged WEBP": (lambda: forged("WEBP"), 413),
}


def cpu_seconds(server: Server) -> float:
    """Return the processor time of the server's process, which other processes of a busy machine do not change."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


@pytest.mark.parametrize("kind", COSTLY)
def test_pictures_that_would_cost_too_much_are_refused_at_once(strict: Server, kind: str) -> None:
    make, status = COSTLY[kind]
    picture = make()
    before = cpu_seconds(strict)
    reply = httpx.post(f"{strict.url}/classify", content=picture, timeout=30)
    spent = cpu_seconds(strict) - before
    assert (reply.status_code, list(reply.json())) == (status, ["error"]), reply.text
    assert spent < 1  # the work that is spared takes from seconds to hours


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stored_turned_are_classified_upright(strict: Server, photograph: Path, orientation: int) -> None:
    turns = Image.Transpose
    undo = [None, turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM, turns.TRANSPOSE, turns.ROTATE_90]
    undo += [turns.TRANSVERSE, turns.ROTATE_270]
    image = Image.open(photograph).convert("RGB")
    turn = undo[orientation - 1]
    exif = Image.Exif()
    exif[274] = orientation
    out = io.BytesIO()
    (image if turn is None else image.transpose(turn)).save(out, "JPEG", quality=95, exif=exif)
    reply = httpx.post(f"{strict.url}/classify", content=out.getvalue())
    assert reply.json()["answers"][0]["label"] == "cat"


@pytest.mark.parametrize(
    ("mode", "format_", "options"),
    [
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {"progressive": True}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("RGB", "WEBP", {}),
        ("RGB", "BMP", {}),
        ("L", "BMP", {}),
        ("RGB", "GIF", {"save_all": True, "append_images": [Image.new("RGB", (451, 300))]}),
        ("RGB", "WEBP", {"save_all": True, "append_images": [Image.new("RGB", (451, 300))]}),
    ],
)
def test_every_kind_of_picture_gets_the_class_of_its_pixels(
    strict: Server, shipped_onnx: Path, photograph: Path, mode: str, format_: str, options: dict[str, object]
) -> None:
    picture = image_file(Image.open(photograph).convert(mode), format_, **options)
    assert_answers_of(strict, shipped_onnx, picture, np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")))


def test_16_bit_pictures_get_the_class_of_their_pixels(strict: Server, shipped_onnx: Path, photograph: Path) -> None:
    grey = np.asarray(Image.open(photograph).convert("L"))
    picture = image_file(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    assert picture[24:26] == b"\x10\x00"  # 16 bits, grey
    assert_answers_of(strict, shipped_onnx, picture, np.repeat(grey[..., None], 3, axis=2))


def assert_answers_of(server: Server, model: Path, picture: bytes, pixels: NDArray[np.uint8]) -> None:
    """Check that the server's answer to a file is the runtime's to its pixels: RGB by Pillow, as in training."""
    answers = httpx.post(f"{server.url}/classify", content=picture, timeout=30).json()["answers"]
    with Classifier.from_file(model) as classifier:
        expected = classifier.predict(pixels).answers
    assert [answer["label"] for answer in answers] == [answer.label for answer in expected]
    assert [answer["probability"] for answer in answers] == pytest.approx(
        [answer.probability for answer in expected], abs=1e-3
    )
