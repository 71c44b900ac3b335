"""Trees of files as on the machines that `taijitu doctor` is for, and the findings of its checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taijitu_runtime.doctor import system
from taijitu_runtime.doctor.finding import Finding

NOBODY = 65534

Files = Mapping[str, str | bytes]
Tree = Callable[[Files], Path]


def write_tree(root: Path, files: Files) -> Path:
    """Write files below `root`, which stands for the root of a file system; return it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def virtual(folder: Path, version: tuple[int, int] = (3, 10), system_packages: bool = False) -> system.Interpreter:
    """Return a virtual environment of the system's Python, as `python3 -m venv` describes it in its pyvenv.cfg."""
    folder.mkdir(exist_ok=True)
    seen = str(system_packages).lower()
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = {seen}\nversion = 3.10.12\n")
    return system.Interpreter(version, folder, Path("/usr"))


def only(findings: list[Finding], level: str) -> Finding:
    """Return the only finding; check its level, and that it has a cure unless the level is ok."""
    (found,) = findings
    assert found.level == level, found
    assert bool(found.cure) == (level != "ok"), found
    return found


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user without rights, if root runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
