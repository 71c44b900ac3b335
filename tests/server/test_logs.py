"""The log: one JSON object per line from every writer, and a stalled reader or a full disk delays nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from taijitu_server import logs
from taijitu_server.logs import JsonHandler, LineWriter
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

CODE = """
import sys, time
from taijitu_server.logs import LineWriter, json_line
writer = LineWriter()
writer.put(json_line({"number": 0, "text": "x" * 200_000}))  # more than a pipe takes
time.sleep(0.5)
for number in range(1, 20_001):
    writer.put(json_line({"number": number}))
print("done", flush=True)
sys.stdin.readline()
time.sleep(0.5)
writer.put(json_line({"number": -1}))
writer.close()
"""


def test_lines_that_are_not_read_are_counted_without_waiting() -> None:
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", CODE], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"  # with nothing read
    _, log = child.communicate("\n", timeout=30)
    lines = [json.loads(line) for line in log.splitlines()]
    assert child.returncode == 0
    assert [line["number"] for line in lines if "number" in line] == [*range(10_001), -1]
    assert [line["event"] for line in lines if "event" in line] == ["10000 lines lost"]


def test_a_line_that_is_put_while_others_are_written_is_not_lost_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(logs, "_stderr", writing)
    writer = LineWriter()
    writer.put(b"x" * 200_000 + b"\n")  # more than a pipe takes
    received = os.read(reading, 1)  # the writer is at it
    writer.put(b"last\n")
    closing = threading.Thread(target=writer.close)
    closing.start()
    time.sleep(0.1)
    while len(received) < 200_001:
        received += os.read(reading, 65536)
    closing.join()
    os.close(writing)
    with os.fdopen(reading, "rb") as rest:
        assert (received + rest.read()).endswith(b"x\nlast\n")


def test_foreign_text_in_a_message_is_escaped() -> None:
    written: list[bytes] = []
    handler = JsonHandler(SimpleNamespace(put=written.append))  # type: ignore[arg-type]
    try:
        raise ValueError("caf\udce9 \x1b[2J")
    except ValueError:
        error = sys.exc_info()
    handler.emit(logging.LogRecord("x", logging.ERROR, "", 0, "model %s", ("caf\udce9\n\x1b[2J",), error))
    line = json.loads(written[0].decode())
    assert line["event"] == r"model caf\udce9\n\x1b[2J"
    assert r"ValueError: caf\udce9 \x1b[2J" in line["traceback"].splitlines()[-1]


EVERYBODY = """
import asyncio, ctypes, gc, logging, os, sys, threading, warnings
from taijitu_server import logs

def fail():
    raise ValueError("of a callback")

class Unraisable:
    def __del__(self):
        raise ValueError("unraisable")

async def callbacks():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.05)

with logs.Log():
    warnings.warn("a warning")
    logging.getLogger("asyncio").error("of asyncio")
    logging.getLogger("PIL.TiffImagePlugin").error("of a client's picture")
    logging.getLogger("unheard.of").warning("by %s", "a library")
    logging.getLogger("unheard.of").warning("wrong %d", "arguments")
    logging.getLogger("taijitu.server").error("a name: %s", "caf\\udce9")
    print("printed", file=sys.stderr)
    os.write(2, b"raw \\xff\\n")
    libc = ctypes.CDLL(None)
    libc.write(2, b"from C\\n", 7)
    os.system("echo of a child >&2")
    asyncio.run(callbacks())
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    Unraisable()
    gc.collect()
print("plain again", file=sys.stderr)
"""


def test_every_line_on_stderr_is_json_from_every_writer() -> None:
    done = subprocess.run([sys.executable, "-c", EVERYBODY], capture_output=True, text=True, check=True)
    *lines, last = done.stderr.splitlines()
    assert last == "plain again"  # a command's one line about its end
    text = "\n".join(json.loads(line)["event"] + json.loads(line).get("traceback", "") for line in lines)
    for said in ("a warning", "of asyncio", "by a library", "wrong", "caf\\udce9", "printed", "raw \\xff", "from C"):
        assert said in text
    assert "of a client's picture" not in text
    for said in ("of a child", "of a callback", "worker", "unraisable"):
        assert said in text


def start(arguments: list[str], root: Path, stderr: int) -> subprocess.Popen[str]:
    command = [sys.executable, "server/serve.py", *arguments]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=stderr, text=True)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().split(" at ")[1].split()[0]


def test_a_full_disk_under_the_log_stops_nothing(root: Path, tmp_path: Path, photograph: Path) -> None:
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    full = os.open("/dev/full", os.O_WRONLY)
    with start([str(model), "--port", "0"], root, full) as process:
        url = url_of(process)
        for _ in range(20):
            assert httpx.post(f"{url}/classify", content=photograph.read_bytes(), timeout=30).status_code == 200
        process.terminate()
        assert process.wait(30) == 0


def test_a_log_that_is_not_read_stops_nothing(root: Path, tmp_path: Path, photograph: Path) -> None:
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    with start([str(model), "--port", "0"], root, subprocess.PIPE) as process:
        url = url_of(process)
        with httpx.Client(base_url=url, timeout=30) as client:
            for _ in range(1000):  # more lines than a pipe takes
                assert client.get(f"/{'x' * 200}").status_code == 404
            assert client.post("/classify", content=photograph.read_bytes()).status_code == 200
        process.terminate()
        assert process.wait(30) == 0


def test_a_trace_is_passed_through_and_an_invalid_one_is_not(
    start_server: Callable[..., Server], shipped_onnx: Path
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # the example of W3C Trace Context
    valid = [f"00-{trace}-{parent}-01", f"cc-{trace}-{parent}-01-what-the-future-will-be"]
    invalid = [
        f"00-{'0' * 32}-{parent}-01", f"00-{trace}-{'0' * 16}-01", f"ff-{trace}-{parent}-01", f"00-{trace}-{parent}",
        f"00-{trace}-{parent}-01-more", f"00-{trace.upper()}-{parent}-01",
    ]  # fmt: skip
    running = start_server(str(shipped_onnx))
    for number, sent in enumerate(valid + invalid):
        reply = httpx.get(f"{running.url}/models", headers={"traceparent": sent, "X-Request-ID": str(number)})
        assert reply.headers.get("traceparent") == (sent if sent in valid else None)
    lines = {line.get("id"): line for line in map(json.loads, running.stop()[1].splitlines())}
    for number in range(len(valid)):
        assert (lines[str(number)]["trace_id"], lines[str(number)]["parent_id"]) == (trace, parent)
    assert not any("trace_id" in lines[str(len(valid) + number)] for number in range(len(invalid)))
