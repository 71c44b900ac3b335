"""docker/healthcheck.py, which the images run, tested with a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest


def health(root: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / "docker" / "healthcheck.py"]
    environment = os.environ | {"TAIJITU_PORT": str(port)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])  # which knows no server of this container
def test_a_server_that_is_ready_is_healthy(
    root: Path, server: Any, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    done = health(root, httpx.URL(server.url).port or 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_server_is_unhealthy_and_one_line_says_why(root: Path) -> None:
    done = health(root, 1)
    assert done.returncode == 1
    assert "Connection refused" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("listens_on", "asked"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")]
)
def test_the_address_that_the_server_listens_on_is_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch, listens_on: str, asked: str
) -> None:
    monkeypatch.setenv("TAIJITU_HOST", listens_on)
    done = health(root, 1)
    assert done.returncode == 1
    assert done.stdout.startswith(f"http://{asked}:1/health/ready: ")
