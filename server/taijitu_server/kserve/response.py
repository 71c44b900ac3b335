"""From scores to the bytes of a KServe v2 answer: JSON, or JSON and binary tensors, packed where the client likes."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any

import numpy as np
import orjson

from taijitu_runtime.answers import Scores
from taijitu_server.http.exchange import WholeReply
from taijitu_server.kserve.request import InferRequest, WantedOutput
from taijitu_server.models.served_model import ServedModel

SMALLEST_PACKED_BYTES = 1024
PACK_LEVEL = 1


def reply_from_scores(model: ServedModel, request: InferRequest, scores: Scores, accepted: str) -> WholeReply:
    """The answer to a request, its outputs in the order that the client asked for.

    In gzip or deflate, where `accepted` (Accept-Encoding) names one and it is worth it.
    """
    outputs, binary = [], []
    for wanted in request.outputs:
        output, data = _output(model, wanted, scores)
        outputs.append(output)
        if data is not None:
            binary.append(data)
    content: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        content["id"] = request.id
    head = orjson.dumps(content | {"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return _packed(WholeReply(head), accepted)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = WholeReply(b"".join([head, *binary]), content_type="application/octet-stream", headers=headers)
    return _packed(reply, accepted)


def _packed(reply: WholeReply, accepted: str) -> WholeReply:
    if len(reply.body) < SMALLEST_PACKED_BYTES:
        return reply
    offered = {part.partition(";")[0].strip() for part in accepted.lower().split(",") if "q=0" not in part.split(";")}
    if "gzip" in offered:
        reply.body, encoding = gzip.compress(reply.body, PACK_LEVEL), "gzip"
    elif "deflate" in offered:
        reply.body, encoding = zlib.compress(reply.body, PACK_LEVEL), "deflate"
    else:
        return reply
    reply.headers |= {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return reply


def _output(model: ServedModel, wanted: WantedOutput, scores: Scores) -> tuple[dict[str, Any], bytes | None]:
    values = scores.logits if wanted.name == "logits" else scores.probabilities
    if wanted.classes:
        order = scores.order[:, : wanted.classes]
        texts = [
            f"{values[row, index]:f}:{index}:{model.labels[index]}"
            for row, indices in enumerate(order.tolist())
            for index in indices
        ]
        output = {"name": wanted.name, "datatype": "BYTES", "shape": list(order.shape)}
        if not wanted.is_binary:
            return output | {"data": texts}, None
        data = b"".join(struct.pack("<I", len(text)) + text for text in (text.encode() for text in texts))
    else:
        output = {"name": wanted.name, "datatype": "FP32", "shape": list(values.shape)}
        if not wanted.is_binary:
            return output | {"data": np.ascontiguousarray(values).reshape(-1)}, None
        data = values.astype("<f4", copy=False).tobytes()
    return output | {"parameters": {"binary_data_size": len(data)}}, data
