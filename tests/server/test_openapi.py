"""The OpenAPI document against the server: whatever it allows, and much that it does not, gets an answer it lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tiny_model import make_tiny_onnx

if TYPE_CHECKING:
    from conftest import Server

EXAMPLES = 15


@pytest.fixture(scope="module")
def tiny(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    running = start_server(str(model), "--port", "0", "--no-access-log")
    running.wait_until_ready()
    yield running
    assert running.stop() == (0, "")


@pytest.fixture(scope="module")
def document(tiny: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{tiny.url}/openapi.json").json()
    return found


def test_every_path_is_documented(document: dict[str, Any]) -> None:
    assert set(document["paths"]) >= {
        "/classify",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/models",
        "/v2",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
        "/v2/repository/index",
    }
    assert document["paths"]["/classify"]["post"]["responses"]["200"]["content"]["application/json"]["schema"][
        "example"
    ]


@pytest.mark.parametrize("path", ["/classify", "/v2/models/{model}/infer", "/v2/repository/models/{model}/load"])
def test_generated_requests_get_documented_answers(tiny: Server, document: dict[str, Any], path: str) -> None:
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]
    statuses: set[int] = set()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        reply = case.call(base_url=tiny.url)
        statuses.add(reply.status_code)
        assert str(reply.status_code) in document["paths"][path]["post"]["responses"], reply.text
        assert reply.status_code == 200 or list(reply.json()) == ["error"]
        assert reply.status_code != 500

    check()
    assert statuses
