"""Open sessions of ONNX Runtime, plain ones or with our kernels for Nish where the model has Nish, and run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from taijitu_runtime.backends.ort.nish_layout import relaid_session
from taijitu_runtime.backends.ort.options import compute_int8_in_float32, session_options
from taijitu_runtime.backends.ort.plugin import PluginProviders
from taijitu_runtime.errors import ArtefactError, describe, one_line
from taijitu_runtime.native import register_nish
from taijitu_runtime.onnx_graph.nish import count_nish
from taijitu_runtime.providers import CPU

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""The entry with the folder of weights in other files, for a model that is given by its bytes."""

Providers = Sequence[tuple[str, dict[str, str]]]
"""Execution providers by their ONNX Runtime names, the preferred one first, each with its options."""

CPU_ONLY: Providers = ((CPU, {}),)


@dataclasses.dataclass(frozen=True)
class SessionOpener:
    """A way to open sessions of one file by `ort`, onnxruntime, whose errors it raises.

    `threads`, `profile_prefix`: as for OrtBackend. `more`: a serialised ModelProto, merged into that of the file.
    """

    ort: Any
    path: Path
    threads: int
    profile_prefix: Path | None = None
    more: bytes = b""

    def open(self, providers: Providers) -> Any:
        """Open the model as it is; Nish runs by its definition in the file."""
        options = self._options()
        return self._session(self._content(options), options, providers)

    def open_with_nish(self, providers: Providers) -> Any:
        """Open a session that uses our kernels where the model has Nish and the library is built.

        Nish is then one pass over memory, and on the CPU it stays in the blocked layout where that is possible.
        """
        model = self.path.read_bytes() + self.more
        if not _has_nish(model):
            return self.open(providers)
        options = self._options()
        names = [name for name, _ in providers]
        library = register_nish(options, names[0])

        def new_session(content: bytes, level: Any) -> Any:
            options = self._options()
            options.graph_optimization_level = level
            options.register_custom_ops_library(str(library))
            return self._session(content, options, providers)

        if library is not None and names == [CPU]:
            session = relaid_session(self.ort, model, library, new_session)
            if session is not None:
                return session
        return self._session(self._content(options), options, providers)

    def _content(self, options: Any) -> str | bytes:
        """Return what a session is made of: the path, or bytes that protobuf reads as the file and `more` in one."""
        if not self.more:
            return str(self.path)
        options.add_session_config_entry(WEIGHTS_FOLDER, str(self.path.parent.resolve()))
        return self.path.read_bytes() + self.more

    def _session(self, model: str | bytes, options: Any, providers: Providers) -> Any:
        if isinstance(providers, PluginProviders):
            ((_, own),) = providers
            options.add_provider_for_devices(providers.devices, own)
            return self.ort.InferenceSession(model, options)
        return open_session(self.ort, model, options, providers)

    def _options(self) -> Any:
        options = session_options(self.ort, self.threads)
        if self.profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.profile_prefix)
        return options


def open_session(ort: Any, model: str | bytes, options: Any, providers: Providers = CPU_ONLY) -> Any:
    """Open a session of `model`, the path or the content of a file, by `ort`, onnxruntime, whose errors it raises."""
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except ort.capi.onnxruntime_pybind11_state.InvalidGraph:
        # ONNX Runtime 1.31 fuses int8 with float16 scales into operators that take float32 ones only: QLinearConv
        # on aarch64, and QLinearConcat of uint8 on x86-64 too.
        if not compute_int8_in_float32(options):
            raise
        return ort.InferenceSession(model, options, providers=providers)


def run_session(session: Any, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], name: object) -> list[Any]:
    """Return the values of `outputs` for `feeds`, arrays by the names of inputs.

    ArtefactError where ONNX Runtime fails; `name`: what it says of whose session this is, such as the file's path.
    """
    try:
        values: list[Any] = session.run(outputs, feeds)
    except Exception as error:  # of many classes, none of them public
        given = ", ".join(map(describe, feeds.values()))
        raise ArtefactError(f"{name}: ONNX Runtime failed on {given}: {one_line(error)}") from error
    return values


def _has_nish(model: bytes) -> bool:
    try:
        return count_nish(model) > 0
    except ValueError:  # not a model: ONNX Runtime reports it
        return False
