"""A real server process on a real socket, for tests and for the long runs in tools/."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import httpx

from tests.helpers.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
ENDS_WITHIN_S = 60
WITH_ERRORS = ("info", "warning", "error")
"""The levels of a server whose log has errors, because its test makes some."""


class Server:
    """`python server/serve.py ...` on a free port as a child process, or another script that does the same.

        with Server("model.onnx") as server:
            httpx.get(f"{server.url}/models")

    It is ready in the block, and ends with it: with exit code 0, and a log whose lines have `levels` only. A refusal
    that its route does not declare is a line of level error.
    """

    def __init__(
        self, *arguments: str, script: str = "server/serve.py", levels: Collection[str] = ("info", "warning")
    ) -> None:
        self.levels = levels
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open until `ended`; a pipe would block once full
        packages = os.pathsep.join(str(ROOT / folder) for folder in ("runtime", "server"))
        self.process = subprocess.Popen(
            [sys.executable, script, "--port", "0", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": packages, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://(\S+)", self.process.stdout.readline())
        self.url = found[0] if found else ""

    def __enter__(self) -> Server:
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is not None:
            return
        try:
            code, log = self.stop()
        finally:
            self.process.kill()
        assert code == 0, log
        assert {json.loads(line)["level"] for line in log.splitlines()} <= set(self.levels), log

    def wait_until_ready(self) -> None:
        """Wait until it is ready; AssertionError if it does not become so."""
        eventually(self._is_ready, every_s=0.02)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit code and all of stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait until the process ends; return the exit code and all of stderr."""
        code = self.process.wait(timeout=ENDS_WITHIN_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.stderr.seek(0)
        with self.stderr:
            return code, self.stderr.read()
