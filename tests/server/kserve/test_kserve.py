"""KServe v2 with its standard client: tritonclient, sync and async, against a real server."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from taijitu_runtime.classifier import Classifier
from taijitu_server.errors import HttpError
from taijitu_server.kserve.tensors import rows_from_numbers

if TYPE_CHECKING:
    from tests.helpers.server_process import Server

MODEL = "yynet_small_16"
INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def prepared(shipped_onnx: Path, jpeg: bytes) -> Any:
    with Classifier.from_file(shipped_onnx) as classifier:
        return classifier.prepare(jpeg)


@pytest.fixture(scope="module")
def logits(shipped_onnx: Path, prepared: Any) -> Any:
    with Classifier.from_file(shipped_onnx) as classifier:
        return classifier.logits(prepared[None])[0]


def tensor(data: Any, datatype: str, binary: bool = True, module: Any = triton) -> Any:
    given = module.InferInput("images", list(data.shape), datatype)
    given.set_data_from_numpy(data, binary_data=binary)
    return given


def test_health_and_metadata(server: Server) -> None:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "1")
        assert not client.is_model_ready(MODEL, "2")
        assert client.get_server_metadata()["name"] == "taijitu"
        found = client.get_model_metadata(MODEL, "1")
        assert found["versions"] == ["1"]
        assert found["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
        assert found["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 10]}
        assert client.get_model_repository_index() == [{"name": MODEL, "version": "1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_tensors_in_json_and_binary(
    server: Server, prepared: Any, logits: Any, binary_in: bool, binary_out: bool, packing: str | None
) -> None:
    batch = np.repeat(prepared[None], 20, axis=0)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        result = client.infer(
            MODEL,
            [tensor(batch, "UINT8", binary_in)],
            outputs=[triton.InferRequestedOutput("logits", binary_data=binary_out)],
            request_id="an id",
            request_compression_algorithm=packing,
            response_compression_algorithm=packing,
        )
    assert result.get_response()["id"] == "an id"
    found = result.as_numpy("logits")
    assert found.shape == (20, 10)
    np.testing.assert_allclose(found, np.repeat(logits[None], 20, axis=0), atol=1e-4)


def test_picture_files_as_a_bytes_tensor(server: Server, jpeg: bytes, logits: Any) -> None:
    pictures = np.array([jpeg, jpeg], dtype=np.object_)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        found = client.infer(MODEL, [tensor(pictures, "BYTES")], model_version="1").as_numpy("logits")
        np.testing.assert_allclose(found, np.stack([logits, logits]), atol=1e-4)
        with pytest.raises(InferenceServerException, match="picture 1: got"):
            client.infer(MODEL, [tensor(np.array([jpeg, b"\xff\xd8\xff"], np.object_), "BYTES")])


@pytest.mark.parametrize("binary", [True, False])
def test_the_classification_extension(server: Server, prepared: Any, logits: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("logits", binary_data=binary, class_count=3)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        result = client.infer(MODEL, [tensor(prepared[None], "UINT8")], outputs=[wanted])
    texts = [item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("logits")[0]]
    found = [(int(text.split(":")[1]), text.split(":")[2]) for text in texts]
    assert [index for index, _ in found] == np.argsort(-logits)[:3].tolist()
    assert found[0][1] == "cat"
    np.testing.assert_allclose([float(text.split(":")[0]) for text in texts], np.sort(logits)[::-1][:3], atol=1e-4)


def test_the_async_client(server: Server, prepared: Any, logits: Any) -> None:
    async def scenario() -> list[Any]:
        async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            given = [tensor(prepared[None], "UINT8", module=triton_aio)]
            return await asyncio.gather(*(client.infer(MODEL, given) for _ in range(16)))

    for result in asyncio.run(scenario()):
        np.testing.assert_allclose(result.as_numpy("logits")[0], logits, atol=1e-4)
        assert abs(result.as_numpy("probabilities").sum() - 1) < 1e-5


def test_errors_reach_the_standard_client_as_text(server: Server, prepared: Any) -> None:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException, match=r"'yynet'.*yynet_small_16"):
            client.infer("yynet", [tensor(prepared[None], "UINT8")])
        with pytest.raises(InferenceServerException, match="got shape"):
            client.infer(MODEL, [tensor(prepared, "UINT8")])
        with pytest.raises(InferenceServerException, match="--reload-by-post"):
            client.load_model(MODEL)


def one_input(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": [0] * 3072} | changes]}


NESTED = "NESTED"  # replaced by lists in lists, as deep as the JSON parser takes them: too deep for repr and dumps


def nested(depth: int) -> bytes:
    return b'{"inputs":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "expected a JSON object"),
        (nested(120), 400, "inputs"),
        (nested(250_000), 400, "not JSON"),
        (b'{"inputs":[' + b"[]," * 2_000_000 + b"[]]}", 400, "2,000,003 lists and objects"),
        ({"inputs": []}, 400, "got 0 inputs"),
        ({"inputs": one_input()["inputs"] * 2}, 400, "got 2 inputs"),
        (one_input(name="x"), 400, "'x'"),
        (one_input(shape=[1, 32, 32]), 400, "got shape"),
        (one_input(shape=[-1, 32, 32, 3]), 400, "whole numbers from 1"),
        (one_input(shape=[2**31, 2**31, 2**31, 3]), 400, "whole numbers from 1"),
        (one_input(shape=[2**30, 32, 32, 3]), 413, "1024"),
        (one_input(shape=[1024, 32, 32, 3]), 400, "expected 3145728 numbers"),
        (one_input(shape=[True, 32, 32, 3]), 400, "whole numbers from 1"),
        (one_input(datatype="FP32"), 400, "got datatype 'FP32', expected UINT8"),
        (one_input(data=[0] * 3071), 400, "expected 3072 numbers"),
        (one_input(data=[0.5] * 3072), 400, "255"),
        (one_input(data=[256] * 3072), 400, "0 to 255"),
        (one_input(data=[-1] * 3072), 400, "0 to 255"),
        (one_input(data=[10**30] * 3072), 400, ""),
        (one_input(data=["0"] * 3072), 400, "expected 3072 numbers"),
        (one_input(data=[[0], [0, 0]]), 400, "expected 3072 numbers"),
        (one_input(data=[[[[0] * 3] * 32] * 31 + [[[0] * 3] * 31]]), 400, "expected 3072 numbers"),
        (one_input(data=[[[[[0]] * 3] * 32] * 32]), 400, "expected 3072 numbers"),
        (one_input(datatype="BYTES", shape=[2], data=["aaaa"]), 400, "got 1 elements, expected 2"),
        (one_input(parameters={"binary_data_size": 3072}), 400, "either data or"),
        (one_input(parameters={"shared_memory_region": "a"}), 400, "shared memory"),
        (one_input() | {"outputs": [{"name": "logits"}, {"name": "logits"}]}, 400, "twice"),
        (one_input() | {"outputs": [{"name": "x"}]}, 400, "'x'"),
        (one_input() | {"parameters": {"sequence_id": 3}}, 400, "a sequence"),
        (one_input() | {"parameters": {"timeout": "soon"}}, 400, "timeout"),
        (one_input() | {"parameters": {"timeout": 1}}, 504, "too long"),
        (one_input() | {"id": 7}, 400, "id"),
        *[(one_input(**{field: NESTED}), 400, field) for field in ("shape", "datatype")],
        *[(one_input() | {"parameters": {name: NESTED}}, 400, name) for name in ("threshold", "timeout")],
        (one_input(name=NESTED), 400, "an input named"),
        (one_input() | {"outputs": [{"name": NESTED}]}, 400, "an output named"),
    ],
)
def test_malformed_requests(client: httpx.Client, content: Any, status: int, text: str) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    reply = client.post(INFER, content=body.replace(b'"NESTED"', b"[" * 1000 + b"]" * 1000))
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert text in reply.json()["error"]
    assert client.post(INFER, json=one_input()).status_code == 200


@pytest.mark.parametrize("length", ["-1", "99999", "text", "0", "1" * 40, "+5"])
def test_wrong_header_lengths(client: httpx.Client, length: str) -> None:
    reply = client.post(INFER, json=one_input(), headers={"Inference-Header-Content-Length": length})
    assert reply.status_code == 400
    assert "Inference-Header-Content-Length" in reply.json()["error"]


@pytest.mark.parametrize(
    ("binary", "text"),
    [
        (b"", "got 0 elements, expected 1"),
        (b"\5\0\0\0", "5 bytes"),
        (b"\1\0", "length"),
        (b"\xff\xff\xff\xff", "4294967295"),
        (bytes(8), "more than 1"),
    ],
)
def test_wrong_binary_tensors(client: httpx.Client, binary: bytes, text: str) -> None:
    given = one_input(datatype="BYTES", shape=[1], parameters={"binary_data_size": len(binary)})
    del given["inputs"][0]["data"]
    head = json.dumps(given).encode()
    reply = client.post(INFER, content=head + binary, headers={"Inference-Header-Content-Length": str(len(head))})
    assert reply.status_code == 400
    assert text in reply.json()["error"]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("br;q=1, gzip;q=0.5", "gzip"), ("gzip; q=0, deflate", "deflate"), ("gzip;q=0.0", None)],
)
def test_a_large_response_is_compressed_as_the_client_accepts(
    client: httpx.Client, accepted: str, encoding: str | None
) -> None:
    given = one_input(shape=[20, 32, 32, 3], data=[0] * 20 * 3072)
    reply = client.post(INFER, json=given, headers={"Accept-Encoding": accepted})
    assert reply.headers.get("Content-Encoding") == encoding
    assert reply.json()["outputs"][0]["shape"][0] == 20


def test_compressed_bodies(client: httpx.Client) -> None:
    body = json.dumps(one_input()).encode()
    for encoding, packed, status in [
        ("gzip", gzip.compress(body), 200),
        ("gzip", gzip.compress(body)[:-20], 400),
        ("gzip", gzip.compress(body) + gzip.compress(body), 400),
        ("gzip", b"no gzip", 400),
        ("br", body, 415),
        ("gzip", gzip.compress(bytes(40_000_000)), 413),
    ]:
        reply = client.post(INFER, content=packed, headers={"Content-Encoding": encoding})
        assert reply.status_code == status, reply.text


@pytest.mark.parametrize(
    "data", [[7] * 2**20, [[7] * 2**20], [[[[7] * 2**20] * 32] * 32], [[7] * 2**10] * 3072], ids=range(4)
)
def test_numbers_that_do_not_fit_are_refused_before_they_are_converted(data: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(HttpError, match="expected 3072 numbers"):
            rows_from_numbers(data, (1, 32, 32, 3), np.dtype("uint8"))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_numbers_are_read_flat_and_nested(nested: bool, dtype: str) -> None:
    rows = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3).astype(dtype)
    if dtype == "float32":
        rows -= 0.5
    found = rows_from_numbers((rows if nested else rows.ravel()).tolist(), rows.shape, rows.dtype)
    assert found.dtype == rows.dtype
    np.testing.assert_array_equal(found, rows)
