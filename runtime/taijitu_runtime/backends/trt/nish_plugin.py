"""Nish as a plugin of TensorRT: one pass of our CUDA kernel for each Nish node of the graph.

It is used by engines that were built with --nishPlugin only. TensorRT needs its registered creator both to parse the
graph and to deserialise the plan.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

from taijitu_runtime import native
from taijitu_runtime.errors import DeviceError
from taijitu_runtime.onnx_graph.nish import NISH

NAMESPACE, NAME = NISH
VERSION = "1"
"""The keys of the plugin; its namespace and name are the node's domain and operator."""

FLAG = "NISH_PLUGIN"
"""The flag in an engine card whose plan uses the plugin."""


@functools.cache
def register_nish_plugin(trt: Any) -> Any:
    """Register the plugin with a TensorRT of 10.7 or later, once per process.

    Returns:
        Its creator, which lives as long as the process: TensorRT calls it and does not own it.

    Raises:
        DeviceError: Our CUDA library is not built or cannot be loaded, or TensorRT does not accept the plugin.
    """
    creator = nish_creator(trt, cuda_launcher())
    if not trt.get_plugin_registry().register_creator(creator, NAMESPACE):
        raise DeviceError(f"got no room for the plugin {NAMESPACE}::{NAME} in TensorRT's registry, expected no other "
                          "of that name; load no other library that has it")  # fmt: skip
    return creator


def cuda_launcher() -> Any:
    """Return `taijitu_queue_nish` of the CUDA library.

    It takes (x, y, count, is_float16, stream) and returns None, or an error of CUDA as bytes. x and y are addresses in
    the GPU's memory and may be equal. Raises DeviceError where the library cannot be used.
    """
    library, build = native.CUDA_LIBRARY, f"{native.BUILD} --cuda"
    if not library.is_file():
        raise DeviceError(
            f"got no {library}, expected it for Nish as a plugin; install a C++ compiler and nvcc and do: {build}"
        )
    try:
        launch = ctypes.CDLL(str(library)).taijitu_queue_nish
    except (OSError, AttributeError) as error:  # for another processor or system, or built before there was a plugin
        raise DeviceError(
            f"got {library} that cannot be used ({error}), expected one built here; do: {build}"
        ) from None
    launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    launch.restype = ctypes.c_char_p
    return launch


def nish_creator(trt: Any, launch: Any) -> Any:
    """Return the creator of plugins for TensorRT, for parsing and for opening a plan. `launch`: of cuda_launcher."""
    plugin = _plugin_class(trt, launch)

    class NishCreator(trt.IPluginCreatorV3One):  # type: ignore[misc]  # the class is known only here
        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
            self.field_names = no_fields(trt)

        def create_plugin(self, name: str, field_collection: Any, phase: Any) -> Any:
            return plugin()

    return NishCreator()


def no_fields(trt: Any) -> Any:
    """Return the empty fields that a plugin without state stores in a plan.

    They have the type that TensorRT requires: the bindings convert a list to it only where Python called TensorRT on
    the same thread, and fail otherwise.
    """
    return trt.PluginFieldCollection_(trt.PluginFieldCollection([]))


def _plugin_class(trt: Any, launch: Any) -> type:
    """Return IPluginV3 with its three capabilities in one class. It has no state, so all copies are equal."""

    class NishPlugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        def __init__(self) -> None:
            for base in NishPlugin.__bases__:
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
            self.num_outputs = 1

        def get_capability_interface(self, type: Any) -> Any:
            return self

        def clone(self) -> Any:
            return NishPlugin()

        # Building

        def get_output_data_types(self, input_types: list[Any]) -> list[Any]:
            return input_types

        def get_output_shapes(self, inputs: list[Any], shape_inputs: list[Any], expr_builder: Any) -> list[Any]:
            return inputs

        def supports_format_combination(self, pos: int, in_out: list[Any], num_inputs: int) -> bool:
            tensor = in_out[pos].desc
            linear = tensor.format == trt.TensorFormat.LINEAR
            return linear and tensor.type in (trt.float32, trt.float16) and tensor.type == in_out[0].desc.type

        def configure_plugin(self, inputs: list[Any], outputs: list[Any]) -> None:
            pass

        # Running

        def set_tactic(self, tactic: int) -> None:
            pass

        def on_shape_change(self, inputs: list[Any], outputs: list[Any]) -> None:
            pass

        def attach_to_context(self, resource_context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            return no_fields(trt)

        def enqueue(
            self,
            input_desc: list[Any],
            output_desc: list[Any],
            inputs: list[int],
            outputs: list[int],
            workspace: int,
            stream: int,
        ) -> None:
            is_float16 = input_desc[0].type == trt.float16
            wrong = launch(inputs[0], outputs[0], math.prod(input_desc[0].dims), is_float16, stream)
            if wrong is not None:  # TensorRT prints it, and its own call fails
                raise DeviceError(f"Nish: {wrong.decode()}")

    return NishPlugin
