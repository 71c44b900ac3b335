"""Send damaged pictures and requests to a real server.

python -m tools.fuzz_server FOLDER [--inputs 4000] [--seed 1]

Each input is a request with a photograph of FOLDER: as a raw body, a form, JSON, or a binary tensor of KServe v2,
with the picture changed at random or with bytes after its end, or with changes to the request itself, its head and
body, its target, its Host or its framing. Each must get a documented response, or its connection closed, within a
second: no 500, no crash. One client sends them, so the server has no other work. Regularly, and at the end, a good
request must get the right answer. Exit code 1 if not. An input depends only on the seed and its number:
`--only` sends one again and prints the response.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from taijitu_export.to_onnx.cli import main as to_onnx
from taijitu_runtime.classifier import Classifier
from tests.helpers.server_process import ROOT, Server
from tools.fuzz_pictures import NUMBERS, damaged, seeds_from

LIMIT_S = 1.0
HANGS_S = 10.0
PROGRESS = 500
EXPECTED = {200, 400, 404, 405, 408, 411, 413, 415, 421, 422, 431, 501, 504}
MODEL = "yynet_small_16"
# A body without its end is waited for: that is not a fault, and another test covers the time limit.
LIMITS = ["--header-timeout-s", "0.3", "--body-timeout-s", "0.3"]
TOKENS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"--b",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"{",
    b"[",
    b'"',
    b"%00",
    b"-1",
    b"1e999",
]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # before the response, for clients that wait for it with their body
TAILS = (b"\n", b"\0" * 100, b"\xff\xd9", b"IEND\xaeB`\x82")
TARGETS = (
    b"http://[::1/", b"http://[::1]/classify", b"//classify", b"/%", b"/%ff%fe", b"/\xff", b"*", b"http://a:99999999/",
    b"/classify?" + b"&" * 100, b"/classify?top=%00", b"/classify#a", b"/../classify", b"/v2/models/%2e%2e/infer", b"a",
)  # fmt: skip
HOSTS: tuple[list[bytes], ...] = (
    [], [b"Host:"], [b"Host: a", b"Host: b"], [b"Host: [::1"], [b"Host: a:b"], [b"Host: \xff"],
    [b"Host: " + b"a" * 5000],
)  # fmt: skip
FRAMINGS: tuple[list[bytes], ...] = (
    [b"Content-Length: 5"], [b"Content-Length: -1"], [b"Content-Length: 99999999999999999999"], [b"Content-Length:"],
    [b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: gzip"], [b"Transfer-Encoding: chunked, chunked"],
    [b"Expect: 100-continue"], [b"Connection: Upgrade", b"Upgrade: websocket"], [b"Content-Encoding: gzip"],
    [b" folded: line"], [b": no name"], [b"Trailer: a"], [b"Inference-Header-Content-Length: 0"],
)  # fmt: skip
METHODS = (b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"post", b"BREW", b"POST")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP", b"")


def main() -> int:
    """Print one line for each status; 1 if a response was wrong, late or missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of photographs (*.jpg, *.JPEG, *.png)")
    parser.add_argument("--inputs", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this input only, and print the response")
    options = parser.parse_args()
    seeds = seeds_from(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        assert to_onnx([str(ROOT / "checkpoints" / f"{MODEL}_cifar10.pt"), "-o", str(model)]) == 0
        server = Server(str(model), *LIMITS)
        failed = run(server.url, seeds, good_request(model, seeds[0]), options)
        code, log = server.stop()
    if code:
        failed.append(f"the server ended with exit code {code}")
    lines = log.splitlines()
    failed += [line[-1000:] for line in lines if '"level":"error"' in line or not line.startswith("{")]
    print(f"failed: {len(failed)}")
    print("\n".join(failed[:20]))
    return 1 if failed else 0


def run(url: str, seeds: list[bytes], is_right: Callable[[str], bool], options: argparse.Namespace) -> list[str]:
    """Send every input; return one line for each failure."""
    failed: list[str] = []
    outcomes: Counter[str] = Counter()
    slowest_s, slowest = 0.0, 0
    for index in range(options.inputs) if options.only is None else [options.only]:
        request = request_of(seeds, random.Random(f"{options.seed} {index}"))
        began = time.perf_counter()
        reply = exchange(url, request)
        seconds = time.perf_counter() - began
        outcome = outcome_of(reply)
        outcomes[outcome] += 1
        slowest_s, slowest = max((slowest_s, slowest), (seconds, index))
        if outcome.startswith("!") or seconds > LIMIT_S:
            failed.append(f"input {index}: {outcome}, {seconds:.2f} s")
        if options.only is not None:
            print(request[:300], reply[:2000], sep="\n")
        if index % PROGRESS == PROGRESS - 1 or options.only is not None:
            print(f"{index + 1} inputs, {len(failed)} failed", flush=True)
            if not is_right(url):
                return [*failed, f"after input {index} a good request got a wrong answer"]
    if not is_right(url):
        failed.append("at the end a good request got a wrong answer")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7}  {outcome}")
    print(f"slowest: input {slowest}, {1e3 * slowest_s:.0f} ms")
    return failed


def request_of(seeds: list[bytes], draw: random.Random) -> bytes:
    """Return the bytes of one request; the picture, the request, or both are damaged."""
    where = draw.choice(("picture", "tail", "request", "head", "both"))
    if where == "tail":
        picture = draw.choice(seeds) + draw.choice((*TAILS, draw.choice(seeds), draw.randbytes(40)))
    else:
        picture = draw.choice(seeds) if where in ("request", "head") else damaged(seeds, draw)
    request = draw.choice((raw, form, in_json, binary_tensor, json_tensor))(picture, draw)
    if where == "head":
        return with_odd_head(request, draw)
    return broken(request, draw) if where in ("request", "both") else request


def with_odd_head(request: bytes, draw: random.Random) -> bytes:
    """Give the request another target, Host or framing that has broken some server before."""
    head, gap, body = request.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    method, target, version = line.split(b" ")
    change = draw.randrange(4)
    if change == 0:
        target = draw.choice(TARGETS)
    elif change == 1:
        fields = [*draw.choice(HOSTS), *(field for field in fields if not field.startswith(b"Host:"))]
    elif change == 2:
        fields += draw.choice(FRAMINGS)
    else:
        method, version = draw.choice(METHODS), draw.choice(VERSIONS)
    return b"\r\n".join([b" ".join((method, target, version)), *fields]) + gap + body


def raw(picture: bytes, draw: random.Random) -> bytes:
    """Send the picture as the body, whole or in chunks."""
    kind = draw.choice(("image/jpeg", "image/png", "application/octet-stream", "text/plain"))
    target = draw.choice(("/classify", "/classify?top=3", f"/classify?model={MODEL}&version=1"))
    if draw.random() < 0.7:
        return posted(target, picture, f"Content-Type: {kind}")
    size = draw.choice((1000, 7000, 65536))
    parts = [picture[start : start + size] for start in range(0, len(picture), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return posted(target, body, f"Content-Type: {kind}", "Transfer-Encoding: chunked")


def form(picture: bytes, draw: random.Random) -> bytes:
    """Send a form with one to three files."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n%b\r\n' % picture
    return posted(
        "/classify", part * draw.choice((1, 1, 3)) + b"--b--\r\n", "Content-Type: multipart/form-data; boundary=b"
    )


def in_json(picture: bytes, draw: random.Random) -> bytes:
    """Send the picture as base64."""
    body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
    return posted("/classify", body, "Content-Type: application/json")


def binary_tensor(picture: bytes, draw: random.Random) -> bytes:
    """Send a KServe request with the picture as an element of a BYTES tensor."""
    tensor = len(picture).to_bytes(4, "little") + picture
    given = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tensor)}}
    head = json.dumps(
        {"inputs": [given], "outputs": [{"name": "logits", "parameters": {"classification": 3}}]}
    ).encode()
    return posted(f"/v2/models/{MODEL}/infer", head + tensor, f"Inference-Header-Content-Length: {len(head)}")


def json_tensor(picture: bytes, draw: random.Random) -> bytes:
    """Send a KServe request with numbers, taken from the picture's bytes."""
    numbers = list((picture * (1 + 3072 // max(1, len(picture))))[:3072])
    given = {"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": numbers}
    return posted(f"/v2/models/{MODEL}/versions/1/infer", json.dumps({"inputs": [given]}).encode())


def posted(target: str, body: bytes, *headers: str) -> bytes:
    """Return a request after which the connection is closed."""
    if "Transfer-Encoding: chunked" not in headers:
        headers = (*headers, f"Content-Length: {len(body)}")
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def broken(request: bytes, draw: random.Random) -> bytes:
    """Change the bytes of a request 1 to 4 times; most changes are in its first 600 bytes, where the head is."""
    data = bytearray(request)
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(min(len(data), 600) if draw.random() < 0.8 else len(data))
        change = draw.randrange(5)
        if change == 0:
            data[place] = draw.randrange(256)
        elif change == 1:
            data[place:place] = draw.choice(TOKENS)
        elif change == 2:
            data[place:place] = str(draw.choice(NUMBERS)).encode()
        elif change == 3:
            del data[place : place + draw.choice((1, 4, 40))]
        else:
            data[place:place] = data[place : place + 40] * draw.choice((1, 20))
    return bytes(data)


def exchange(url: str, request: bytes) -> bytes:
    """Return the first response to some bytes, or the part of it that was sent before the server closed."""
    host, port = url.removeprefix("http://").split(":")
    reply = b""
    with socket.create_connection((host, int(port)), timeout=HANGS_S) as connection:
        try:
            connection.sendall(request)
            while end_of(reply) is None and (part := connection.recv(65536)):
                reply = (reply + part).removeprefix(CONTINUE)
        except TimeoutError:
            return b"!it hangs"
        except OSError:  # closed before it read all bytes
            pass
    return reply[: end_of(reply)]


def end_of(reply: bytes) -> int | None:
    """Return where the first response ends, by the length that it declares; None before it is there as a whole."""
    head, gap, body = reply.partition(b"\r\n\r\n")
    found = re.search(rb"\r\ncontent-length: (\d+)", head)
    if not gap or found is None or len(body) < int(found[1]):
        return None
    return len(head) + len(gap) + int(found[1])


def outcome_of(reply: bytes) -> str:
    """Return the status, "closed", or "!" and the fault."""
    if reply.startswith(b"!") or not reply:
        return reply.decode() or "closed"
    head, _, body = reply.partition(b"\r\n\r\n")
    try:
        status = int(head.split()[1])
        content = json.loads(body) if body else ["error"]  # for example a HEAD
    except (ValueError, IndexError):
        return f"!not a response: {reply[:200]!r}"
    if status not in EXPECTED or (status != 200 and list(content) != ["error"]):
        return f"!{status} {body[:200]!r}"
    return str(status)


def good_request(model: Path, picture: bytes) -> Callable[[str], bool]:
    """Return a check that the server at a URL is alive and gives a whole photograph the runtime's label."""
    with Classifier.from_file(model) as classifier:
        label = classifier.predict(picture).best.label

    def is_right(url: str) -> bool:
        try:
            live = httpx.get(f"{url}/v2/health/live", timeout=HANGS_S)
            reply = httpx.post(f"{url}/classify", content=picture, timeout=HANGS_S)
        except httpx.TransportError:
            return False
        return live.status_code == reply.status_code == 200 and reply.json()["answers"][0]["label"] == label

    return is_right


if __name__ == "__main__":
    raise SystemExit(main())
