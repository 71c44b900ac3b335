"""Parse and check a KServe v2 inference request: JSON, or JSON followed by binary tensors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

import orjson

from taijitu_runtime.backends import ModelInput
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_server.errors import bad_request
from taijitu_server.http.forms import too_many
from taijitu_server.http.json_body import content_from_json
from taijitu_server.http.request import check_names, probability_from_text
from taijitu_server.kserve.fields import checked_flag, checked_list, checked_object, value_text
from taijitu_server.kserve.tensors import (
    elements_from_binary,
    elements_from_texts,
    rows_from_binary,
    rows_from_numbers,
    shape_from_json,
)
from taijitu_server.models.batcher import Rows
from taijitu_server.settings import Settings

INPUT = "images"
OUTPUTS = ("logits", "probabilities")
DECIDED = ("known", "set")
DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
MAX_TEXT_LENGTH = 256
SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
# The supported fields; any other one is an error, as it would have no effect.
REQUEST_FIELDS = ("id", "model_name", "model_version", "parameters", "inputs", "outputs")
INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_FIELDS = ("name", "parameters")
REQUEST_PARAMETERS = ("binary_data_output", "threshold", "timeout", *SEQUENCE)
INPUT_PARAMETERS = ("binary_data_size",)
OUTPUT_PARAMETERS = ("binary_data", "classification")


@dataclass(frozen=True)
class RequestedOutput:
    """An output that the client requests: the tensor for `classes` 0, otherwise that many likeliest classes as text."""

    name: str
    is_binary: bool
    classes: int


@dataclass(frozen=True)
class InferRequest:
    """A checked request.

    Attributes:
        model_name: The model's name in the body, if any; so is `model_version`.
        rule: Decides which answers are known.
        timeout_s: The client's limit on the time in the queue.
        rows: The batch in the model's layout; None where the request has picture files.
        pictures: The bytes of the picture files.
    """

    id: str | None
    model_name: str | None
    model_version: str | None
    outputs: tuple[RequestedOutput, ...]
    rule: DecisionRule
    timeout_s: float | None
    rows: Rows | None
    pictures: tuple[bytes, ...]

    def check_model(self, name: str, version: str) -> None:
        """Raise HttpError 400 if the body names another model than the path."""
        for key, given, found in (("name", self.model_name, name), ("version", self.model_version, version)):
            if given is not None and given != found:
                raise bad_request(f"model_{key}: got {given[:40]!r}, expected {found!r} as in the path")


def infer_request_from_body(
    body: bytes, header_length: str, model_input: ModelInput, rule: DecisionRule, settings: Settings
) -> InferRequest:
    """Parse and check a request.

    Args:
        body: The decompressed body.
        header_length: The value of Inference-Header-Content-Length, or an empty string.
        model_input: The input that the model takes.
        rule: The model's own, which a parameter may change the threshold of.
        settings: The limits.

    Raises:
        HttpError: 400 for a malformed request, 413 for more pictures or rows than `settings` allow.
    """
    json_bytes, binary = _split(body, header_length)
    content = checked_object(content_from_json(json_bytes, _most_lists(model_input, settings)), "the request")
    check_names("the request", content, REQUEST_FIELDS)
    parameters = _parameters(content, "parameters", REQUEST_PARAMETERS)
    if any(parameters.get(name) for name in SEQUENCE):
        raise bad_request("got a sequence, expected none, as the models keep no state")
    inputs = checked_list(content.get("inputs"), "inputs")
    if len(inputs) != 1:
        raise bad_request(f"got {len(inputs)} inputs, expected one named {INPUT}")
    rows, pictures = _input(checked_object(inputs[0], "inputs[0]"), binary, model_input, settings)
    request_id, model_name, model_version = (_text(content, key) for key in ("id", "model_name", "model_version"))
    is_binary = checked_flag(parameters, "binary_data_output")
    rule = rule.with_threshold(_threshold(parameters))
    outputs = _outputs(content.get("outputs"), is_binary, outputs_of(rule))
    return InferRequest(request_id, model_name, model_version, outputs, rule, _timeout_s(parameters), rows, pictures)


def outputs_of(rule: DecisionRule) -> tuple[str, ...]:
    """Return the names of a model's outputs: `known` and `set` where its card or the request decides them."""
    return (*OUTPUTS, *(name for name, has in zip(DECIDED, (rule.decides, rule.has_sets)) if has))


def _most_lists(model_input: ModelInput, settings: Settings) -> int:
    """Return how many lists the largest tensor has if it is nested, or the largest request of picture files."""
    of_tensor = sum(accumulate(model_input.shape(settings.max_rows)[:-1], mul, initial=1))
    return max(of_tensor, settings.max_pictures)


def _split(body: bytes, header_length: str) -> tuple[bytes, memoryview]:
    if not header_length:
        return body, memoryview(b"")
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 19
    if not digits or not 0 < int(header_length) <= len(body):
        got = f"got Inference-Header-Content-Length {header_length[:40]!r}"
        raise bad_request(f"{got}, expected a whole number from 1 to the body's {len(body)} bytes")
    return body[: int(header_length)], memoryview(body)[int(header_length) :]


def _input(
    given: dict[str, Any], binary: memoryview, model_input: ModelInput, settings: Settings
) -> tuple[Rows | None, tuple[bytes, ...]]:
    check_names("inputs[0]", given, INPUT_FIELDS)
    if given.get("name") != INPUT:
        raise bad_request(f"got an input named {value_text(given.get('name'))}, expected {INPUT!r}")
    shape = shape_from_json(given.get("shape"))
    parameters = _parameters(given, "inputs[0].parameters", INPUT_PARAMETERS)
    size = parameters.get("binary_data_size")
    if (size is None) == (given.get("data") is None):
        raise bad_request("inputs[0]: expected either data or the parameter binary_data_size")
    if size is not None and (type(size) is not int or size != len(binary)):
        raise bad_request(f"binary_data_size: got {value_text(size)}, expected the {len(binary)} bytes after the JSON")
    if size is None and len(binary):
        raise bad_request(f"got {len(binary)} bytes after the JSON, expected none: the input has no binary_data_size")
    datatype, expected = given.get("datatype"), DATATYPES[model_input.dtype.name]
    if datatype == "BYTES":
        return None, _pictures(given, shape, binary if size is not None else None, settings.max_pictures)
    if datatype != expected:
        raise bad_request(f"got datatype {value_text(datatype)}, expected {expected}, or BYTES for picture files")
    if shape[1:] != model_input.shape(1)[1:]:
        wanted = ", ".join(map(str, model_input.shape(1)[1:]))
        raise bad_request(f"got shape {list(shape)[:8]}, expected [N, {wanted}]")
    if shape[0] > settings.max_rows:
        raise too_many(settings.max_rows)
    if size is not None:
        return rows_from_binary(binary, shape, model_input.dtype), ()
    return rows_from_numbers(given["data"], shape, model_input.dtype), ()


def _pictures(given: dict[str, Any], shape: tuple[int, ...], binary: memoryview | None, most: int) -> tuple[bytes, ...]:
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise bad_request(f"got shape {list(shape)[:8]} of BYTES, expected [N], one element per picture file")
    if shape[0] > most:
        raise too_many(most)
    count = shape[0]
    return tuple(elements_from_texts(given["data"], count) if binary is None else elements_from_binary(binary, count))


def _outputs(given: object, binary_by_default: bool, known: tuple[str, ...]) -> tuple[RequestedOutput, ...]:
    if given is None or given == []:
        return tuple(RequestedOutput(name, binary_by_default, 0) for name in known)
    wanted: dict[str, RequestedOutput] = {}
    for item in checked_list(given, "outputs"):
        output = checked_object(item, "outputs")
        check_names("outputs", output, OUTPUT_FIELDS)
        name = output.get("name")
        if name not in known:
            raise bad_request(f"got an output named {value_text(name)}, expected {' or '.join(known)}")
        if name in wanted:
            raise bad_request(f"got the output {name} twice")
        parameters = _parameters(output, "outputs.parameters", OUTPUT_PARAMETERS)
        classes = parameters.get("classification")
        classes = 0 if classes is None else classes
        if type(classes) is not int or classes < 0:
            raise bad_request(f"classification: got {value_text(classes)}, expected a whole number from 1")
        if classes and name in DECIDED:
            raise bad_request(f"classification: got it for {name}, expected it for {' or '.join(OUTPUTS)}")
        is_binary = checked_flag(parameters, "binary_data", binary_by_default)
        wanted[name] = RequestedOutput(name, is_binary, classes)
    return tuple(wanted.values())


def _threshold(parameters: dict[str, Any]) -> float | None:
    given = parameters.get("threshold")
    if given is None:
        return None
    if type(given) not in (int, float):
        raise bad_request(f"threshold: got {value_text(given)}, expected a probability from 0 to 1")
    return probability_from_text("threshold", orjson.dumps(given).decode())


def _timeout_s(parameters: dict[str, Any]) -> float | None:
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return None
    if type(timeout_us) is not int or not 0 <= timeout_us < 2**63:
        raise bad_request(f"timeout: got {value_text(timeout_us)}, expected microseconds as a whole number")
    return timeout_us / 1e6 if timeout_us else None


def _parameters(holder: dict[str, Any], where: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Return the checked parameters of a request, an input or an output; null means none."""
    given = holder.get("parameters")
    parameters = {} if given is None else checked_object(given, where)
    if "shared_memory_region" in parameters:
        raise bad_request(f"{where}: got a shared memory region, expected the data itself")
    check_names(where, parameters, known)
    return parameters


def _text(content: dict[str, Any], name: str) -> str | None:
    given = content.get(name)
    if given is not None and (not isinstance(given, str) or len(given) > MAX_TEXT_LENGTH):
        raise bad_request(f"{name}: got {value_text(given)}, expected text of at most {MAX_TEXT_LENGTH} characters")
    return given
