"""What only the inside can bring about: a full house, and a model that fails."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from taijitu_runtime import Classifier
from taijitu_server import Settings, create_app


def client_of(classifier: Classifier, settings: Settings) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(classifier, settings), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def test_a_full_house_gets_503_and_when_to_come_back(
    shipped_onnx: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    predict = Classifier.predict

    def slow(self: Classifier, *args: Any, **kwargs: Any) -> Any:
        release.wait(30)
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Classifier, "predict", slow)

    async def scenario() -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        async with client_of(classifier, Settings(max_pending=2, retry_after_s=7)) as client:
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
    shipped_onnx: Path, photograph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> httpx.Response:
        async with client_of(classifier, Settings()) as client:
            return await client.post("/classify", content=photograph.read_bytes())

    classifier = Classifier.from_file(shipped_onnx)
    classifier.close()
    reply = asyncio.run(scenario())
    assert reply.status_code == 500
    assert reply.json() == {"error": "internal error"}
    assert "internal error: POST /classify" in caplog.text


def test_not_ready_before_the_first_inference(shipped_onnx: Path) -> None:
    async def scenario() -> httpx.Response:
        async with client_of(classifier, Settings()) as client:  # this transport does not start the application
            return await client.get("/health/ready")

    with Classifier.from_file(shipped_onnx) as classifier:
        reply = asyncio.run(scenario())
    assert (reply.status_code, reply.json()) == (503, {"error": "not ready"})
