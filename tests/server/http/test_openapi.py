"""The OpenAPI document and the server: requests that it allows, and many others, get a response that it lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

EXAMPLES = 12
PATHS = [
    "/classify",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/v2/repository/index",
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_onnx(folder / "tiny.onnx")
    with Server("--models", str(folder), "--reload-by-post", "--no-access-log") as running:
        yield running


@pytest.fixture(scope="module")
def document(tiny: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{tiny.url}/openapi.json").json()
    return found


def test_a_refusal_is_as_documented(tiny: Server, document: dict[str, Any]) -> None:
    refusal = document["paths"]["/v2/models/{model}"]["get"]["responses"]["404"]
    name = refusal["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    reply = httpx.get(f"{tiny.url}/v2/models/nobody")
    assert reply.status_code == 404
    assert list(reply.json()) == document["components"]["schemas"][name]["required"]


def test_every_post_path_is_tried_below(document: dict[str, Any]) -> None:
    assert {path for path, methods in document["paths"].items() if "post" in methods} == set(PATHS)


@pytest.mark.parametrize("named", [False, True], ids=["any model", "the model that there is"])
@pytest.mark.parametrize("path", PATHS)
def test_generated_requests_get_documented_answers(
    tiny: Server, document: dict[str, Any], path: str, named: bool
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]
    responses = document["paths"][path]["post"]["responses"]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        if named:
            there = {"model": "tiny", "version": "1"}
            case.path_parameters = {name: there[name] for name in case.path_parameters or {}}
        reply = case.call(base_url=tiny.url, session=session)
        assert str(reply.status_code) in responses, reply.text
        assert reply.status_code != 500
        if reply.status_code != 200:
            assert list(reply.json()) == ["error"]

    with requests.Session() as session:
        check()
    assert requests.post(f"{tiny.url}/v2/repository/models/tiny/load", timeout=30).status_code == 200
    good = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}
    reply = requests.post(f"{tiny.url}/v2/models/tiny/infer", json={"inputs": [good]}, timeout=30)
    assert (reply.status_code, reply.json()["outputs"][0]["shape"]) == (200, [1, 3])


def test_the_document_says_what_an_array_holds_and_how_tensors_come_back(
    tiny: Server, document: dict[str, Any]
) -> None:
    assert not [schema for schema in objects_in(document) if schema.get("type") == "array" and "items" not in schema]
    tensor = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}
    documented = document["paths"]["/v2/models/{model}/infer"]["post"]["responses"]["200"]["content"]
    for is_binary in (False, True):
        content = {"inputs": [tensor], "parameters": {"binary_data_output": is_binary}}
        reply = httpx.post(f"{tiny.url}/v2/models/tiny/infer", json=content)
        assert (reply.status_code, reply.headers["Content-Type"] in documented) == (200, True)


def objects_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
    if isinstance(content, (dict, list)):
        for each in content.values() if isinstance(content, dict) else content:
            yield from objects_in(each)


@pytest.mark.parametrize(
    "body",
    ["5", "[]", "null", '"text"', *(f'{{"parameters": {given}}}' for given in ("5", '["config"]', "[]", "0", '""'))],
)
@pytest.mark.parametrize("change", ["load", "unload"])
def test_changes_of_models_with_other_json_are_refused(tiny: Server, change: str, body: str) -> None:
    reply = httpx.post(f"{tiny.url}/v2/repository/models/tiny/{change}", content=body)
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
