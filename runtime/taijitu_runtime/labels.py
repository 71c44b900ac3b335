"""A file of labels: one in each line, or JSON as Hugging Face, Keras and others write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import UsageError

FORMS = "a label in each line, or JSON: a list, {index: label}, {label: index} or a config.json with id2label"


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels in the order of the logits.

    A label in each line, empty lines at the end left out; or JSON: a list, {"0": "cat"}, {"cat": 0}, or any of these
    under "id2label", "label2id" or "label_names". `ModelCard` checks what a label may be, and that each occurs once.

    Raises:
        UsageError: The file cannot be read, or has no labels in one of these forms.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: could not be read ({error.strerror}), expected {FORMS}; check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: got a file that is not UTF-8 text, expected {FORMS}; convert it") from None
    if path.suffix == ".json":
        return _from_json(path, text)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines or "" in lines:
        where = f"an empty line {lines.index('') + 1}" if lines else "no line"
        raise UsageError(f"{path}: got {where}, expected {FORMS}; correct it")
    return tuple(lines)


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: got a damaged JSON file, expected {FORMS}; correct it") from None
    if isinstance(content, dict):
        named = [content[key] for key in ("id2label", "label2id", "label_names") if content.get(key)]
        content = _in_order(named[0] if named else content)
    if not isinstance(content, list) or not content or not all(isinstance(label, str) for label in content):
        raise UsageError(f"{path}: got JSON of another form, expected {FORMS}; correct it")
    return tuple(content)


def _in_order(content: Any) -> Any:
    """{"0": label} or {label: 0} as a list, where the indices are those of a list; anything else as it is."""
    if not isinstance(content, dict):
        return content
    by_index = dict(content)
    if all(type(value) is int for value in content.values()):
        by_index = {str(index): label for label, index in content.items()}
    indices = [str(i) for i in range(len(content))]
    return [by_index[i] for i in indices] if by_index.keys() == set(indices) else content
