"""Read the names of a network's classes from a text file, one per line, or from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from taijitu_runtime.card import check_labels
from taijitu_runtime.errors import ArtefactError, UsageError


def labels_from_file(path: Path) -> tuple[str, ...]:
    """Read labels in the order of the network's outputs. UsageError, naming the file, where they cannot be used.

    Args:
        path: Text with one label per line, or .json with a list of labels, or with an object of labels by number,
            which may be the value of "id2label".
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: got no labels ({error.strerror}), expected a file with one per line") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: got bytes that are not UTF-8, expected one label per line; convert it") from None
    labels = _from_json(path, text) if path.suffix.lower() == ".json" else tuple(text.split("\n"))
    if path.suffix.lower() != ".json":
        labels = tuple(line.removesuffix("\r") for line in (labels[:-1] if labels[-1] == "" else labels))
    return checked_labels(labels, str(path))


def labels_by_number(names: Mapping[object, object]) -> tuple[str, ...] | None:
    """Return the values of {0: "cat", "1": "dog"} in order; None where the keys are not 0 to K - 1."""
    numbered = {int(str(key)): value for key, value in names.items() if str(key).isascii() and str(key).isdecimal()}
    if not numbered or sorted(numbered) != list(range(len(names))):
        return None
    return tuple(str(numbered[index]) for index in range(len(numbered)))


def checked_labels(labels: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the labels. UsageError, naming the source, where one is empty, has control characters or appears twice."""
    try:
        check_labels(labels)
    except ArtefactError as error:
        reason = str(error).removeprefix("model card, ").removesuffix("; correct it or make the file again")
        raise UsageError(f"{source}: {reason}; correct the labels") from None
    return labels


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: got a file that is not JSON ({error}), expected a list of labels") from None
    if isinstance(content, dict):
        names = content.get("id2label", content)
        content = labels_by_number(names) if isinstance(names, dict) else None
    if not isinstance(content, (list, tuple)) or not all(isinstance(label, str) for label in content):
        raise UsageError(f'{path}: got other JSON, expected a list of labels, or {{"0": label, "1": label}}')
    return tuple(content)
