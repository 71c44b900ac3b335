"""Labels: what they may be, and files of them, one in each line or JSON as Hugging Face, Keras and others write it."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import ArtefactError, UsageError, path_fault
from taijitu_runtime.fields import check_text, fail

FORMS = "a label in each line, or JSON: a list, {index: label}, {label: index} or a config.json with id2label"


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels in the order of the logits.

    A label in each line, empty lines at the end left out; or JSON, by the suffix .json: a list, {"0": "cat"},
    {"cat": 0}, or any of these under "id2label", "label2id" or "label_names".

    Raises:
        UsageError: The file cannot be read, has no labels in one of these forms, or has labels that no model can have.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: got a file that is not UTF-8 text, expected {FORMS}; convert it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: could not be read ({path_fault(error)}), expected {FORMS}; check the path") from None
    labels = _from_json(path, text) if path.suffix.lower() == ".json" else _from_lines(path, text)
    return checked_labels(labels, str(path))


def labels_by_number(names: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return the values of {0: "cat", "1": "dog"} in order; None where the keys are not 0 to K - 1."""
    # Short keys only: int refuses thousands of digits with an error of its own.
    keys = [key for key in names if str(key).isascii() and str(key).isdecimal() and len(str(key)) < 10]
    numbered = {int(str(key)): names[key] for key in keys}
    if not numbered or sorted(numbered) != list(range(len(names))):
        return None
    return tuple(str(numbered[index]) for index in range(len(numbered)))


def check_labels(got: object) -> None:
    """Raise ArtefactError unless `got` is a tuple of at least one label, each one line of text, and each once."""
    if not isinstance(got, tuple) or not got:
        raise fail("labels", got, "at least one label")
    seen: dict[str, int] = {}
    for index, label in enumerate(got):
        check_text(f"labels[{index}]", label, "text without control characters")
        if (first := seen.setdefault(label, index)) != index:
            raise fail(f"labels[{index}]", label, f"another label than labels[{first}]")


def check_in_order(labels: object) -> None:
    """Raise UsageError for a set or a dict of labels: {"dog": 1, "cat": 0} begins with the dog, and a set with any."""
    if isinstance(labels, (set, frozenset, Mapping)):
        raise UsageError(
            f"got a {type(labels).__name__} as the labels, expected a list of them in the order of the logits; "
            "make one, such as sorted(names, key=names.get) of {label: index}"
        )


def checked_labels(labels: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the labels, with composed letters as the folders of a data set have them.

    UsageError, naming the source, where one is empty, has control characters or appears twice.
    """
    labels = tuple(map(composed, labels))
    try:
        check_labels(labels)
    except ArtefactError as error:
        reason = str(error).removeprefix("model card, ").removesuffix("; correct it or make the file again")
        raise UsageError(f"{source}: {reason}; correct the labels") from None
    return labels


def _from_lines(path: Path, text: str) -> tuple[str, ...]:
    # Not splitlines: a label may hold what Unicode counts as an end of a line, and is refused for it by its name.
    lines = [line.strip(" \t\r") for line in text.rstrip().split("\n")]
    if "" in lines:
        where = f"an empty line {lines.index('') + 1}" if len(lines) > 1 else "no line"
        raise UsageError(f"{path}: got {where}, expected {FORMS}; correct it")
    if lines[0].startswith(("{", "[")) and not lines[0].endswith(("}", "]")):  # [background] may be a label
        got = f"a first line that is not a label, {lines[0][:40]!r}"
        raise UsageError(f"{path}: got {got}, expected {FORMS}, JSON in a file called .json; convert or rename it")
    return tuple(lines)


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        content: Any = json.loads(text, object_pairs_hook=partial(_without_twins, path))
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: got a damaged JSON file, expected {FORMS}; correct it") from None
    if isinstance(content, dict):
        named = [content[key] for key in ("id2label", "label2id", "label_names") if content.get(key)]
        content = _in_order(named[0] if named else content)
    if not isinstance(content, (list, tuple)) or not content or not all(isinstance(label, str) for label in content):
        raise UsageError(f"{path}: got JSON of another form, expected {FORMS}; correct it")
    return tuple(content)


def _without_twins(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; UsageError if a key is there twice: Python would keep the last, and lose a label."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise UsageError(f"{path}: got the key {twice!r} twice, expected each once; correct it")
    return content


def _in_order(content: Any) -> Any:
    """Return the labels of {"0": label} or {label: 0} by number, None for another object; anything else unchanged."""
    if not isinstance(content, dict):
        return content
    if all(type(value) is int for value in content.values()):
        if len(set(content.values())) < len(content):
            return None  # two labels of one index
        content = {index: label for label, index in content.items()}
    return labels_by_number(content) if all(isinstance(label, str) for label in content.values()) else None


def composed(text: str) -> str:
    """Return the text in Unicode's composed form: an umlaut is one character, as on Linux, and not two, as on macOS."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
