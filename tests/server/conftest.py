"""A real server process on a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest


class Server:
    """`python server/serve.py ...` as a child process, or another script that does the same."""

    def __init__(self, root: Path, *arguments: str, script: str = "server/serve.py") -> None:
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open until `ended`; a pipe would block once full
        packages = os.pathsep.join(str(root / folder) for folder in ("runtime", "server"))
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments],
            cwd=root,
            env=os.environ | {"PYTHONPATH": packages, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://(\S+)", self.process.stdout.readline())
        self.url = found[0] if found else ""

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError("the server did not become ready within 30 s")

    def stop(self) -> tuple[int, str]:
        """SIGTERM, then the exit code and all of stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The exit code and all of stderr, once the process is over."""
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.stderr.seek(0)
        with self.stderr:
            return code, self.stderr.read()


@pytest.fixture(scope="session")
def start_server(root: Path) -> Callable[..., Server]:
    """Starts a server with the given arguments."""
    return lambda *arguments, **options: Server(root, *arguments, **options)


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], shipped_onnx: Path) -> Iterator[Server]:
    running = start_server(str(shipped_onnx), "--port", "0")
    running.wait_until_ready()
    yield running
    code, log = running.stop()
    assert code == 0
    assert {line["level"] for line in map(json.loads, log.splitlines())} <= {"info"}  # whatever the tests sent


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as connected:
        yield connected
