"""What only the inside can bring about: a full house, and a model that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from taijitu_runtime import Classifier
from taijitu_server import Settings, create_app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def test_a_full_house_gets_503_and_when_to_come_back(
    shipped_onnx: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    predict = Classifier.predict

    def slow(self: Classifier, *args: Any, **kwargs: Any) -> Any:
        release.wait(30)
        return predict(self, *args, **kwargs)

    async def scenario() -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        app = create_app(classifier, Settings(max_pending=2, retry_after_s=7))
        monkeypatch.setattr(Classifier, "predict", slow)
        async with client_of(app) as client:
            content = photograph.read_bytes()
            waiting = [asyncio.create_task(client.post("/classify", content=content)) for _ in range(2)]
            await asyncio.sleep(0.2)
            refused = await client.post("/classify", content=content)
            release.set()
            served = [await task for task in waiting]
            return served, refused, await client.post("/classify", content=content)

    with Classifier.from_file(shipped_onnx) as classifier:
        served, refused, after = asyncio.run(scenario())
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "7"
    assert refused.json() == {"error": "2 requests are waiting already; try again"}
    assert [reply.status_code for reply in served] == [200, 200]
    assert after.status_code == 200


def test_a_failing_model_is_an_internal_error_and_tells_no_secrets(
    shipped_onnx: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> httpx.Response:
        async with client_of(app) as client:
            return await client.post("/classify", content=photograph.read_bytes())

    def fail(*args: Any) -> Any:
        raise RuntimeError("a secret path")

    with Classifier.from_file(shipped_onnx) as classifier:
        app = create_app(classifier, Settings())
        monkeypatch.setattr(Classifier, "predict", fail)
        reply = asyncio.run(scenario())
    assert reply.status_code == 500
    assert reply.json() == {"error": "internal error"}
    assert "internal error: POST /classify" in caplog.text


def test_a_body_that_does_not_arrive_gets_408_and_frees_its_place(shipped_onnx: Path, photograph: Path) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.sleep(30)

    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        async with client_of(create_app(classifier, Settings(max_pending=1, body_timeout_s=0.2))) as client:
            late = await client.post("/classify", content=stalled())
            return late, await client.post("/classify", content=photograph.read_bytes())

    with Classifier.from_file(shipped_onnx) as classifier:
        late, after = asyncio.run(scenario())
    assert late.status_code == 408
    assert late.json() == {"error": "the body did not arrive within 0.2 s; send it faster"}
    assert after.status_code == 200


def test_not_ready_before_the_start(shipped_onnx: Path) -> None:
    async def scenario() -> httpx.Response:
        async with client_of(
            create_app(classifier, Settings())
        ) as client:  # this transport does not start the application
            return await client.get("/health/ready")

    with Classifier.from_file(shipped_onnx) as classifier:
        reply = asyncio.run(scenario())
    assert (reply.status_code, reply.json()) == (503, {"error": "not ready"})
