"""Find the split and label of each picture by the names of the folders that contain it.

The rules are those of torchvision's ImageFolder and of Keras, where these agree:

1. Step down through folders that hold one folder and no picture.
2. Folders with the name of a split are the splits: at that level, or in the only folder with train/ and another split.
3. The next level is the label; its pictures may be at any depth below it.
4. Folders within the labels whose names occur in several labels (cam0, cam1) are not labels. Where all of their names
   differ (animals/{cat,dog}, vehicles/{car,lorry}) both readings are possible, and the user has to choose. So are
   they where the labels would be called like splits (seg_train, seg_test).
5. Pictures with their label in their names (003479-num7.png) have it where no folder tells one. In several folders
   with other names than their labels, both readings are possible.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from taijitu_runtime.datasets.found import Content, Found, Split
from taijitu_runtime.datasets.names import Role, digit_in_name, role_in, role_of
from taijitu_runtime.datasets.scan import Parts, Scan
from taijitu_runtime.errors import DataError, listed

Level: TypeAlias = Literal["first", "last"]
LEVELS: tuple[Level, ...] = ("first", "last")

OUTSIDE = "pictures outside of the splits"
BY_NAME = ", labelled by file names"
_Labelled = dict[str, list[Content]]  # by label; an empty folder's label has an empty list


class Reading(NamedTuple):
    """How to read a folder.

    Attributes:
        level: The level that is the label, if the user chose one.
        known: The labels of a model, which decide where two readings are possible.
        unlabelled: Pictures without labels are accepted.
        needed: The splits that will be used; errors in others are ignored.
    """

    level: Level | None = None
    known: tuple[str, ...] = ()
    unlabelled: bool = False
    needed: tuple[Role, ...] = ("train", "val", "test", "")


class _Tree:
    """Folders and pictures below one folder, with the parts of their paths from there."""

    def __init__(self, pictures: Mapping[Parts, Content], folders: Iterable[Parts]) -> None:
        self.pictures = pictures
        self.folders = set(folders)
        self.tops = sorted({parts[0] for parts in self.folders} | {parts[0] for parts in pictures if len(parts) > 1})
        self.loose = [parts for parts in pictures if len(parts) == 1]

    def below(self, name: str) -> _Tree:
        """Return the tree in the folder called `name`."""
        pictures = {parts[1:]: content for parts, content in self.pictures.items() if parts[0] == name and parts[1:]}
        return _Tree(pictures, (parts[1:] for parts in self.folders if parts[0] == name and parts[1:]))

    def roles(self) -> dict[Role, str]:
        """Return the folders with the name of a split, by role."""
        return {role: name for name in self.tops if (role := role_of(name))}


def found_in(scan: Scan, where: Path, reading: Reading) -> Found:
    """Return the splits and labels of the scanned files. Raises DataError where no known form matches."""
    tree = _stepped_down(_Tree(scan.pictures, scan.folders), reading)
    tree = _with_splits(tree, where, reading)
    roles = tree.roles()
    beside = [name for name in tree.tops if not role_of(name)]
    if not roles or (beside and set(tree.tops) <= set(reading.known)):
        return _unsplit(tree, where, scan, reading)
    _check_roles(tree, roles, where)
    if beside and "train" not in roles:
        name = next(iter(roles.values()))
        raise DataError(
            f"{where}: got {name}/ without train/, which may be a label or pictures to test with; put the labels into "
            f"train/<label>/, or rename it (next to it: {listed(beside)})"
        )
    outside = len(tree.loose) + sum(parts[0] in beside for parts in tree.pictures if len(parts) > 1)
    if outside:
        folders = listed(f"{name.rstrip('/')}/" for name in beside)
        scan.left_out.count(f"{OUTSIDE} ({folders})" if folders else OUTSIDE, outside)
    return _of_splits(tree, roles, where, scan, reading)


def _stepped_down(tree: _Tree, reading: Reading) -> _Tree:
    """Apply rule 1; stop at a known label, and at a split that holds no splits itself."""
    while len(tree.tops) == 1 and not tree.loose and tree.tops[0] not in reading.known:
        inner = tree.below(tree.tops[0])
        if not inner.tops or (role_of(tree.tops[0]) and not inner.roles()):
            break
        tree = inner
    return tree


def _with_splits(tree: _Tree, where: Path, reading: Reading) -> _Tree:
    """Apply rule 2: return the tree itself, or the one below it that holds train/."""
    if tree.roles() or (reading.known and set(tree.tops) <= set(reading.known)):
        return tree
    # Both train/ and another split, because train/ alone may be a label, a train on rails.
    inside: dict[Parts, set[Role]] = defaultdict(set)
    for parts in tree.folders:
        inside[parts[:-1]].add(role_of(parts[-1]))
    holders = {folder for folder, roles in inside.items() if "train" in roles and roles & {"val", "test"}}
    holders -= {holder for holder in holders if any(holder[: len(other)] == other != holder for other in holders)}
    if not holders:
        return tree
    if len(holders) > 1:
        names = listed(["/".join(holder) for holder in sorted(holders)])
        raise DataError(
            f"{where}: got {len(holders)} folders with a train/ of their own ({names}), expected one; give one of them"
        )
    (holder,) = holders
    inner = tree
    for name in holder:
        inner = inner.below(name)
    # The others are next to the splits, and counted there.
    others = {parts: content for parts, content in tree.pictures.items() if parts[: len(holder)] != holder}
    pictures = dict(inner.pictures) | {("/".join(parts[:-1]) + "/", parts[-1]): c for parts, c in others.items()}
    return _Tree(pictures, inner.folders)


def _check_roles(tree: _Tree, roles: Mapping[Role, str], where: Path) -> None:
    spellings = [name for name in tree.tops if role_of(name)]
    if len(spellings) > len(roles):
        raise DataError(f"{where}: got {listed(spellings)}, expected one folder for each split; move them together")


def _of_splits(tree: _Tree, roles: Mapping[Role, str], where: Path, scan: Scan, reading: Reading) -> Found:
    trees = {role: tree.below(name) for role, name in roles.items() if role in reading.needed}
    for name in (name for role, name in roles.items() if role not in reading.needed):
        scan.left_out.count(f"pictures of {name}/, which is not used", len(tree.below(name).pictures))
    named = {role: digits for role, inner in trees.items() if inner.loose and (digits := _by_name(inner))}
    for role, inner in trees.items():
        if inner.loose and role not in named:
            raise DataError(_loose(where, roles[role], inner.loose[0], role))
    judged = trees.get("train") or next(iter(trees.values()), _Tree({}, ()))
    inside = _inside(judged)
    level = _level(inside, where, reading)
    labelled: dict[Role, _Labelled] = {
        role: _labelled(inside if inner is judged else _inside(inner, inside.tops), level)
        for role, inner in trees.items()
    } | named
    # With a model, each split is compared with its labels later; without one, the labels are those to learn.
    told = labelled if reading.known or "train" not in labelled else {"train": labelled["train"]}
    labels = tuple(sorted({name for split in told.values() for name in split}))
    for role, split in labelled.items():
        if unknown := sorted(split.keys() - set(labels)):
            raise DataError(
                f"{where}: {roles[role]}/ has labels that train/ lacks: {listed(map(repr, unknown))}; name folders "
                "alike"
            )
    splits: dict[Role, Split] = {role: _split(roles[role], split, labels) for role, split in labelled.items()}
    return Found(where, f"{scan.form}{BY_NAME if named else ''}", labels, splits, scan.left_out)


def _loose(where: Path, split: str, parts: Parts, role: Role) -> str:
    instead = {
        "val": " (for ImageNet's val with valprep.sh), or use --validation 0.1 in place of it",
        "test": f", or move {split}/ elsewhere if its labels are not known",
        "train": f", or rename {split}/ if it is a label, and not the pictures to train on",
    }.get(role, "")
    return (
        f"{where}: got {split}/{parts[0]} loose in {split}/, expected {split}/<label>/*; move each picture into its "
        f"label's folder{instead}"
    )


def _inside(tree: _Tree, labels: Sequence[str] = ()) -> _Tree:
    """Return the tree of labels in a split; apply rule 1 where its one folder is not in `labels` but holds some."""
    while len(tree.tops) == 1 and not tree.loose and tree.tops[0] not in labels:
        inner = tree.below(tree.tops[0])
        if len(inner.tops) < 2 or inner.loose:
            break
        tree = inner
    return tree


def _unsplit(tree: _Tree, where: Path, scan: Scan, reading: Reading) -> Found:
    form = f"{scan.form} without splits"
    if (named := _by_name(tree)) and _names_decide(tree, named, where, reading):
        labels = tuple(sorted(named))
        return Found(where, form + BY_NAME, labels, {"": _split("", named, labels)}, scan.left_out)
    only = tree.tops[0] if len(tree.tops) == 1 else ""
    if reading.unlabelled and tree.pictures and (not tree.tops or (only and only not in reading.known)):
        return Found(where, form, (), {"": Split("", list(tree.pictures.values()), None)}, scan.left_out)
    if tree.loose:
        raise DataError(
            f"{where}: got {tree.loose[0][0]}, expected every picture in train/<label>/ and test/<label>/, or all in "
            "<label>/; move it into its label's folder"
        )
    labelled = _labelled(tree, _level(tree, where, reading))
    labels = tuple(sorted(labelled))
    remarks = () if reading.known or reading.level else _like_splits(tree)
    return Found(where, form, labels, {"": _split("", labelled, labels)}, scan.left_out, remarks)


def _by_name(tree: _Tree) -> _Labelled:
    """Return the pictures by the digit in their names; empty where one lacks it."""
    named: _Labelled = defaultdict(list)
    for parts, content in tree.pictures.items():
        if (digit := digit_in_name(parts[-1])) is None:
            return {}
        named[digit].append(content)
    return named


def _names_decide(tree: _Tree, named: _Labelled, where: Path, reading: Reading) -> bool:
    """Rule 5."""
    if tree.loose or len(tree.tops) < 2:
        return not set(tree.tops) & set(reading.known)
    if reading.known:
        return set(named) <= set(reading.known)
    if reading.level is not None or all(parts[0] == digit_in_name(parts[-1]) for parts in tree.pictures):
        return False
    raise DataError(
        f"{where}: got digits in the names of pictures ({next(iter(tree.pictures))[-1]}) and folders called "
        f"{listed(tree.tops)}, which can be read in two ways; call the folders train, val and test, move the pictures "
        "into one, or say --label-level first if the folders are the labels"
    )


def _like_splits(tree: _Tree) -> tuple[str, ...]:
    """Return a remark where every label has the same folders, as splits of a name that is not known have."""
    inside: dict[str, set[str]] = defaultdict(set)
    for parts in tree.pictures:
        if len(parts) < 3:
            return ()
        inside[parts[0]].add(parts[1])
    folders = next(iter(inside.values()), set())
    if len(inside) < 2 or len(folders) < 2 or any(others != folders for others in inside.values()):
        return ()
    return (
        f"got the folders {listed(sorted(folders))} in each of {listed(tree.tops)}, which are taken for the labels; if "
        "they are splits, call them train, val and test",
    )


def _level(tree: _Tree, where: Path, reading: Reading) -> Level:
    """Apply rule 4. DataError where both readings are possible."""
    if reading.level is not None:
        return reading.level
    inner: dict[str, set[str]] = defaultdict(set)
    direct = False
    for parts in tree.pictures:
        if len(parts) > 2:
            inner[parts[0]].add(parts[1])
        direct = direct or len(parts) == 2
    counts = Counter(name for names in inner.values() for name in names)
    first = sorted(inner)
    roles = {role_in(name) for name in first}
    if not direct and "train" in roles and roles & {"val", "test"} and not reading.known:
        raise DataError(
            f"{where}: got {listed(first)}, which are called like splits, with folders in them; call them train, val "
            "and test, or say --label-level first if these are the labels"
        )
    if direct or not counts or max(counts.values()) > 1 or max(map(len, inner.values())) < 2:
        return "first"
    last = sorted(_labelled(tree, "last"))
    for level, labels in zip(LEVELS, (first, last), strict=True):
        if set(labels) <= set(reading.known):
            return level
    if reading.known:  # refused later, by the names of the labels: commands with a model have no --label-level
        return "first"
    raise DataError(
        f"{where}: got folders within folders, which can be read in two ways: labels {listed(first)} (--label-level "
        f"first), or {listed(last)} (--label-level last); say which"
    )


def _labelled(tree: _Tree, level: Level) -> _Labelled:
    labelled: _Labelled = defaultdict(list)
    for parts, content in tree.pictures.items():
        labelled[parts[0] if level == "first" else parts[-2]].append(content)
    if level == "first":
        for name in tree.tops:
            labelled.setdefault(name, [])
    return labelled


def _split(name: str, labelled: Mapping[str, list[Content]], labels: tuple[str, ...]) -> Split:
    contents = [content for label in labels for content in labelled.get(label, [])]
    targets = [target for target, label in enumerate(labels) for _ in labelled.get(label, [])]
    return Split(name, contents, np.array(targets, np.int64))
