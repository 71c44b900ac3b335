"""The installed distributions, and commands to install more."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

DISTRIBUTION = "taijitu"
EXTRAS = {
    "taijitu_export.engine": ("rtx", "gpu", "jetson"),
    "taijitu_export": ("export",),
    "taijitu_server": ("server",),
    "taijitu_training": ("train",),
}
"""The extras with the libraries that a package needs, one of them; other packages need "ort"."""

OURS = re.compile(rf"{DISTRIBUTION}(\[[\w,.-]+\])?")


def normal_name(name: str) -> str:
    """Return the name of a distribution as the package index writes it: opencv_python as opencv-python."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(found: Iterable[Distribution] | None = None) -> dict[str, str]:
    """Return names and versions of `found`; for None, of all distributions that this Python sees."""
    places = distributions() if found is None else found
    return {name: one.version for one in places if (name := name_of(one))}


def name_of(distribution: Distribution) -> str:
    """Return its name as `normal_name`; "" where its description is damaged or gone, as a killed pip leaves it."""
    try:
        return normal_name(distribution.metadata["Name"] or "")
    except (OSError, ValueError, ImportError, TypeError):  # which of them depends on the Python
        return ""


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, for comparisons: (1, 30, 0) of "1.30.0+cu12" and "1.30.0rc1"."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, release[0].split(".")[:3])) if release else ()


def installs_for(module: str) -> list[str]:
    """Return what a module of taijitu needs, for pip: one of these distributions with extras."""
    extras = next((extras for package, extras in EXTRAS.items() if f"{module}.".startswith(f"{package}.")), ("ort",))
    return [f"{DISTRIBUTION}[{extra}]" for extra in extras]


def cuda_release(number: int) -> str:
    """Return what CUDA calls a release of its own that it numbers: "12.6" for 12060."""
    return f"{number // 1000}.{number % 1000 // 10}"


def taijitu_version() -> str:
    """Return the installed version of taijitu."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+not.installed"


def source_tree() -> Path | None:
    """Return the clone that this code runs from; None where it was installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def pip_install(*alternatives: str) -> str:
    """Return the command that installs one of several distributions with extras, such as "taijitu[rtx]".

    From a clone, taijitu is installed from its folder, because a package index may lack it.
    """
    tree = source_tree()
    names = [name.replace(DISTRIBUTION, ".", 1) if tree and OURS.fullmatch(name) else name for name in alternatives]
    command = "pip install " + " or ".join(f"'{name}'" for name in names)
    is_here = tree is None or tree == Path.cwd() or names == list(alternatives)
    return command if is_here else f"cd {shlex.quote(str(tree))} && {command}"
