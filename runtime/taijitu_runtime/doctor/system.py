"""Check the Python that runs this, and its search path."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from taijitu_runtime.doctor.finding import Finding, ok, problem, warning

TESTED = ((3, 10), (3, 14))


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python: `version` such as (3, 11); `prefix`, `base_prefix` as in sys, equal outside a virtual environment."""

    version: tuple[int, int]
    prefix: Path
    base_prefix: Path

    @property
    def is_virtual(self) -> bool:
        """Whether this is a virtual environment."""
        return self.prefix != self.base_prefix

    @property
    def is_the_systems(self) -> bool:
        """Whether this is the Python that apt installs modules for, or a virtual environment of it."""
        return self.base_prefix == Path("/usr")

    @property
    def sees_the_system(self) -> bool:
        """Whether the packages of apt are on the search path."""
        config = self.prefix / "pyvenv.cfg"
        if not self.is_virtual or not config.is_file():
            return self.is_the_systems
        seen = re.search(r"^include-system-site-packages\s*=\s*true", config.read_text(), re.M | re.I)
        return self.is_the_systems and seen is not None

    @property
    def command_to_see_it(self) -> str:
        """The command that makes an environment which sees them."""
        if self.is_virtual and self.is_the_systems:
            return f"{system_venv(folder=shlex.quote(str(self.prefix)))} (installed packages stay)"
        return system_venv()


def check_python(interpreter: Interpreter, pointer_bits: int, machine: str) -> Finding:
    """Check for a Python that wheels exist for, of 64 bits on a 64-bit processor."""
    name = f"Python {dotted(interpreter.version)}"
    if pointer_bits == 32:
        return problem(
            name, f"32 bits wide on {machine}: no ONNX Runtime is published for it", "install a 64-bit system"
        )
    if not TESTED[0] <= interpreter.version <= TESTED[1]:
        tested = f"{dotted(TESTED[0])} to {dotted(TESTED[1])}"
        return warning(name, f"taijitu is tested on {tested}", f"make the environment with one of {tested}")
    kind = "virtual environment" if interpreter.is_virtual else "not a virtual environment"
    return ok(name, f"{kind} {interpreter.prefix}, {machine}")


def check_python_path(interpreter: Interpreter, environment: Mapping[str, str]) -> list[Finding]:
    """Check for another Python's packages in PYTHONPATH, as ROS and old profiles set it: they load wrong binaries."""
    foreign = []
    for entry in filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)):
        version = re.search(r"python(\d)\.(\d+)", entry)
        if version and (int(version[1]), int(version[2])) != interpreter.version:
            foreign.append(entry)
    if not foreign:
        return []
    text = f"{', '.join(foreign)} is of another Python than this {dotted(interpreter.version)}"
    return [problem("PYTHONPATH", text, "unset PYTHONPATH, and look for it in ~/.bashrc")]


def system_venv(python: str = "3", folder: str = "DIR") -> str:
    """Return the command that makes an environment of the system's Python, such as "3.10", with the packages of apt."""
    return f"/usr/bin/python{python} -m venv --system-site-packages {folder}"


def dotted(version: tuple[int, ...]) -> str:
    """Return (3, 10) as "3.10"."""
    return ".".join(map(str, version))
