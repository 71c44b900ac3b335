"""Nish in ONNX: one node `taijitu::Nish` with its definition as a function in the same file.

A runtime without taijitu's library inlines the function; one with such a library uses its kernel for the node.
"""

from __future__ import annotations

import copy

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from taijitu_runtime.onnx_graph.nish import NISH
from taijitu_training.models.activations import Nish
from taijitu_training.models.nish_activation import FLOAT32_FLOOR

DOMAIN, NAME = NISH
OPSET = 1


class _NishNode(nn.Module):
    """Leaves one node in the exported graph where Nish stood."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(f"{DOMAIN}::{NAME}", (x,), {}, dtype=x.dtype, shape=x.shape, version=OPSET)


class _NishOperators(nn.Module):
    """Nish written out without branches: max(x, 0) + sigmoid(n) (n + sin n) with n = min(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.clamp(FLOAT32_FLOOR, 0.0)
        return x.clamp_min(0.0) + torch.sigmoid(n) * (n + torch.sin(n))


def with_nish_as(model: nn.Module, form: str) -> nn.Module:
    """Copy `model` with Nish modules that export as `form`: "op", the one node, or "decomposed", its operators."""
    stand_in = {"op": _NishNode, "decomposed": _NishOperators}[form]
    model = copy.deepcopy(model)
    for module in model.modules():
        # Not named_children(), which names a module that appears twice under one parent only once.
        for name, child in module._modules.items():
            if isinstance(child, Nish):
                module._modules[name] = stand_in()
    return model


def nish_function() -> onnx.FunctionProto:
    """Return the body of `taijitu::Nish` in opset 17, float32.

    Its value names are unique: TensorRT 10.3 confuses a name that the graph around it also has. The floor
    changes nothing but -inf, of which sin would make NaN.
    """

    def constant(name: str, value: float) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value_float=value)

    nodes = [
        constant("taijitu_nish_floor", FLOAT32_FLOOR),
        constant("taijitu_nish_zero", 0.0),
        helper.make_node("Max", ["taijitu_nish_x", "taijitu_nish_zero"], ["taijitu_nish_positive"]),
        helper.make_node("Min", ["taijitu_nish_x", "taijitu_nish_zero"], ["taijitu_nish_below"]),
        helper.make_node("Max", ["taijitu_nish_below", "taijitu_nish_floor"], ["taijitu_nish_n"]),
        helper.make_node("Sin", ["taijitu_nish_n"], ["taijitu_nish_sin"]),
        helper.make_node("Add", ["taijitu_nish_n", "taijitu_nish_sin"], ["taijitu_nish_sum"]),
        helper.make_node("Sigmoid", ["taijitu_nish_n"], ["taijitu_nish_gate"]),
        helper.make_node("Mul", ["taijitu_nish_gate", "taijitu_nish_sum"], ["taijitu_nish_negative"]),
        helper.make_node("Add", ["taijitu_nish_positive", "taijitu_nish_negative"], ["taijitu_nish_y"]),
    ]
    opset = helper.make_opsetid("", 17)
    return helper.make_function(DOMAIN, NAME, ["taijitu_nish_x"], ["taijitu_nish_y"], nodes, [opset])
