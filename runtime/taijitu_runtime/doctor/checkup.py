"""Run all checks on this machine, section by section."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from taijitu_runtime import native
from taijitu_runtime.doctor import camera, folders, gpu, jetson, libraries, models, outside, packages, system
from taijitu_runtime.doctor.child import Imported, Reply, ask, can_find, try_import
from taijitu_runtime.doctor.finding import Finding, warning
from taijitu_runtime.errors import one_line
from taijitu_runtime.installed import installed_versions
from taijitu_runtime.machine import is_jetson
from taijitu_runtime.providers import PROVIDERS

# Distributions whose name differs from that of the module.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    libraries.CUDA: "cuda-bindings",
    "tensorrt_rtx": "tensorrt-rtx",
}

# Modules that several distributions provide; the cure names the installed one.
VARIANTS = {"onnxruntime": packages.ONNX_RUNTIMES, "cv2": packages.OPENCVS}

Section = tuple[str, list[Finding]]


class Checkup:
    """The checks, and facts that several sections need, determined once."""

    def __init__(self, models: Sequence[Path]) -> None:
        self.root = Path("/")
        self.models = models
        self.machine = platform.machine()
        self.interpreter = system.Interpreter(sys.version_info[:2], Path(sys.prefix), Path(sys.base_prefix))
        self.is_jetson = is_jetson(self.root)
        self.installed = list(distributions())
        self.cuda: Reply = ask("cuda")
        self.has_gpu = self.is_jetson or not self.cuda.error or gpu.pci_cards(self.root) > 0
        self.imported: dict[str, Imported] = {}

    def sections(self) -> Iterator[Section]:
        """Yield the title and the findings of each section that has any."""
        sections: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("Python and packages", self._python),
            ("Jetson", self._jetson),
            ("GPU", self._gpu),
            ("Libraries", self._libraries),
            ("Camera", self._camera),
            ("taijitu", self._own),
            ("Models", self._models),
        ]
        for title, check in sections:
            findings = list(_guarded(title, check))
            if findings:
                yield title, findings

    def _python(self) -> Iterator[Finding]:
        yield system.check_python(self.interpreter, 8 * struct.calcsize("P"), self.machine)
        yield from system.check_python_path(self.interpreter, os.environ)
        names = installed_versions(self.installed)
        yield from packages.check_onnx_runtimes(names)
        yield from packages.check_opencvs(names)
        yield from packages.check_descriptions(self.installed)
        yield packages.check_wheels(self.installed, self.interpreter.version, self.machine)

    def _jetson(self) -> Iterator[Finding]:
        if self.is_jetson:
            yield jetson.check_l4t(self.root, self.interpreter)
            yield from jetson.check_apt(jetson.debian_packages(self.root))
            yield outside.check_system_sight(self.interpreter)
        is_visible = can_find("tensorrt")
        yield from outside.check_system_tensorrt(self.root, self.interpreter, is_visible, self.is_jetson)

    def _gpu(self) -> Iterator[Finding]:
        yield from gpu.check_gpus(self.root, self.cuda, self.is_jetson)
        yield from gpu.check_device_files(self.root)
        yield from gpu.check_rtx(gpu.capabilities(self.cuda), can_find("tensorrt_rtx"))

    def _libraries(self) -> Iterator[Finding]:
        names = set(installed_versions(self.installed))
        for module in libraries.LIBRARIES:
            self.imported[module] = found = try_import(module)
            distribution = min(VARIANTS.get(module, set()) & names, default=DISTRIBUTIONS.get(module, module))
            yield libraries.check_library(found, distribution, self.interpreter, _folder(module), self.has_gpu)
        yield from libraries.check_any_answers(self.imported)
        yield from libraries.check_engines_can_answer(self.imported, self.has_gpu)
        about = self.imported["onnxruntime"].about
        if about and not self.cuda.error:
            yield from gpu.check_cuda_release(about["cuda"], self.cuda.value["cuda"])
        for name in libraries.providers_to_try(self.imported, PROVIDERS):
            yield libraries.check_provider(name, ask("provider", name), self.has_gpu)

    def _camera(self) -> Iterator[Finding]:
        yield from camera.check_video_devices(self.root)
        yield from camera.check_argus(self.root, self.is_jetson)
        cv2 = self.imported["cv2"]
        if cv2.state == "loaded":
            has_gstreamer = camera.built_with(cv2.about, "GStreamer")
            yield from camera.check_opencv_build(cv2.about)
            yield from outside.check_system_opencv(self.root, cv2.file, has_gstreamer, self.is_jetson)

    def _own(self) -> Iterator[Finding]:
        if self.imported["onnxruntime"].state == "loaded":
            there = native.LIBRARY.is_file()
            reply = ask("nish", str(native.LIBRARY)) if there else Reply()
            yield libraries.check_native_nish(native.LIBRARY, reply, self.machine)
        yield folders.check_cache(os.environ)

    def _models(self) -> Iterator[Finding]:
        for path in self.models:
            yield models.check_model(path, ask("prove", os.path.realpath(path)))


def _guarded(title: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    # Something is broken where doctor is used; a section that fails must not hide the others.
    try:
        yield from check()
    except Exception as error:
        text = f"these checks failed: {type(error).__name__}: {one_line(error)}"
        yield warning(title, text, "report it as a bug of taijitu")


def _folder(module: str) -> Path | None:
    """Return the folder of a module's package, found without importing it."""
    spec = find_spec(module) if "." not in module and can_find(module) else None
    return Path(spec.origin).parent if spec is not None and spec.origin and spec.submodule_search_locations else None
