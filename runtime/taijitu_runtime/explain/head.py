"""Find the head of a classifier in an ONNX file: what averages its last features, and the linear layers after that."""

from __future__ import annotations

import dataclasses
import struct
from typing import Literal

from taijitu_runtime.errors import ExplanationError
from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.onnx_fields import (
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_INT,
    ATTRIBUTE_INTS,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TENSOR,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_OP_TYPE,
    NODE_OUTPUT,
    TENSOR_INT64_DATA,
    TENSOR_NAME,
    TENSOR_RAW_DATA,
)
from taijitu_runtime.onnx_graph.protobuf import Field

EXPECTED = "a global average of feature maps and linear layers after it"
DO = "look at another network, or at this one before it was converted"
CARRIERS = {"Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "QuantizeLinear", "DequantizeLinear"}
"""Operators that carry the numbers of a head from layer to layer, except for the rounding of a smaller precision."""

PROBABILITIES = {"Softmax", "LogSoftmax", "Sigmoid"}
"""What makes probabilities of logits at the end of a graph; the maps are those of the logits."""

ELEMENTWISE = {
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Mish", "Swish"),
    *("Nish", "Tanh", "Sigmoid", "HardSigmoid", "Softplus", "Softsign", "Erf", "Exp", "Log", "Sin", "Sqrt", "Pow"),
    *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Clip"),
}
"""Operators of which activations are made."""

NOT_ZERO_AT_ZERO = {"Sigmoid", "HardSigmoid", "Softplus", "Exp"}

Form = Literal["columns", "rows", "planes"]
Layout = Literal["NCHW", "NHWC"]
AVERAGED: dict[tuple[int, ...], Layout] = {(2, 3): "NCHW", (-2, -1): "NCHW", (1, 2): "NHWC"}
"""The layout of feature maps by the axes that are averaged."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A linear layer by the names of its tensors.

    `weight`: in the `form` "columns", (inputs, outputs), "rows", (outputs, inputs), or "planes", (outputs, inputs, 1,
    1). `bias`: (outputs,), or None. `result`: what it computes. `activated`: that behind its activation; the same name
    where there is none.
    """

    weight: str
    bias: str | None
    form: Form
    result: str
    activated: str


@dataclasses.dataclass(frozen=True)
class Head:
    """The end of a classifier by the names of its tensors.

    `features`: what is averaged, in `layout`. `layers`: what comes after, in order. `logits`: what they give, which is
    the output `logits`, or becomes the probabilities in it.
    """

    features: str
    layout: Layout
    layers: tuple[Layer, ...]
    logits: str


def head_of(model: bytes) -> Head:
    """Return the head of a serialised ModelProto whose output is `logits`.

    Raises:
        ExplanationError: It does not end in a global average and linear layers; the text has what it ends in.
    """
    return _Reader(model).head()


@dataclasses.dataclass(frozen=True)
class _Node:
    op_type: str
    inputs: tuple[str, ...]
    attributes: dict[str, list[Field]]

    def number(self, name: str, default: float) -> float:
        for field in self.attributes.get(name, []):
            if field.number == ATTRIBUTE_INT and isinstance(field.value, int):
                return field.value
            if field.number == ATTRIBUTE_FLOAT and not isinstance(field.value, int):
                return float(struct.unpack("<f", field.value)[0])
        return default

    def integers(self, name: str) -> list[int] | None:
        return protobuf.integers(self.attributes[name], ATTRIBUTE_INTS) if name in self.attributes else None


class _Reader:
    """Reads the nodes of the main graph, and follows them backwards from the logits."""

    def __init__(self, model: bytes) -> None:
        self._constants: dict[str, list[Field]] = {}
        self._nodes: dict[str, _Node] = {}
        for graph in protobuf.messages(protobuf.read(model), MODEL_GRAPH):
            for tensor in protobuf.messages(graph, GRAPH_INITIALIZER):
                self._constants["".join(protobuf.strings(tensor, TENSOR_NAME))] = tensor
            for fields in protobuf.messages(graph, GRAPH_NODE):
                self._add(fields)

    def head(self) -> Head:
        layers: list[Layer] = []
        logits = "logits"
        value = self._carried(logits)
        if self._operator(value) in PROBABILITIES:
            logits = self._nodes[value].inputs[0]
            value = self._carried(logits)
        while (pool := self._pool(value)) is None:
            layer, value = self._layer(value)
            layers.insert(0, layer)
        return Head(*pool, tuple(layers), logits)

    def _add(self, fields: list[Field]) -> None:
        attributes = {
            "".join(protobuf.strings(attribute, ATTRIBUTE_NAME)): attribute
            for attribute in protobuf.messages(fields, NODE_ATTRIBUTE)
        }
        op_type = "".join(protobuf.strings(fields, NODE_OP_TYPE))
        node = _Node(op_type, tuple(protobuf.strings(fields, NODE_INPUT)), attributes)
        for name in protobuf.strings(fields, NODE_OUTPUT):
            if op_type == "Constant":
                tensors = protobuf.messages(attributes.get("value", []), ATTRIBUTE_TENSOR)
                self._constants[name] = tensors[0] if tensors else []
            else:
                self._nodes[name] = node

    def _operator(self, value: str) -> str:
        return self._nodes[value].op_type if value in self._nodes else ""

    def _carried(self, value: str) -> str:
        while self._operator(value) in CARRIERS and not self._is_constant(value):
            value = self._nodes[value].inputs[0]
        return value

    def _is_constant(self, value: str) -> bool:
        if value in self._constants or not value:
            return True
        node = self._nodes.get(value)
        return node is not None and bool(node.inputs) and all(map(self._is_constant, node.inputs))

    def _pool(self, value: str) -> tuple[str, Layout] | None:
        node = self._nodes.get(value)
        if node is None:
            return None
        if node.op_type == "GlobalAveragePool":
            return node.inputs[0], "NCHW"
        if node.op_type != "ReduceMean":
            return None
        axes = node.integers("axes")
        if axes is None and len(node.inputs) > 1:
            axes = _int64_values(self._constants.get(node.inputs[1], []))
        layout = AVERAGED.get(tuple(sorted(axes or [])))
        return None if layout is None else (node.inputs[0], layout)

    def _layer(self, value: str) -> tuple[Layer, str]:
        """Return the layer whose activation is `value`, and the value that flows into it."""
        result = self._before_activation(value)
        found = self._linear(result)
        if found is None:
            raise self._other_end(result)
        weight, bias, form, source = found
        return Layer(weight, bias, form, result, value), self._carried(source)

    def _linear(self, value: str) -> tuple[str, str | None, Form, str] | None:
        """Return weight, bias, the weight's form and the input of the linear layer that makes `value`, if one does."""
        node = self._nodes.get(value)
        if node is None:
            return None
        inputs = node.inputs
        if node.op_type == "Add":
            for product, bias in (inputs, inputs[::-1]):
                if self._operator(product) == "MatMul" and self._is_constant(bias):
                    found = self._linear(product)
                    return None if found is None else (found[0], bias, *found[2:])
            return None
        if len(inputs) < 2 or not self._is_constant(inputs[1]) or self._is_constant(inputs[0]):
            return None
        bias_or_none = inputs[2] if len(inputs) > 2 and inputs[2] else None
        if node.op_type == "MatMul":
            return inputs[1], None, "columns", inputs[0]
        if node.op_type == "Gemm":
            is_plain = node.number("alpha", 1) == 1 == node.number("beta", 1) and not node.number("transA", 0)
            form: Form = "rows" if node.number("transB", 0) else "columns"
            return (inputs[1], bias_or_none, form, inputs[0]) if is_plain else None
        if node.op_type == "Conv" and node.integers("kernel_shape") == [1, 1] and node.number("group", 1) == 1:
            return inputs[1], bias_or_none, "planes", inputs[0]
        return None

    def _before_activation(self, value: str) -> str:
        """Return the value that an activation, of any number of elementwise operators, is computed of."""
        sources: set[str] = set()
        seen: set[str] = set()
        waiting = [value]
        while waiting:
            each = self._carried(waiting.pop())
            if each in seen or self._is_constant(each):
                continue
            seen.add(each)
            if self._operator(each) in ELEMENTWISE and self._linear(each) is None:
                waiting += self._nodes[each].inputs
            else:
                sources.add(each)
        is_sound = len(sources) == 1 and self._operator(value) not in NOT_ZERO_AT_ZERO
        return sources.pop() if is_sound else value

    def _other_end(self, value: str) -> ExplanationError:
        got = self._operator(value) or "nothing that computes them"
        return ExplanationError(f"got a network that ends in {got} before its logits, expected {EXPECTED}; {DO}")


def _int64_values(tensor: list[Field]) -> list[int]:
    """Return the values of a TensorProto of int64."""
    raw = b"".join(
        field.value for field in tensor if field.number == TENSOR_RAW_DATA and not isinstance(field.value, int)
    )
    return (
        [value for (value,) in struct.iter_unpack("<q", raw)] if raw else protobuf.integers(tensor, TENSOR_INT64_DATA)
    )
