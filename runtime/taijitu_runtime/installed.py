"""The distributions that are installed here, taijitu among them, and how more is installed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

DISTRIBUTION = "taijitu"
EXTRAS = {"taijitu_training": "train", "taijitu_export": "export", "taijitu_server": "server"}
"""What brings the libraries that a package stands on; those of other packages come with "ort"."""

OURS = re.compile(rf"{DISTRIBUTION}(\[[\w,.-]+\])?")


def normal_name(name: str) -> str:
    """A distribution's name as the index writes it: opencv_python as opencv-python."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(found: Iterable[Distribution] | None = None) -> dict[str, str]:
    """Names and versions of `found`; None looks for all that this Python sees."""
    places = distributions() if found is None else found
    return {normal_name(one.metadata["Name"]): one.version for one in places if one.metadata["Name"]}


def taijitu_version() -> str:
    """The version of taijitu, as it was installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+not.installed"


def source_tree() -> Path | None:
    """The clone that this code runs from; None where it was installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def pip_install(*alternatives: str) -> str:
    """The command that installs one of several distributions with extras, such as "taijitu[rtx]" or "taijitu[gpu]".

    In a clone taijitu is installed from its folder: an index need not have it.
    """
    tree = source_tree()
    names = [name.replace(DISTRIBUTION, ".", 1) if tree and OURS.fullmatch(name) else name for name in alternatives]
    command = "pip install " + " or ".join(f"'{name}'" for name in names)
    is_here = tree is None or tree == Path.cwd() or names == list(alternatives)
    return command if is_here else f"cd {shlex.quote(str(tree))} && {command}"
