"""The log's writer, with a reader that stalls."""

from __future__ import annotations

import json
import subprocess
import sys

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
