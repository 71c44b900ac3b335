"""Cures for the error messages with which libraries fail to load."""

from __future__ import annotations

import re

# The first match counts. Its groups go into the cure by number, the name of the distribution as {name}.
CURES = [
    (r"libcuda\.so", "install NVIDIA's driver; start a container with --gpus all (on a Jetson: --runtime nvidia)"),
    (
        r"libGL\.so|libgthread|libglib|libSM\.so|libXext",
        "apt-get install libgl1 libglib2.0-0, or pip install opencv-python-headless in place of opencv-python",
    ),
    (
        r"(libnvinfer|libnvonnxparser|libnvdla|libnvos|libnvrm)[\w.+-]*: cannot open",
        "install TensorRT's libraries (JetPack: apt-get install tensorrt; a container takes --runtime nvidia)",
    ),
    (r"(lib[\w.+-]+): cannot open shared object", "install what brings {1}, or name its folder in LD_LIBRARY_PATH"),
    (r"(\S+): cannot allocate memory in static TLS block", "export LD_PRELOAD={1}"),
    (
        r"multiarray failed to import|_ARRAY_API not found|compiled using NumPy 1|numpy\.dtype size changed",
        'it was built for NumPy 1: pip install "numpy<2", or a newer {name}',
    ),
    (r"GLIBC(XX)?_[\d.]+' not found|CXXABI_[\d.]+' not found", "it was built for a newer system: an older {name}"),
    (
        r"invalid ELF header|wrong ELF class|Exec format|incompatible architecture",
        "it was built for another processor: pip install --force-reinstall --no-cache-dir {name}",
    ),
    (r"undefined symbol", "its parts are of different versions: pip install --force-reinstall --no-cache-dir {name}"),
    (r"SIGILL", "it uses instructions that this processor lacks: another version of {name}"),
    (r"partially initialized module|circular import", "one of your files has the name of a library: rename it"),
]


def cure(error: str, name: str) -> str:
    """Return what to do about `error`, with which the distribution `name` failed to load."""
    for pattern, text in CURES:
        found = re.search(pattern, error)
        if found:
            return text.format(found[0], *found.groups(), name=name)
    return f"pip install --force-reinstall --no-cache-dir {name}"
