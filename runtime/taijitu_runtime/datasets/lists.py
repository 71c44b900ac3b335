"""Read lists of pictures: lines of path,label[,split] in a .csv, .tsv or .txt, with paths relative to the list."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taijitu_runtime.datasets.found import Content, Found, LeftOut, Split, unreadable
from taijitu_runtime.datasets.names import Role, role_of
from taijitu_runtime.datasets.scan import is_picture_file
from taijitu_runtime.errors import DataError
from taijitu_runtime.labels import composed

LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
# The names of columns, in any case; where a list has several of a row, the first one here counts.
_COLUMNS = {
    "path": ("path", "filepath", "filepaths", "image_path", "img_path", "file", "filename", "file_name", "filenames",
             "image", "picture", "image_name", "image_id"),
    "label": ("label", "labels", "class", "class_name", "category"),
    "split": ("split", "set", "data set", "dataset", "subset", "partition"),
}  # fmt: skip
MOST_NAMED = 5


def read_list(path: Path, needed: Sequence[Role]) -> Found:
    """Read the splits of a list that are `needed`. Raises DataError, which names the wrong lines."""
    places, rows = _places(path, _rows(path))
    left_out = LeftOut()
    seen: dict[str, tuple[str, str]] = {}
    chosen: dict[str, list[tuple[str, str]]] = defaultdict(list)  # (file, label) by the split's spelling
    wrong: list[str] = []
    repeated = 0
    for number, row in rows:
        name, label, split = (_cell(row, places.get(column)) for column in ("path", "label", "split"))
        label = composed(label)
        if not name or ("label" in places and not label) or (split and not role_of(split)):
            wrong.append(f"line {number}: got {','.join(row)!r}")
            continue
        if role_of(split) not in needed:
            left_out.count(f"pictures of {split}, which is not used")
            continue
        file = os.path.join(path.parent, name)  # noqa: PTH118 -- a million Paths take seconds
        if "\\" in name and not os.path.exists(file):  # noqa: PTH110
            file = os.path.join(path.parent, name.replace("\\", "/"))  # noqa: PTH118
        place = os.path.normpath(file)
        is_again = place in seen
        before = seen.setdefault(place, (label, split))
        if before != (label, split):
            wrong.append(f"line {number}: {name} is {label} {split} here, and {' '.join(before)} before".rstrip())
        elif not os.path.exists(file):  # noqa: PTH110
            wrong.append(f"line {number}: got {file}, which does not exist")
        elif is_picture_file(file, left_out):
            chosen[split].append((file, label))
            repeated += is_again
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED} more lines" if len(wrong) > MOST_NAMED else ""
        raise DataError(
            f"{path}: {'; '.join(wrong[:MOST_NAMED])}{more}; expected path,label or path,label,split in each, or these "
            "names in the first one, paths next to the list, and splits called train, val or test; correct the list"
        )
    found = _found(path, chosen, "label" in places, left_out)
    if not repeated:
        return found
    remark = f"got {repeated} lines of pictures that are in the list already, which count each time; remove these lines"
    return dataclasses.replace(found, remarks=(remark,))


def _found(path: Path, chosen: dict[str, list[tuple[str, str]]], labelled: bool, left_out: LeftOut) -> Found:
    labels = tuple(sorted({label for entries in chosen.values() for _, label in entries})) if labelled else ()
    index = {label: target for target, label in enumerate(labels)}
    by_role: dict[Role, list[str]] = defaultdict(list)
    for spelling in sorted(chosen):
        by_role[role_of(spelling)].append(spelling)
    splits: dict[Role, Split] = {}
    for role, spellings in by_role.items():
        entries = [entry for spelling in spellings for entry in chosen[spelling]]
        contents: list[Content] = [file for file, _ in entries]
        targets = np.array([index[label] for _, label in entries], np.int64) if labelled else None
        splits[role] = Split(spellings[0], contents, targets)
    if "" in splits and len(splits) > 1:
        raise DataError(f"{path}: got {len(splits[''])} lines without a split among others, expected one in each line")
    return Found(path, "list" if "" not in splits else "list without splits", labels, splits, left_out)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of every line that is not empty."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:  # Excel writes a CSV in the code page of its machine
        raise DataError(f"{path}: got a list that is not UTF-8, expected path,label in it; save it as UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in "\t,;" if mark in first), "")
    if not delimiter:
        return [(number, row) for number, line in enumerate(text.splitlines(), 1) if (row := line.split())]
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, number = [], 1  # of the line on which a row begins
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                rows.append((number, cells))
            number = reader.line_num + 1
    except csv.Error as error:  # a quotation mark that none closes would take the following lines into its cell
        raise DataError(f"{path}: line {number}: got {error}, expected CSV; correct its quotation marks") from None
    return rows


def _places(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Return the position of each column, and the rows below the head; without a head: path, label, split."""
    head = [cell.lower() for cell in rows[0][1]] if rows else []
    named = {
        column: head.index(next(name for name in names if name in head))
        for column, names in _COLUMNS.items()
        if not set(names).isdisjoint(head)
    }
    if "path" not in named:
        width = max((len(row) for _, row in rows), default=0)
        for number, row in rows:
            if any(row[3:]):
                raise DataError(
                    f"{path}: line {number}: got {len(row)} columns without names, expected path,label[,split]; remove "
                    "the others, or write the names of all into the first line"
                )
        return dict(zip(("path", "label", "split")[: max(1, width)], range(3))), rows
    others = [cell for i, cell in enumerate(rows[0][1]) if cell and i not in named.values()]
    if "label" not in named and others:
        raise DataError(
            f"{path}: got columns {', '.join(others[:MOST_NAMED])}, expected one called label, or path and split "
            "alone for pictures without labels; rename or remove them"
        )
    if "split" not in named and (telling := _split_under_another_name(rows, [*named.values()])):
        raise DataError(
            f"{path}: got a column {telling}, which tells the splits, expected it to be called split, with train, val "
            "or test in each line; correct the list, or remove the column to have the pictures divided"
        )
    return named, rows[1:]


def _split_under_another_name(rows: list[tuple[int, list[str]]], used: Sequence[int]) -> str:
    """Return the name of an unused column such as is_valid, or with train and test in its cells; "" without one.

    If it were ignored, pictures to test with would be trained on.
    """
    for place, name in enumerate(rows[0][1]):
        if place in used:
            continue
        values = {_cell(row, place) for _, row in rows[1:]}
        if role_of(name.lower().removeprefix("is_")) or (values and all(map(role_of, values))):
            return name or str(place + 1)
    return ""


def _cell(row: list[str], place: int | None) -> str:
    return row[place] if place is not None and place < len(row) else ""
