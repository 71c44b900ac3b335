"""The log's writer, with a reader that stalls."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from types import SimpleNamespace

from taijitu_server.logs import JsonHandler

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


def test_lines_that_nobody_reads_are_counted_not_waited_for() -> None:
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", CODE], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"  # with nothing read
    _, log = child.communicate("\n", timeout=30)
    lines = [json.loads(line) for line in log.splitlines()]
    assert child.returncode == 0
    assert [line["number"] for line in lines if "number" in line] == [*range(10_001), -1]
    assert [line["event"] for line in lines if "event" in line] == ["10000 lines lost"]


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
