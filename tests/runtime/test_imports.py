"""The runtime imports only NumPy: an edge device may have nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taijitu_runtime.errors import MissingDependencyError, require

ABSENT = ("torch", "torchvision", "tensorrt", "tensorrt_rtx", "cuda", "onnx", "onnxruntime", "cv2", "PIL", "tqdm")
OURS = ("taijitu_training", "taijitu_export", "taijitu_server")
BLOCK = f"import sys\nfor name in {ABSENT + OURS!r}: sys.modules[name] = None\n"


def run(code: str, runtime: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", BLOCK + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=runtime, check=True).stdout


def test_every_module_imports_without_the_optional_packages(root: Path) -> None:
    runtime = root / "runtime"
    files = [path.relative_to(runtime) for path in sorted((runtime / "taijitu_runtime").rglob("*.py"))]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert {"taijitu_runtime.classify.cli", "taijitu_runtime.backends.ort.backend"} <= set(modules)
    imported = run(
        "import importlib\nfor name in sys.argv[1:]: print(importlib.import_module(name).__name__)", runtime, *modules
    )
    assert imported.split() == modules


def test_numpy_is_the_only_third_party_import(root: Path) -> None:
    code = (
        "import taijitu_runtime.bench.cli, taijitu_runtime.classify.cli\n"
        "import taijitu.command, taijitu_runtime.live.cli\n"
        "tops = {name.partition('.')[0] for name, module in sys.modules.items() if module is not None}\n"
        "tops -= {'sitecustomize', 'usercustomize'}\n"  # Debian's Python has the first
        "print(*sorted(name for name in tops - set(sys.stdlib_module_names) if not name.startswith('_')))\n"
    )
    assert run(code, root / "runtime").split() == ["numpy", "taijitu", "taijitu_runtime"]


@pytest.mark.parametrize(
    ("call", "module"),
    [
        ("taijitu.Classifier.from_file(sys.argv[1])", "onnxruntime"),
        ("taijitu_runtime.pictures.preprocess.decode_picture(b'GIF89a' + bytes(99))", "PIL"),
    ],
)
def test_what_is_missing_is_named_with_what_to_install(root: Path, tiny_onnx: Path, call: str, module: str) -> None:
    code = (
        "import taijitu, taijitu_runtime.pictures.preprocess\n"
        f"try: {call}\n"
        "except taijitu.MissingDependencyError as error: print(error)\n"
    )
    printed = run(code, root / "runtime", str(tiny_onnx))
    assert printed.startswith(f"got no {module} (")
    assert printed.endswith(f"expected it to be installed; do: cd {root} && pip install '.[ort]'\n")


def test_a_library_that_cannot_be_imported_leaves_nothing_on_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenCV does where the system lacks libGL."""
    (tmp_path / "halfway.py").write_text("import sys\nsys.path.insert(0, 'left')\nraise ImportError('libGL.so.1')\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)
    with pytest.raises(MissingDependencyError):
        require("halfway", "taijitu[camera]")
    assert sys.path == before
