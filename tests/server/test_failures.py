"""The model raises, runs out of memory, gives NaN, or its thread dies: only the faulty requests get 500.

The failures are those of ONNX Runtime itself, in a real server process.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.helpers.fragile_model import NAN, OUT_OF_MEMORY, RAISES, make_fragile_onnx
from tests.helpers.image_file import image_file
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx


def is_internal(reply: httpx.Response) -> bool:
    return reply.status_code == 500 and reply.json()["error"].startswith("internal error")


def plain(*colour: int) -> bytes:
    return image_file(Image.new("RGB", (8, 8), colour * (3 // len(colour))))


WHITE, BLUE = plain(255), plain(0, 0, 255)


def label(reply: httpx.Response) -> str:
    return str(reply.json()["answers"][0]["label"])


def is_ready(server: Server) -> bool:
    assert httpx.get(f"{server.url}/health/live").status_code == 200
    return httpx.get(f"{server.url}/health/ready").status_code == 200


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = make_fragile_onnx(tmp_path_factory.mktemp("fragile") / "fragile.onnx")
    with Server(str(model)) as running:
        yield running
        code, log = running.stop()
    assert code == 0
    assert {json.loads(line)["level"] for line in log.splitlines()} == {"info", "error"}


@pytest.mark.parametrize(
    "grey", [RAISES, OUT_OF_MEMORY, NAN], ids=["the model raises", "it runs out of memory", "it gives NaN"]
)
def test_a_failure_of_the_model_is_that_of_its_request_alone(fragile: Server, grey: int) -> None:
    bad = plain(grey)

    async def one(client: httpx.AsyncClient, number: int) -> httpx.Response:
        return await client.post("/classify", content=bad if number % 4 == 0 else BLUE)

    async def scenario() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=fragile.url, timeout=60) as client:
            return list(await asyncio.gather(*(one(client, number) for number in range(80))))

    replies = asyncio.run(scenario())
    assert [reply.status_code for reply in replies] == [500 if n % 4 == 0 else 200 for n in range(80)]
    assert all(map(is_internal, replies[::4]))
    assert {label(reply) for reply in replies if reply.is_success} == {"blue"}
    assert is_ready(fragile)


def test_a_failure_within_a_request_of_several_pictures_fails_that_request(fragile: Server) -> None:
    both = httpx.post(f"{fragile.url}/classify", files=[("file", ("a", BLUE)), ("file", ("b", WHITE))])
    assert is_internal(both)
    assert label(httpx.post(f"{fragile.url}/classify", content=BLUE)) == "blue"


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[Server]:
    make_tiny_onnx(tmp_path / "tiny.onnx")
    script = str(Path(__file__).parents[1] / "helpers" / "dying_server.py")
    with Server("--models", str(tmp_path), "--reload-by-post", script=script) as running:
        yield running


def test_a_thread_that_dies_is_replaced_and_one_that_dies_too_often_is_reported(dying: Server) -> None:
    def post(picture: bytes) -> httpx.Response:
        return httpx.post(f"{dying.url}/classify", content=picture, timeout=30)

    for _ in range(5):
        assert is_internal(post(WHITE))
        assert label(post(BLUE)) == "blue"
        assert is_ready(dying)
    assert is_internal(post(WHITE))
    assert not is_ready(dying)
    ready: dict[str, Any] = httpx.get(f"{dying.url}/health/ready").json()
    assert ready == {"error": "not ready: not running: tiny version 1; restart the server"}
    refused = post(BLUE)
    assert (refused.status_code, refused.json()) == (503, {"error": "tiny is not running"})
    assert refused.headers["Retry-After"] == "1"

    for change in ("unload", "load"):  # what an operator may do instead of a restart
        assert httpx.post(f"{dying.url}/v2/repository/models/tiny/{change}").status_code == 200
    assert is_ready(dying)
    assert label(post(BLUE)) == "blue"
    code, log = dying.stop()
    assert code == 0
    events = [
        line["event"] for line in map(json.loads, log.splitlines()) if "inference thread" in line.get("event", "")
    ]
    assert len(events) == 6
    assert len({event.rpartition("; ")[2] for event in events[:5]}) == 1, "each of the first five is replaced"
    assert events[5].rpartition("; ")[2] != events[0].rpartition("; ")[2]
    assert "SystemExit: the driver gave up" in events[0]


def test_sigterm_while_the_models_load_ends_the_server() -> None:
    """Its default action would too, but not in the first process of a container, where there is none."""
    script = """
import time
from taijitu_server.cli import main
from taijitu_server.models.registry import Registry

Registry.load_all = lambda _: (print("loading", flush=True), time.sleep(60))
raise SystemExit(main(["model.onnx", "--port", "0"]))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.terminate()
        assert process.wait(10) == 0
