"""Virtual environments with only the packages that a test installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

UV = Path(sys.executable).parent / "uv"


def run(*command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return done  # type: ignore[no-any-return]


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "UV_PYTHON")}


def fresh_environment(folder: Path, *install: str | Path) -> Path:
    """Make a virtual environment with what `install`, arguments of pip install, names; return its Python."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder, env=clean_environment())
    python = folder / "bin" / "python"
    command = [UV, "pip", "install", "--quiet", "--python", python, *install]
    try:
        run(*command, "--offline", env=clean_environment())  # the packages that make installed are in uv's cache
    except AssertionError:
        run(*command, env=clean_environment())
    return python
