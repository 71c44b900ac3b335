"""The README and the code agree."""

from __future__ import annotations

import importlib
import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import onnx
import pytest

from taijitu_runtime.providers import PROVIDERS
from taijitu_training import checkpoint
from tools.docs_tables import classify_flags

COMMANDS = {
    "training/train.py": "taijitu_training.cli",
    "training/reproduce.py": "taijitu_training.tables.cli",
    "training/visualize.py": "taijitu_training.figures.cli",
    "export/to_onnx.py": "taijitu_export.to_onnx.cli",
    "export/adopt.py": "taijitu_export.adopt.cli",
    "export/verify.py": "taijitu_export.comparison.cli",
    "export/to_engine.py": "taijitu_export.engine.cli",
    "runtime/bench.py": "taijitu_runtime.bench.cli",
    "runtime/classify.py": "taijitu_runtime.classify.cli",
    "runtime/camera.py": "taijitu_runtime.live.cli",
    "server/serve.py": "taijitu_server.cli",
}
POINTS = {point.name: point.module for point in entry_points(group="taijitu.commands")}


def documentation(root: Path) -> str:
    """Return the README and the pages under docs/, one after the other."""
    return "\n".join(page.read_text() for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))))


@pytest.mark.parametrize(("script", "module"), COMMANDS.items())
def test_every_flag_in_the_readme_exists_and_every_script_is_shown(root: Path, script: str, module: str) -> None:
    readme = documentation(root).replace("\\\n", " ")
    lines = [line for line in readme.splitlines() if re.match(rf"(\$ )?python {re.escape(script)} ", line)]
    assert lines, f"the README never runs {script}"
    parser = importlib.import_module(module).build_parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    for line in lines:
        assert set(re.findall(r"(?<= )--?[a-z][\w-]*", line.split("#")[0])) <= known, line


@pytest.mark.parametrize(("command", "module"), POINTS.items())
def test_every_command_is_shown_with_flags_that_exist(root: Path, command: str, module: str) -> None:
    examples = "".join(page.read_text() for page in sorted((root / "examples").glob("*/README.md")))
    text = (documentation(root) + examples).replace("\\\n", " ")
    lines = re.findall(rf"\btaijitu {command}(?![\w-])([^`#|\n]*)", text)
    assert lines, f"no page has taijitu {command}"
    parser = importlib.import_module(module).build_parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    for line in lines:
        assert set(re.findall(r"(?<= )--?[a-zA-Z][\w-]*", line)) <= known, line


@pytest.mark.parametrize("module", POINTS.values())
def test_every_command_starts_where_python_keeps_no_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = importlib.import_module(module)
    monkeypatch.setattr(loaded, "__doc__", None)  # as by PYTHONOPTIMIZE=2
    assert loaded.build_parser().format_help()


def test_a_command_that_two_pages_show_has_the_same_output_on_both(root: Path) -> None:
    commands = {f"python {script}": f"taijitu {name}" for script in COMMANDS for name, module in POINTS.items()
                if COMMANDS[script] == module}  # fmt: skip
    shown: dict[str, set[str]] = {}
    for block in re.findall(r"```(?:console)?\n(\$ .*?)```", documentation(root), re.DOTALL):
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)+)", block, re.MULTILINE):
            for script, installed in commands.items():
                command = command.replace(script, installed)
            shown.setdefault(command, set()).add(output)
    assert len(shown) > 5
    assert [command for command, outputs in shown.items() if len(outputs) > 1] == []


def test_the_export_that_is_shown_is_that_of_the_shipped_checkpoint(root: Path, shipped_onnx: Path) -> None:
    nodes = len(onnx.load(shipped_onnx).graph.node)
    line = f"\nmodel.onnx: {shipped_onnx.stat().st_size / 1e3:.0f} kB, {nodes} nodes, opset 17, input uint8\n"
    assert line in (root / "README.md").read_text()


def test_the_servers_list_of_hard_cases_names_tests_that_exist(root: Path) -> None:
    folder = root / "tests/server"
    existing = {name for file in folder.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert set(re.findall(r"`(test_\w+)`", (folder / "README.md").read_text())) - existing == set()


@pytest.mark.parametrize("module", POINTS.values(), ids=list(POINTS))
def test_every_flag_is_in_the_readme(root: Path, module: str) -> None:
    readme = documentation(root)
    parser = importlib.import_module(module).build_parser()
    flags = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    missing = [flag for flag in flags - {"--help", "--output"} if not re.search(rf"{flag}(?![\w-])", readme)]
    assert sorted(missing) == []


def test_flags_in_prose_exist(root: Path) -> None:
    known = {"--help"}
    for module in COMMANDS.values():
        parser = importlib.import_module(module).build_parser()
        known |= {flag for action in parser._actions for flag in action.option_strings}
    prose = re.sub(r"```.*?```", "", (root / "README.md").read_text(), flags=re.DOTALL)
    assert set(re.findall(r"`(--[a-zA-Z\d-]+)", prose)) <= known


@pytest.mark.parametrize("page", ["README.md", "docs/camera.md", "docs/api.md", "docs/export.md"])
def test_python_blocks_run(page: str, root: Path, shipped_onnx: Path, photograph: Path,
                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", (root / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        code = block.replace('"model.onnx"', repr(str(shipped_onnx))).replace('"cat.png"', repr(str(photograph)))
        exec(compile(code, page, "exec"), {})
    assert "cat" in capsys.readouterr().out


def test_a_table_of_flags_requires_no_pictures_where_a_list_may_name_them() -> None:
    rows = {line.split("`")[1]: line for line in classify_flags().splitlines() if "`" in line}
    assert "required" in rows["MODEL"]
    assert "required" not in rows["PICTURES"]


def test_a_table_of_flags_has_the_values_that_a_flag_takes() -> None:
    (row,) = [line for line in classify_flags().splitlines() if "--provider" in line]
    for provider in PROVIDERS:
        assert provider in row.split("|")[1]


def test_links_to_files_lead_somewhere(root: Path) -> None:
    for page in (*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_leads_to_every_page(root: Path) -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (root / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in (root / "docs").glob("*.md")} - linked == set()


def test_every_shipped_checkpoint_is_in_the_readme_with_its_accuracy_and_is_the_end_of_a_whole_run(root: Path) -> None:
    readme = (root / "README.md").read_text()
    files = sorted((root / "checkpoints").glob("*.pt"))
    assert files
    for file in files:
        saved = checkpoint.load(file)
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| `checkpoints/{file.name}`")]
        accuracy = saved.training["metrics"]["eval_top1"]
        parameters = sum(parameter.numel() for parameter in saved.model().parameters())
        assert f"{accuracy:.2f} %" in row
        assert f"{parameters:,}" in row
        assert saved.training["metrics"]["epoch"] == saved.training["recipe"]["epochs"]
        assert file.stat().st_size < 5e6
        log = (root / "docs" / "results" / f"{file.stem}.metrics.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["eval_top1"] == pytest.approx(accuracy)
