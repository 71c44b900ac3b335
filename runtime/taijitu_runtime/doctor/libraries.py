"""Check the libraries that run models, each imported in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from taijitu_runtime import native
from taijitu_runtime.doctor.child import Imported, Reply
from taijitu_runtime.doctor.cures import cure
from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.doctor.system import Interpreter, dotted, system_venv
from taijitu_runtime.installed import pip_install


class Library(NamedTuple):
    """A library. `title`: its usual name; `brought_by`: a distribution or an extra; `purpose`: what it does."""

    title: str
    brought_by: str
    purpose: str
    needs_gpu: bool = False


CUDA = "cuda.bindings.driver"
LIBRARIES = {
    "onnxruntime": Library("ONNX Runtime", "taijitu[ort]", "answers with .onnx files"),
    "tensorrt": Library("TensorRT", "taijitu[gpu]", "answers with .engine files on NVIDIA GPUs", needs_gpu=True),
    "tensorrt_rtx": Library("TensorRT-RTX", "taijitu[rtx]", "answers with .engine files on RTX cards", needs_gpu=True),
    CUDA: Library("cuda-bindings", "taijitu[gpu]", "moves pictures to and from a GPU", needs_gpu=True),
    "PIL": Library("Pillow", "taijitu[ort]", "reads pictures"),
    "simplejpeg": Library("simplejpeg", "taijitu[ort]", "reads JPEGs"),
    "cv2": Library("OpenCV", "taijitu[camera]", "reads cameras and videos"),
}
BINARY = re.compile(r"\.cpython-(\d)(\d+)-([\w-]+)\.so$")


def check_library(
    imported: Imported, distribution: str, interpreter: Interpreter, folder: Path | None, has_gpu: bool
) -> Finding:
    """Check one library: it loads, is not installed, or fails. `folder`: that of its package, None if unknown."""
    title, brought_by, purpose, needs_gpu = LIBRARIES[imported.module]
    if imported.state == "absent":
        return ok(title, f"not installed; it {purpose} ({brought_by})")
    if imported.state == "loaded":
        return ok(f"{title} {imported.version}".rstrip(), str(Path(imported.file).parent))
    pythons = binary_pythons(folder) if folder else set()
    if pythons and interpreter.version not in pythons:
        made_for = " and ".join(f"Python {dotted(version)}" for version in sorted(pythons))
        text = f"{folder} has binaries for {made_for}, and this is {dotted(interpreter.version)} ({imported.error})"
        there = system_venv(dotted(max(pythons)))
        return problem(title, text, f"pip install --force-reinstall {distribution}; if the system brings it: {there}")
    if needs_gpu and not has_gpu and "libcuda.so" in imported.error:
        return ok(title, f"installed, but useless without NVIDIA's driver ({imported.error})")
    return problem(title, f"does not load: {imported.error}", cure(imported.error, distribution))


def check_any_answers(imported: Mapping[str, Imported]) -> list[Finding]:
    """Check that at least one library that runs models loads."""
    backends = ("onnxruntime", "tensorrt", "tensorrt_rtx")
    if any(imported[name].state == "loaded" for name in backends):
        return []
    return [problem("backends", "none loads, so nothing can be classified", pip_install("taijitu[ort]"))]


def check_engines_can_answer(imported: Mapping[str, Imported], has_gpu: bool) -> list[Finding]:
    """Check that TensorRT can use NVIDIA's cuda-bindings, which transfer the images."""
    engines = [name for name in ("tensorrt", "tensorrt_rtx") if imported[name].state == "loaded"]
    if not engines or not has_gpu or imported[CUDA].state != "absent":
        return []
    return [
        problem("engines", f"{' and '.join(engines)} cannot answer without cuda-bindings", "pip install cuda-bindings")
    ]


def check_provider(name: str, reply: Reply, has_gpu: bool) -> Finding:
    """Check one of ONNX Runtime's providers. `reply`: None if it works, otherwise the reason and the cure."""
    title = f"--provider {name}"
    if reply.value is None and not reply.error:
        return ok(title, "computes")
    reason, what_to_do = (reply.error, cure(reply.error, "onnxruntime-gpu")) if reply.error else reply.value
    if not has_gpu:
        return ok(title, f"cannot be used without a GPU ({reason})")
    # ONNX Runtime's GPU build needs CUDA; TensorRT is optional.
    return (problem if name == "cuda" else warning)(title, reason, what_to_do)


def check_native_nish(library: Path, reply: Reply, machine: str) -> Finding:
    """Check the native kernels of Nish. `reply`: whether ONNX Runtime loaded them, or an error."""
    title = "native Nish"
    if not library.is_file():
        return warning(title, f"not built: {native.LOST}", f"install a C++ compiler and do: {native.BUILD}")
    made_for = elf_machine(library)
    if made_for not in ("", machine):
        return warning(title, f"{library} is for {made_for}, and this is {machine}: {native.LOST}", native.BUILD)
    if reply.error:
        return warning(title, f"{library} cannot be loaded ({reply.error}): {native.LOST}", native.BUILD)
    return ok(title, str(library))


def binary_pythons(folder: Path) -> set[tuple[int, int]]:
    """Return the versions of CPython that the extension modules in a package's folder were built for."""
    found = (BINARY.search(path.name) for path in folder.rglob("*.so"))
    return {(int(match[1]), int(match[2])) for match in found if match}


def elf_machine(library: Path) -> str:
    """Return the processor that a library was built for, in terms of `uname -m`; "" if unknown."""
    with library.open("rb") as file:
        head = file.read(20)
    machines = {62: "x86_64", 183: "aarch64"}
    return machines.get(int.from_bytes(head[18:20], "little"), "") if head[:4] == b"\x7fELF" else ""


def providers_to_try(imported: Mapping[str, Imported], known: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the providers that the installed ONNX Runtime was built with, except the CPU's."""
    about = imported["onnxruntime"].about
    built_in = set(about["providers"]) if about else set()
    return [name for name, needed in known.items() if name != "cpu" and set(needed) <= built_in]
