"""The wheel's build hook: compiles the native Nish if there is a C++ compiler, and tags the wheel for that platform.

Without a compiler, or if it fails, the wheel is pure Python and complete, but Nish is slower. An editable install
gets the library next to its sources.

TAIJITU_WHEEL, an environment variable for `make dist`, requests one kind of wheel: "any" for pure Python, or a platform
tag such as "manylinux_2_28_aarch64", for which the compiler in CXX has to compile.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "runtime/taijitu_runtime/native"


class NativeNishHook(BuildHookInterface[Any]):
    """See the top of the file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects the files of a wheel; `version` is "standard" or "editable"."""
        wanted = os.environ.get("TAIJITU_WHEEL", "")
        if wanted == "any":
            return
        build = _load(Path(self.root) / NATIVE / "build.py")
        compiler = build.find_compiler() if sys.platform == "linux" else None
        if compiler is None:
            self._lose("no C++ compiler found: Nish will run without its native kernel", wanted)
            return
        editable = version == "editable"
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self.root) / NATIVE if editable else Path(self._scratch.name)
        try:
            library = build.build_library(compiler, folder)
            machine = build.target_machine(compiler)
        except (build.CompileError, OSError) as error:
            self._lose(f"Nish will run without its native kernel: {error}", wanted)
            return
        if wanted and not wanted.endswith(f"_{machine}"):
            raise RuntimeError(f"got a compiler for {machine}, expected one for TAIJITU_WHEEL={wanted}; set CXX")
        if not editable:
            build_data["force_include"][str(library)] = f"taijitu_runtime/native/{library.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{wanted or f'linux_{machine}'}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up when the wheel is complete."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()

    def _lose(self, what: str, wanted: str) -> None:
        """Go on without the library, except where a wheel with it was requested."""
        if wanted:
            raise RuntimeError(f"taijitu: {what}; expected a wheel for {wanted}")
        self.app.display_warning(f"taijitu: {what}")


def _load(path: Path) -> Any:
    """Load a module by its file: its package needs numpy, which the build does not require."""
    spec = importlib.util.spec_from_file_location("taijitu_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
