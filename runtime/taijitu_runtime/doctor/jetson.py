"""Check an NVIDIA Jetson: L4T, JetPack and the packages that belong to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.doctor.system import Interpreter, dotted, system_venv
from taijitu_runtime.machine import board_model, read_text

# L4T: its JetPack, TensorRT, and the Python of TensorRT's module. The longest match counts.
JETPACKS = {
    "35": ("5", "8.5", (3, 8)),
    "36.3": ("6.0", "8.6", (3, 10)),
    "36.4": ("6.1", "10.3", (3, 10)),
    "36.4.3": ("6.2", "10.3", (3, 10)),
    "36.4.4": ("6.2.1", "10.3", (3, 10)),
    "36.4.7": ("6.2.1", "10.3", (3, 10)),
    "38.2": ("7.0", "10.13", (3, 12)),
    "38.4": ("7.1", "10.13", (3, 12)),
    "39.2": ("7.2", "10.16", (3, 12)),
}


def check_l4t(root: Path, interpreter: Interpreter) -> Finding:
    """Check the release of L4T and the JetPack that it belongs to."""
    board = board_model(root) or "Jetson"
    release = l4t_release(root)
    if release is None:
        return warning(
            "L4T",
            f"{board}: /etc/nv_tegra_release is missing",
            "in a container: mount it, or use an image made for this JetPack",
        )
    parts = release.split(".")
    known = [JETPACKS[key] for n in (3, 2, 1) if (key := ".".join(parts[:n])) in JETPACKS]
    if not known:
        return warning(f"L4T {release}", f"{board}: taijitu does not know this release", "update taijitu")
    jetpack, tensorrt, python = known[0]
    text = f"{board}, JetPack {jetpack}: TensorRT {tensorrt} for Python {dotted(python)}"
    if python < (3, 10):
        return problem(f"L4T {release}", f"{text}, which is too old", "use a container with Python 3.10, or JetPack 6")
    if python != interpreter.version:
        text = f"{text}, and this is {dotted(interpreter.version)}"
        return warning(f"L4T {release}", text, system_venv(dotted(python)))
    return ok(f"L4T {release}", text)


def check_apt(packages: Mapping[str, str]) -> list[Finding]:
    """Check which parts of JetPack are installed, given Debian's `packages` with versions."""
    findings = []
    jetpack = packages.get("nvidia-jetpack")
    if jetpack is not None:
        findings.append(ok("JetPack", jetpack))
    library = next((packages[name] for name in ("libnvinfer10", "libnvinfer8") if name in packages), None)
    if library is None:
        text = "not installed: only the CPU answers"
        findings.append(warning("TensorRT", text, "sudo apt-get install nvidia-jetpack"))
    elif "python3-libnvinfer" not in packages:
        text = f"{library} is installed without its Python module"
        findings.append(problem("TensorRT", text, "sudo apt-get install python3-libnvinfer"))
    else:
        findings.append(ok("TensorRT", f"{library} by apt"))
    return findings


def l4t_release(root: Path) -> str | None:
    """Return the release of L4T, such as "36.4.3"; None if its file is missing or has another form."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def debian_packages(root: Path) -> dict[str, str]:
    """Return the installed packages of Debian or Ubuntu, with versions."""
    packages = {}
    for block in read_text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            packages[fields["Package"]] = fields.get("Version", "")
    return packages
