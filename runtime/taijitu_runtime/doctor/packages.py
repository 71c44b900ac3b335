"""Check for distributions that conflict, or were built for another Python or processor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution

from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.installed import name_of

# The distributions of each set install the same files: the last one wins, and removing one damages the other.
ONNX_RUNTIMES = {f"onnxruntime{end}" for end in ("", "-gpu", "-training", "-directml", "-openvino", "-qnn", "-rocm")}
OPENCVS = {f"opencv{middle}-python{end}" for middle in ("", "-contrib") for end in ("", "-headless")}


def check_onnx_runtimes(packages: Mapping[str, str]) -> list[Finding]:
    """Check that at most one ONNX Runtime is installed."""
    found = sorted(ONNX_RUNTIMES & set(packages))
    if len(found) < 2:
        return []
    keep = "onnxruntime-gpu" if "onnxruntime-gpu" in found else found[-1]
    text = f"{' and '.join(found)} are both installed and overwrite each other's files"
    return [problem("onnxruntime", text, f"pip uninstall -y {' '.join(found)} && pip install {keep}")]


def check_opencvs(packages: Mapping[str, str]) -> list[Finding]:
    """Check that at most one OpenCV of the package index is installed."""
    found = sorted(OPENCVS & set(packages))
    if len(found) < 2:
        return []
    text = f"{' and '.join(found)} overwrite each other's files"
    return [warning("OpenCV", text, f"pip uninstall -y {' '.join(found)} && pip install {found[0]}")]


def check_descriptions(distributions: Iterable[Distribution]) -> list[Finding]:
    """Check that every distribution has a name: a killed pip, or a damaged disk, leaves one without."""
    damaged = [str(getattr(one, "_path", one.locate_file(""))) for one in distributions if not name_of(one)]
    if not damaged:
        return []
    do = "remove that, and install the package again: pip install --force-reinstall"
    return [warning("packages", f"{', '.join(damaged)}: not the description of a package", do)]


def check_wheels(distributions: Iterable[Distribution], version: tuple[int, int], machine: str) -> Finding:
    """Check that every wheel was built for this Python and this processor."""
    wrong, count = [], 0
    for distribution in filter(name_of, distributions):
        tags = re.findall(r"^Tag:\s*(\S+)", distribution.read_text("WHEEL") or "", re.MULTILINE)
        count += bool(tags)
        if tags and not any(fits(tag, version, machine) for tag in tags):
            wrong.append((name_of(distribution), tags[0]))
    if not wrong:
        return ok("wheels", f"{count} installed, all for this Python and {machine}")
    text = f"not for Python {version[0]}.{version[1]} on {machine}: " + ", ".join(f"{n} ({tag})" for n, tag in wrong)
    names = " ".join(name for name, _ in wrong)
    return problem("wheels", text, f"pip install --force-reinstall --no-cache-dir {names}")


def fits(tag: str, version: tuple[int, int], machine: str) -> bool:
    """Return whether a wheel's tag, such as cp311-cp311-manylinux_2_17_x86_64, fits this CPython and processor."""
    parts = tag.split("-")
    if len(parts) != 3:
        return False
    pythons, abis, platforms = (part.split(".") for part in parts)
    exact = f"cp{version[0]}{version[1]}"
    older = {f"cp{version[0]}{minor}" for minor in range(2, version[1] + 1)}
    is_pure = any(python.startswith(f"py{version[0]}") for python in pythons)
    is_stable = "abi3" in abis and not older.isdisjoint(pythons)
    is_exact = exact in pythons and not {exact, f"{exact}t", "none"}.isdisjoint(abis)
    return (is_pure or is_stable or is_exact) and any(p == "any" or p.endswith(machine) for p in platforms)
