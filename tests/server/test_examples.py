"""Every example of docs/serving.md and docs/proxies.md, unchanged, against a real server and a real nginx."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from websockets.sync.client import connect

from taijitu_server.settings import settings_from
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import card_dict, make_tiny_onnx

ADDRESS = "127.0.0.1:8000"
MODEL = "yynet_small_16"


def blocks(page: Path, kind: str) -> list[str]:
    """Return the fenced blocks of a kind in a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    card = card_dict()
    card["architecture"]["name"] = MODEL
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "model.onnx", card=card)
    with Server(str(model), "--camera", "door=http://127.0.0.1:9/none", "--no-access-log") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "cat.jpg")
    Image.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "picture.jpg")
    return tmp_path


def test_each_curl_line_is_answered(running: Server, root: Path, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl; apt-get install curl")
    lines = [
        line.removeprefix("$ ").replace(ADDRESS, running.url.removeprefix("http://"))
        for block in blocks(root / "docs" / "serving.md", "")
        for line in block.splitlines()
        if line.startswith("$ ") and "curl" in line
    ]
    assert len(lines) > 2
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
        assert "error" not in json.loads(done.stdout), line


def test_each_python_block_runs(running: Server, root: Path, folder: Path) -> None:
    found = blocks(root / "docs" / "serving.md", "python")
    assert found
    for block in found:
        code = block.replace(ADDRESS, running.url.removeprefix("http://"))
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, "blue" in done.stdout) == (0, True), done.stderr


def test_each_file_of_settings_is_read(root: Path, tmp_path: Path) -> None:
    found = blocks(root / "docs" / "serving.md", "toml")
    assert found
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert settings_from({}, file).camera.keys() == {"door", "desk"}


@pytest.fixture(scope="module")
def nginx(running: Server, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the block of docs/proxies.md in a real nginx; return its address."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("no nginx; apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (documented,) = blocks(root / "docs" / "proxies.md", "nginx")
    documented = documented.replace(ADDRESS, running.url.removeprefix("http://"))
    documented = documented.replace("listen 80;", f"listen {address};")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    log = f"{folder}/error.log"
    user = "user root root; " if os.geteuid() == 0 else ""  # else its workers may not write their folders
    head = f"{user}daemon off; pid {folder}/pid; error_log {log};\nevents {{}}\nhttp {{\naccess_log off;\n"
    (folder / "nginx.conf").write_text(f"{head}{paths}{documented}}}\n")
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", log])
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"http://{address}/health/live")
            break
        except httpx.TransportError:
            assert process.poll() is None, Path(log).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield address
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize("host", ["", "public.example"])
def test_pictures_and_websockets_pass_the_documented_nginx(
    nginx: str, running: Server, folder: Path, host: str
) -> None:
    headers = {"Host": host} if host else {}
    reply = httpx.post(f"http://{nginx}/classify", content=(folder / "cat.jpg").read_bytes(), headers=headers)
    assert reply.status_code == (421 if host else 200)  # a public name is one of --allowed-hosts
    large = httpx.post(f"http://{nginx}/classify", content=bytes(5 * 2**20))
    assert large.status_code == 422  # and not nginx's own 413
    with connect(f"ws://{nginx}/cameras/door/results", origin=f"http://{nginx}") as results:  # type: ignore[arg-type]
        assert json.loads(results.recv(timeout=20))["name"] == "door"
