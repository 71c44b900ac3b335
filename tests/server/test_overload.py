"""More work than a server can do, and its end: every request gets a response, and no accepted one is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.server_process import WITH_ERRORS, Server
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.waiting import eventually


@pytest.fixture(scope="module")
def slow_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model with far more to add up than the usual tiny one."""
    return make_tiny_onnx(tmp_path_factory.mktemp("slow") / "slow.onnx", size=(1024, 1024))


async def flood(url: str, picture: bytes, clients: int, requests: int) -> list[httpx.Response | Exception]:
    """Return the responses to requests from that many connections at once."""

    async def one(client: httpx.AsyncClient) -> list[httpx.Response | Exception]:
        found: list[httpx.Response | Exception] = []
        for _ in range(requests):
            try:
                found.append(await client.post(f"{url}/classify", content=picture))
            except httpx.TransportError as error:
                found.append(error)
        return found

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=clients)) as client:
        return [reply for replies in await asyncio.gather(*(one(client) for _ in range(clients))) for reply in replies]


def counted(replies: list[httpx.Response | Exception]) -> Counter[Any]:
    return Counter(reply.status_code if isinstance(reply, httpx.Response) else type(reply) for reply in replies)


def test_a_full_queue_says_when_to_come_back(start_server: Callable[..., Server], slow_onnx: Path, blue: bytes) -> None:
    limits = ["--queue-size", "4", "--retry-after-s", "7", "--instances", "1"]
    running = start_server(str(slow_onnx), *limits)
    replies = asyncio.run(flood(running.url, blue, 24, 4))
    found = counted(replies)
    assert set(found) == {200, 503}
    refused = [reply for reply in replies if isinstance(reply, httpx.Response) and reply.status_code == 503]
    assert {reply.headers["Retry-After"] for reply in refused} == {"7"}
    assert "tiny" in refused[0].json()["error"]
    answers = [
        reply.json()["answers"][0]["label"]
        for reply in replies
        if isinstance(reply, httpx.Response) and reply.is_success
    ]
    assert set(answers) == {"blue"}
    metrics = httpx.get(f"{running.url}/metrics").text
    assert f'taijitu_rejected_requests_total{{reason="queue_full"}} {float(found[503])}' in metrics
    assert 'taijitu_pending_requests{model="tiny",version="1"} 0.0' in metrics


def test_a_request_that_waited_too_long_is_not_run(
    start_server: Callable[..., Server], slow_onnx: Path, blue: bytes
) -> None:
    limits = ["--queue-timeout-ms", "100", "--instances", "1", "--max-batch", "1"]
    running = start_server(str(slow_onnx), *limits)
    found = counted(asyncio.run(flood(running.url, blue, 64, 2)))
    assert set(found) == {200, 504}
    metrics = httpx.get(f"{running.url}/metrics").text
    runs = [line for line in metrics.splitlines() if line.startswith("taijitu_batch_requests_sum")]
    assert float(runs[0].split()[-1]) == found[200]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_answers_what_was_accepted(
    start_server: Callable[..., Server], slow_onnx: Path, blue: bytes, workers: str
) -> None:
    running = start_server(str(slow_onnx), "--workers", workers)

    async def scenario() -> list[httpx.Response | Exception]:
        load = asyncio.create_task(flood(running.url, blue, 8, 100))
        await asyncio.sleep(0.7)
        running.process.send_signal(signal.SIGTERM)
        return await load

    found = counted(asyncio.run(scenario()))
    code, log = running.ended()
    assert code == 0
    assert "Traceback" not in log
    answered = [line for line in map(json.loads, log.splitlines()) if line.get("path") == "/classify"]
    assert found[200] == sum(line["status"] == 200 for line in answered)
    assert found[200] > 0
    # A reply that broke off would be a ReadError or a RemoteProtocolError in the middle of a body.
    assert set(found) <= {200, 503, httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError}


def test_during_the_drain_requests_are_answered_and_readiness_is_false(
    start_server: Callable[..., Server], slow_onnx: Path, blue: bytes
) -> None:
    running = start_server(str(slow_onnx), "--drain-s", "3", "--retry-after-s", "7")
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{running.url}/health/ready").status_code == 503)
    assert httpx.get(f"{running.url}/health/live").status_code == 200
    ready = httpx.get(f"{running.url}/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"error": "not ready: shutting down"})
    assert ready.headers["Retry-After"] == "7"
    metadata = httpx.get(f"{running.url}/v2/models/tiny/ready")
    assert metadata.status_code == 503
    with httpx.Client(base_url=running.url, timeout=30) as client:
        for _ in range(3):
            reply = client.post("/classify", content=blue)
            assert (reply.status_code, reply.json()["answers"][0]["label"]) == (200, "blue")
            assert reply.headers["Connection"] == "close"  # the next one goes elsewhere
    assert running.ended()[0] == 0
    assert time.monotonic() - began >= 3


def test_a_second_signal_does_not_wait_for_the_drain(start_server: Callable[..., Server], slow_onnx: Path) -> None:
    running = start_server(str(slow_onnx), "--drain-s", "600")
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{running.url}/health/ready").status_code == 503)  # or both signals may be one
    assert running.stop()[0] == 0


def test_a_worker_that_is_killed_is_replaced(start_server: Callable[..., Server], slow_onnx: Path, blue: bytes) -> None:
    running = start_server(str(slow_onnx), "--workers", "2", levels=WITH_ERRORS)
    process = running.process.pid
    children = Path(f"/proc/{process}/task/{process}/children")
    before = children.read_text().split()
    assert len(before) == 2
    os.kill(int(before[0]), signal.SIGKILL)
    eventually(lambda: len(set(children.read_text().split()) - {before[0]}) >= 2)
    running.wait_until_ready()
    assert httpx.post(f"{running.url}/classify", content=blue, timeout=30).status_code == 200
