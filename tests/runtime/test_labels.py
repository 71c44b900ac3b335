"""Files of labels, in the forms that other tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taijitu_runtime.errors import UsageError
from taijitu_runtime.labels import read_labels


@pytest.mark.parametrize(
    "content",
    [
        ["cat", "dog"],
        {"1": "dog", "0": "cat"},
        {"dog": 1, "cat": 0},
        {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}},
        {"id2label": {}, "label2id": {"cat": 0, "dog": 1}},
        {"label_names": ["cat", "dog"]},
    ],
)
@pytest.mark.parametrize("suffix", ["json", "JSON"])
def test_json_in_every_form_gives_the_labels_in_order(tmp_path: Path, content: Any, suffix: str) -> None:
    file = tmp_path / f"labels.{suffix}"
    file.write_text(json.dumps(content))
    assert read_labels(file) == ("cat", "dog")


@pytest.mark.parametrize("content", [["Mu\u0308ll"], {"Mu\u0308ll": 0}, "Mu\u0308ll\n"])
def test_letters_of_macos_are_those_of_the_folders_of_a_data_set(tmp_path: Path, content: Any) -> None:
    file = tmp_path / ("labels.txt" if isinstance(content, str) else "labels.json")
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_labels(file) == ("M\u00fcll",)


def test_a_label_in_both_forms_of_its_letters_is_there_twice(tmp_path: Path) -> None:
    (file := tmp_path / "labels.json").write_text(json.dumps(["Mu\u0308ll", "M\u00fcll"]))
    with pytest.raises(UsageError, match=r"labels\[1\]"):
        read_labels(file)


@pytest.mark.parametrize("text", ["cat\ndog", "cat\r\ndog\r\n", "\ufeffcat\ndog\n\n", " cat \ndog\t\n"])
def test_lines_give_the_labels_without_what_an_editor_added(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(text.encode())
    assert read_labels(file) == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.txt", ""),
        ("gap.txt", "cat\n\ndog\n"),
        ("twice.txt", "cat\ncat\n"),
        ("python.txt", "{0: 'cat',\n 1: 'dog'}"),
        ("json.txt", '["cat",\n"dog"]'),
        ("control.txt", "cat\x1b[2J\ndog\n"),
        ("cut.json", '["cat", "do'),
        ("gap.json", '{"0": "cat", "2": "dog"}'),
        ("pairs.json", '{"0": ["n02123045", "tabby"], "1": ["n02084071", "dog"]}'),
        ("numbers.json", "[1, 2]"),
        ("nothing.json", "[]"),
        ("shared_index.json", '{"cat": 0, "dog": 1, "bird": 1}'),
        ("repeated_key.json", '{"id2label": {"0": "cat", "1": "dog", "1": "bird"}}'),
        ("endless.json", '{"' + "0" * 5000 + '": "cat"}'),
    ],
)
def test_what_names_no_labels_is_refused_with_the_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode())
    with pytest.raises(UsageError, match=name):
        read_labels(file)
