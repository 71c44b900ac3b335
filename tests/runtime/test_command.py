"""The `taijitu` command finds its subcommands by entry points."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from taijitu import command
from taijitu_runtime.installed import pip_install, taijitu_version

REQUIREMENTS = [
    "numpy>=1.26",
    "onnxruntime>=1.20; extra == 'ort'",
    "pillow>=11; extra == 'ort'",
    'torch>=2.8; extra == "train"',
    "tomli>=2; (python_version < '3.11') and extra == 'train'",
    "taijitu[train,ort]; extra == 'export'",
    "onnx>=1.18; extra == 'export'",
]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Define entry points: greet (works), heavy (imports a missing package), broken (has a bug)."""
    package = tmp_path / "taijitu_pretend"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the overview must not import')\n")
    (package / "greet.py").write_text('"""Say hello.\n\nMore."""\n')
    (tmp_path / "greeting.py").write_text('"""Greet somebody."""\ndef main(argv): print("hello", *argv); return 7\n')
    (tmp_path / "heavy.py").write_text('"""Weigh."""\nimport absent_heavyweight\n')
    (tmp_path / "broken.py").write_text('"""Break."""\nimport taijitu_runtime.no_such_module\n')
    points = [
        EntryPoint("greet", "greeting:main", command.GROUP),
        EntryPoint("hello", "taijitu_pretend.greet:main", command.GROUP),
        EntryPoint("heavy", "heavy:main [absent]", command.GROUP),
        EntryPoint("broken", "broken:main", command.GROUP),
    ]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "entry_points", lambda group: points if group == "taijitu.commands" else [])


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_alone_it_lists_the_commands_without_importing_them(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == f"taijitu {taijitu_version()}"
    assert "  greet   Greet somebody.\n  heavy   Weigh.\n  hello   Say hello.\n" in printed.out
    assert printed.err == ""
    assert "heavy" not in sys.modules


@pytest.mark.usefixtures("commands")
def test_a_package_with_a_damaged_description_hides_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged-1.0.dist-info").mkdir()
    (tmp_path / "damaged-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert command.main([]) == 0
    assert "  greet   Greet somebody.\n" in capsys.readouterr().out


@pytest.mark.usefixtures("commands")
def test_commands_of_a_missing_extra_are_listed_separately(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "missing_requirements", lambda extras, *_: set(extras))
    command.main([])
    printed = capsys.readouterr().out
    assert "  greet   Greet somebody.\n" in printed
    assert printed.endswith(f"\nnot installed here:\n  heavy   {pip_install('taijitu[absent]')}\n")


def test_one_of_several_extras_is_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    point = EntryPoint("build", "building:main [rtx,jetson]", command.GROUP)
    monkeypatch.setattr(command, "entry_points", lambda group: [point])
    lacks = {"rtx", "jetson"}
    monkeypatch.setattr(command, "missing_requirements", lambda extras, *_: lacks & set(extras))
    command.main([])
    assert capsys.readouterr().out.endswith(f"  build  {pip_install('taijitu[rtx]', 'taijitu[jetson]')}\n")
    lacks.remove("jetson")
    command.main([])
    assert "not installed here" not in capsys.readouterr().out


@pytest.mark.usefixtures("commands")
def test_a_command_gets_the_rest_and_gives_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["greet", "you", "--all", "--version"]) == 7
    assert capsys.readouterr().out == "hello you --all --version\n"


@pytest.mark.usefixtures("commands")
def test_an_unknown_command_suggests_close_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["great"]) == 2
    assert capsys.readouterr().err == "taijitu: unknown command 'great'; did you mean greet?\n"
    assert command.main(["xyz"]) == 2
    assert capsys.readouterr().err.endswith("; known: broken, greet, heavy, hello\n")


@pytest.mark.usefixtures("commands")
def test_a_missing_package_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["heavy"]) == 2
    expected = "taijitu: got no absent_heavyweight (needed by taijitu heavy), expected it to be installed; "
    assert capsys.readouterr().err == f"{expected}do: {pip_install('taijitu[absent]')}\n"


@pytest.mark.usefixtures("commands")
def test_a_bug_is_not_taken_for_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        command.main(["broken"])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"taijitu {taijitu_version()}\n"


def test_without_any_command_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "entry_points", lambda group: [])
    assert command.main([]) == 0
    assert "no command is installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extras", "installed", "missing"),
    [
        ([], [], set()),
        (["ort"], ["onnxruntime", "Pillow"], set()),
        (["ort"], ["onnxruntime-gpu", "pillow"], set()),
        (["ort"], ["onnx", "numpy"], {"onnxruntime", "pillow"}),
        (["train"], ["pillow"], {"torch"}),
        (["train"], ["torch"], set()),  # tomli, from Python 3.11 on, is nothing that is missing
        (["export"], ["onnx", "pillow"], {"torch", "onnxruntime"}),
        (["export"], ["onnx", "pillow", "torch", "onnxruntime"], set()),
    ],
)
def test_extras_are_followed_to_what_they_need(extras: list[str], installed: list[str], missing: set[str]) -> None:
    assert command.missing_requirements(extras, REQUIREMENTS, installed) == missing


SCRIPTS = {
    "demo.py": ["no.file"],
    "training/train.py": ["--model", "mlp", "--data", "no.data", "--out", "no.out"],
    "training/reproduce.py": ["nish-noise", "--data", "no.data"],
    "training/visualize.py": ["no.file"],
    "export/to_onnx.py": ["no.file"],
    "export/verify.py": ["no.file"],
    "export/to_engine.py": ["no.file"],
    "export/adopt.py": ["no.file", "-o", "out.onnx"],
    "server/serve.py": ["no.file"],
}
"""The scripts, with arguments that they take: a refused one would end them before they need a library."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_its_libraries_is_one_line_with_the_extra_to_install(root: Path, script: str) -> None:
    absent = ("torch", "onnx", "onnx_ir", "orjson", "pydantic", "httpx", "skimage")
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({absent!r})); "
        f"sys.argv = {[script, *SCRIPTS[script]]!r}; runpy.run_path({script!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "pip install '.[" in done.stderr


def test_the_demo_in_a_python_without_taijitu_names_the_command(root: Path) -> None:
    done = subprocess.run([sys.executable, "-S", "demo.py"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "make demo" in done.stderr
