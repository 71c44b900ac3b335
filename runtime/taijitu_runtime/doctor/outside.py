"""Check for modules of the system's Python that a virtual environment does not see, or shadows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.doctor.libraries import binary_pythons
from taijitu_runtime.doctor.system import Interpreter, dotted, system_venv


class SystemModule(NamedTuple):
    """A module among the system's packages; `pythons`: the versions that it was built for, empty if unknown."""

    path: Path
    pythons: set[tuple[int, int]]


def system_module(root: Path, name: str) -> SystemModule | None:
    """Return the module `name` that apt or `sudo pip` installed, None without one."""
    for folder in sorted(
        (*root.glob("usr/lib/python3*/dist-packages"), *root.glob("usr/local/lib/python3*/*-packages"))
    ):
        single = sorted(folder.glob(f"{name}.*.so"))
        path = single[0] if single else folder / name
        if not path.exists():
            continue
        of_folder = re.search(r"/python3\.(\d+)/", f"{folder}/")
        pythons = {(3, int(of_folder[1]))} if of_folder else binary_pythons(path.parent if single else path)
        return SystemModule(path, pythons)
    return None


def check_system_tensorrt(root: Path, interpreter: Interpreter, is_visible: bool, is_jetson: bool) -> list[Finding]:
    """Check that a TensorRT of apt is visible in this environment. `is_visible`: `import` finds one."""
    system = system_module(root, "tensorrt")
    if system is None or is_visible:
        return []
    where = f"{system.path} exists, and this environment does not see it"
    found = problem if is_jetson else warning
    if system.pythons and interpreter.version not in system.pythons:
        made_for = dotted(max(system.pythons))
        text = f"{where}: it is for Python {made_for}, and this is {dotted(interpreter.version)}"
        return [found("system's TensorRT", text, system_venv(made_for))]
    return [found("system's TensorRT", where, interpreter.command_to_see_it)]


def check_system_opencv(root: Path, loaded_from: str, has_gstreamer: bool, is_jetson: bool) -> list[Finding]:
    """Check that a Jetson's OpenCV, which has GStreamer, is not shadowed by another. `loaded_from`: cv2's file."""
    system = system_module(root, "cv2")
    if not is_jetson or not loaded_from or has_gstreamer:
        return []
    if system is None:
        return [warning("OpenCV", "no GStreamer: csi:// cameras cannot be read", "sudo apt-get install nvidia-opencv")]
    if Path(loaded_from).is_relative_to(system.path.parent):
        return [warning("OpenCV", f"{system.path} has no GStreamer", "sudo apt-get install --reinstall nvidia-opencv")]
    text = f"{Path(loaded_from).parent} has no GStreamer, and shadows {system.path}: csi:// cameras cannot be read"
    return [problem("OpenCV", text, "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python")]


def check_system_sight(interpreter: Interpreter) -> Finding:
    """Check that the system's packages are visible: on a Jetson, TensorRT and OpenCV are among them."""
    if interpreter.sees_the_system:
        return ok("system's packages", "visible from here")
    text = f"{interpreter.prefix} does not see them"
    return warning("system's packages", text, interpreter.command_to_see_it)
