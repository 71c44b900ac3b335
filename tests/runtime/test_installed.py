"""The installation hints for users, in a clone and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from taijitu_runtime import installed
from taijitu_runtime.errors import MissingDependencyError
from taijitu_runtime.installed import pip_install, taijitu_version, version_numbers


def test_in_a_clone_it_is_installed_from_there(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pip_install("taijitu[ort]") == f"cd {root} && pip install '.[ort]'"
    monkeypatch.chdir(root)
    assert pip_install("taijitu[ort]") == "pip install '.[ort]'"
    assert pip_install("taijitu[rtx]", "taijitu[gpu]") == "pip install '.[rtx]' or '.[gpu]'"


def test_elsewhere_it_is_installed_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "source_tree", lambda: None)
    assert pip_install("taijitu[ort]") == "pip install 'taijitu[ort]'"
    assert "pip install 'taijitu[ort]'" in str(MissingDependencyError("onnxruntime", "taijitu[ort]"))


def test_what_others_publish_is_installed_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pip_install("onnxruntime-gpu[cuda,cudnn]") == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert pip_install("taijitu-like") == "pip install 'taijitu-like'"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        *[("1.30.0", (1, 30, 0)), ("1.30.0+cu12", (1, 30, 0)), ("11.0.0rc1", (11, 0, 0)), ("1.7.1.116", (1, 7, 1))],
        *[("8.7", (8, 7)), ("unknown", ())],
    ],
)
def test_versions_of_every_form_are_compared_by_their_release(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_the_package_knows_its_version() -> None:
    assert taijitu_version()[0].isdigit()
