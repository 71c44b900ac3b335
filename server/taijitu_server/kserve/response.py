"""Write a KServe v2 inference response: JSON, or JSON followed by binary tensors; compressed on request."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from taijitu_runtime.answers import Scores
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_server.http.response import WholeResponse
from taijitu_server.kserve.request import InferRequest, RequestedOutput
from taijitu_server.models.served_model import ServedModel

MIN_COMPRESSED_BYTES = 1024
COMPRESSION_LEVEL = 1


def response_from_scores(model: ServedModel, request: InferRequest, scores: Scores, accepted: str) -> WholeResponse:
    """Return the response with the requested outputs in their order.

    It is compressed by gzip or deflate if `accepted`, the value of Accept-Encoding, names one and the body is large.
    """
    outputs, binary = [], []
    labels, order = model.labels, scores.order
    for wanted in request.outputs:
        output, data = _output(labels, order, wanted, _values(wanted.name, scores, request.rule))
        outputs.append(output)
        if data is not None:
            binary.append(data)
    content: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        content["id"] = request.id
    head = orjson.dumps(content | {"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return _compressed(WholeResponse(head), accepted)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = WholeResponse(b"".join([head, *binary]), content_type="application/octet-stream", headers=headers)
    return _compressed(response, accepted)


def _compressed(response: WholeResponse, accepted: str) -> WholeResponse:
    if len(response.body) < MIN_COMPRESSED_BYTES:
        return response
    parts = (part.partition(";") for part in accepted.lower().replace(" ", "").split(","))
    offered = {name for name, _, weight in parts if weight.rstrip("0.") != "q="}  # q=0, q=0.0: refused
    if "gzip" in offered:
        response.body, encoding = gzip.compress(response.body, COMPRESSION_LEVEL), "gzip"
    elif "deflate" in offered:
        response.body, encoding = zlib.compress(response.body, COMPRESSION_LEVEL), "deflate"
    else:
        return response
    response.headers |= {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return response


def _values(name: str, scores: Scores, rule: DecisionRule) -> NDArray[Any]:
    """Return an output of the model: float32 (N, K), or bool, `known` (N,) and `set` (N, K)."""
    if name == "logits":
        return scores.logits
    if name == "probabilities":
        return scores.probabilities
    if name == "known":
        return scores.known(rule)
    return scores.members(rule)


def _output(
    labels: Sequence[str], order: NDArray[np.intp], wanted: RequestedOutput, values: NDArray[Any]
) -> tuple[dict[str, Any], bytes | None]:
    if wanted.classes:
        order = order[:, : wanted.classes]
        texts = [
            f"{values[row, index]:f}:{index}:{labels[index]}"
            for row, indices in enumerate(order.tolist())
            for index in indices
        ]
        output = {"name": wanted.name, "datatype": "BYTES", "shape": list(order.shape)}
        if not wanted.is_binary:
            return output | {"data": texts}, None
        data = b"".join(struct.pack("<I", len(text)) + text for text in (text.encode() for text in texts))
    else:
        is_bool = values.dtype == np.bool_
        output = {"name": wanted.name, "datatype": "BOOL" if is_bool else "FP32", "shape": list(values.shape)}
        if not wanted.is_binary:
            return output | {"data": np.ascontiguousarray(values).reshape(-1)}, None
        data = values.astype(np.bool_ if is_bool else "<f4", copy=False).tobytes()
    return output | {"parameters": {"binary_data_size": len(data)}}, data
