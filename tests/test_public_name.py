"""`import taijitu` is the promised API: it loads nothing, has every name, and every error has one root."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import taijitu
import taijitu_export.errors
import taijitu_runtime.errors
import taijitu_training.errors
from tests.helpers.tiny_model import make_tiny_onnx

HEAVY = ("torch", "torchvision", "timm", "matplotlib", "onnx", "onnxruntime", "starlette", "uvicorn", "cv2", "PIL")


def answer(code: str, cwd: Path, *options: str) -> str:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd).stdout


def test_importing_it_loads_nothing_else(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import taijitu; print(*sorted(set(sys.modules) - before))"
    assert set(answer(code, tmp_path).split()) <= {"__future__", "taijitu", "taijitu_runtime"}


def test_names_for_a_board_need_only_numpy(root: Path) -> None:
    block = f"import sys\nfor name in {(*HEAVY, 'taijitu_training', 'taijitu_export')!r}: sys.modules[name] = None\n"
    names = ("Classifier", "ModelCard", "EngineCard", "Limits", "Answer", "Prediction")
    code = f"import taijitu\nprint(*[getattr(taijitu, name) for name in {names!r}])"
    assert "Classifier" in answer(block + code, root / "runtime")


@pytest.mark.parametrize(
    "missing", [("torch",), ("torch", "onnx"), HEAVY, (*HEAVY, "taijitu_training", "taijitu_export")]
)
def test_help_and_completion_work_where_only_a_part_is_installed(root: Path, missing: tuple[str, ...]) -> None:
    block = f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
    code = (
        "import pydoc, rlcompleter, taijitu\n"
        "print('from_file' in pydoc.render_doc(taijitu))\n"
        "print(rlcompleter.Completer({'taijitu': taijitu}).attr_matches('taijitu.Class'))\n"
        "print(rlcompleter.Completer({'taijitu': taijitu}).attr_matches('taijitu.tr'))"
    )
    assert answer(block + code, root / "runtime").splitlines() == ["True", "['taijitu.Classifier(']", "[]"]


def test_engines_are_built_where_torch_is_not_installed(root: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'torchvision', 'timm', 'scipy'): sys.modules[name] = None\nimport taijitu\n"
        "print(taijitu.build_engine.__name__)"
    )
    assert answer(code, root / "runtime").split() == ["build_engine"]


@pytest.mark.parametrize(
    ("name", "extra"),
    [("train", "train"), ("create_model", "train"), ("export_onnx", "export"), ("build_engine", "jetson")],
)
def test_what_is_not_installed_is_named_with_its_extra(root: Path, name: str, extra: str) -> None:
    code = (
        "import sys\nfor name in ('torch', 'onnx'): sys.modules[name] = None\nimport taijitu\n"
        f"try: taijitu.{name}\n"
        "except taijitu.MissingDependencyError as error: print(error)\n"
    )
    assert f"[{extra}]" in answer(code, root / "runtime")


def test_every_name_is_there_documented_and_the_same_for_type_checkers(root: Path) -> None:
    words = re.findall(r"\w+", (root / "docs/api.md").read_text())
    assert set(taijitu.__all__) - {"__version__", *words} == set()
    assert len(set(taijitu.__all__)) == len(taijitu.__all__)
    assert set(taijitu.__all__) <= set(dir(taijitu))
    stub = ast.parse(Path(taijitu.__file__).with_suffix(".pyi").read_text())
    imported = {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported.keys() | {"__version__"} == set(taijitu.__all__)
    for name, (module, name_there) in imported.items():
        value = getattr(taijitu, name)
        assert value is getattr(importlib.import_module(str(module)), name_there)
        assert inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="no_such_name"):
        taijitu.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_every_error_that_is_promised_or_raised_has_one_root() -> None:
    for module in (taijitu_runtime.errors, taijitu_training.errors, taijitu_export.errors):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, BaseException):
                assert issubclass(kind, taijitu.TaijituError), name
                assert getattr(taijitu, name) is kind


ELSEWHERE = {
    "train": {"option": "options", "set": "changes", "compile": "compiled", "show": None},
    "export_onnx": {"input": "input_form"},
    "adopt": {"data": None, "json": None},  # --find --data DIR is find=DIR
    "verify": {"candidate": "model", "require_certain": None, "report": None, "json": None},
    "calibrate": {"json": None},
    "prove": {"json": None},
}
"""Arguments that a function calls otherwise than its command, or does not have, since they are for a terminal."""


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_function_has_the_arguments_of_its_command(name: str) -> None:
    command = {"export_onnx": "onnx"}.get(name, name)
    (point,) = entry_points(group="taijitu.commands", name=command)
    parser = importlib.import_module(point.module).build_parser()
    flags = {action.dest for action in parser._actions} - {"help"}
    expected = {ELSEWHERE[name].get(flag, flag) for flag in flags} - {None}
    assert inspect.signature(getattr(taijitu, name)).parameters.keys() == expected


def test_threads_reach_the_backend(shipped_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(taijitu.UsageError, match="threads -1"):
        taijitu.verify(shipped_onnx, threads=-1)
    for label in ("airplane", "ship"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "a.png")
    with pytest.raises(taijitu.UsageError, match="threads -1"):
        taijitu.calibrate(shipped_onnx, tmp_path, tmp_path / "out.onnx", threads=-1)


def test_choices_that_a_command_line_refuses_are_refused_here_too(
    shipped_checkpoint: Path, shipped_onnx: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    unknown: Any = "in8"
    for choice in ("precision", "input_form", "nish", "purpose"):
        with pytest.raises(taijitu.UnknownNameError, match=unknown):
            taijitu.export_onnx(shipped_checkpoint, out, **{choice: unknown})
    with pytest.raises(taijitu.UnknownNameError, match=unknown):
        taijitu.adopt(shipped_onnx, out, layout=unknown)
    for choice in ("backend", "precision"):
        with pytest.raises(taijitu.UnknownNameError, match=unknown):
            taijitu.build_engine(shipped_onnx, tmp_path / "out.engine", **{choice: unknown})
    with pytest.raises(taijitu.UnknownNameError, match=unknown):
        taijitu.train("mlp", tmp_path, tmp_path / "run", label_level=unknown)
    with pytest.raises(taijitu.UsageError, match="reference"):
        taijitu.verify(shipped_onnx, explain=True)
    with pytest.raises(taijitu.UsageError, match=r"\.onnx"):
        taijitu.calibrate(shipped_onnx, tmp_path, tmp_path / "out.txt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["\0", "\ud800"], ids=["null byte", "surrogate"])
def test_a_path_that_no_file_can_have_is_an_error_of_taijitu(
    shipped_checkpoint: Path, shipped_onnx: Path, tmp_path: Path, path: str
) -> None:
    bad = tmp_path / f"a{path}.onnx"
    calls: list[Callable[[], object]] = [
        lambda: taijitu.Classifier.from_file(bad),
        lambda: taijitu.prove(bad),
        lambda: taijitu.verify(bad),
        lambda: taijitu.adopt(bad, tmp_path / "out.onnx", labels=bad),
        lambda: taijitu.adopt(shipped_onnx, bad),
        lambda: taijitu.export_onnx(shipped_checkpoint, bad),
        lambda: taijitu.export_onnx(bad, tmp_path / "out.onnx"),
        lambda: taijitu.save_checkpoint(taijitu.load_checkpoint(shipped_checkpoint), bad),
        lambda: taijitu.load_checkpoint(bad),
        lambda: taijitu.checkpoint_from_weights(bad, "timm/test_resnet", ["a", "b"]),
        lambda: taijitu.train("mlp", tmp_path, bad, device="cpu"),
        lambda: taijitu.train("mlp", bad, tmp_path / "run", device="cpu"),
    ]
    for call in calls:
        with pytest.raises(taijitu.TaijituError):
            call()


@pytest.mark.parametrize("number", ["0.5", True, math.nan, -1], ids=["text", "bool", "NaN", "negative"])
def test_what_is_no_number_of_the_range_is_an_error_of_usage(shipped_onnx: Path, tmp_path: Path, number: Any) -> None:
    out = tmp_path / "out.onnx"
    with taijitu.Classifier.from_file(shipped_onnx) as classifier:
        calls: list[Callable[[], object]] = [
            lambda: classifier.predict(b"", number),
            lambda: classifier.predict(b"", threshold=number),
            lambda: taijitu.Classifier.from_file(shipped_onnx, threads=number),
            lambda: taijitu.Classifier.from_file(shipped_onnx, batch_size=number),
            lambda: taijitu.Limits(max_pixels=number),
            lambda: taijitu.verify(shipped_onnx, max_drop=number),
            lambda: taijitu.verify(shipped_onnx, expect=number),
            *(
                lambda asked=asked: taijitu.calibrate(shipped_onnx, tmp_path, out, **{asked: number})
                for asked in ("accuracy", "coverage", "reject", "guarantee")
            ),
            *(
                lambda asked=asked: taijitu.train("mlp", tmp_path, tmp_path / "run", **{asked: number})
                for asked in ("validation", "patience", "minutes", "accumulate", "workers")
            ),
        ]
        for call in calls:
            with pytest.raises(taijitu.UsageError):
                call()
    assert os.listdir(tmp_path) == []


def test_the_command_runs_as_a_module_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "taijitu", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"taijitu {taijitu.__version__}\n")


@pytest.mark.parametrize("point", entry_points(group="taijitu.commands"), ids=lambda point: point.name)
def test_help_imports_nothing_that_takes_seconds(point: importlib.metadata.EntryPoint, tmp_path: Path) -> None:
    heavy = (*HEAVY, "numpy") if point.name == "serve" else HEAVY  # pydantic alone takes half of the time limit
    code = (
        f"import sys\nfrom {point.module} import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print('loaded:', *[name for name in {heavy!r} if name in sys.modules])"
    )
    printed = answer(code, tmp_path)
    assert "usage:" in printed
    assert printed.endswith("loaded:\n")


def test_recipes_are_read_without_torch(tmp_path: Path) -> None:
    block = "import sys; sys.modules['torch'] = None"
    code = f"{block}; from taijitu_training.recipes.named import RECIPES; print(len(RECIPES))"
    assert int(answer(code, tmp_path)) > 3


@pytest.mark.parametrize("call", ["calibration", "verify", "reference", "calibrate", "find"])
def test_an_empty_path_of_pictures_is_not_the_working_directory(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, new = make_tiny_onnx(tmp_path / "tiny.onnx"), tmp_path / "new.onnx"
    calls: dict[str, Callable[[], object]] = {
        "calibration": lambda: taijitu.export_onnx(model, new, precision="int8", calibration=""),
        "verify": lambda: taijitu.verify(model, data=""),
        "reference": lambda: taijitu.verify(model, reference=""),
        "calibrate": lambda: taijitu.calibrate(model, "", new),
        "find": lambda: taijitu.adopt(model, new, find=""),
    }
    with pytest.raises(taijitu.UsageError, match="empty path"):
        calls[call]()
    assert not new.exists()


@pytest.mark.parametrize("wrong", [None, 3, ""])
def test_what_is_no_path_is_told_by_every_function_that_takes_a_model(wrong: Any, tmp_path: Path) -> None:
    new = tmp_path / "new.onnx"
    for call in (
        lambda: taijitu.Classifier.from_file(wrong),
        lambda: taijitu.load_checkpoint(wrong),
        lambda: taijitu.export_onnx(wrong, new),
        lambda: taijitu.adopt(wrong, new),
        lambda: taijitu.verify(wrong),
        lambda: taijitu.calibrate(wrong, tmp_path, new),
        lambda: taijitu.build_engine(wrong),
        lambda: taijitu.prove(wrong),
    ):
        with pytest.raises(taijitu.UsageError, match="path"):
            call()
