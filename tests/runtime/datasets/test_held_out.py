"""The held-out share of a training is found again, even if the folder has changed since."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.datasets import (
    HeldOut,
    TrainedOn,
    calibration_and_judging,
    dataset_sha256,
    evaluation_and_other_pictures,
    evaluation_pictures,
    fingerprints,
    read_dataset,
)
from taijitu_runtime.errors import ArtefactError, DataError

LABELS = ("blue", "red")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make two labels, of 10 and of 40 different pictures."""
    generator = np.random.default_rng(0)
    for label, count in zip(LABELS, (10, 40), strict=True):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{i:02d}.png")
    return tmp_path / "data"


def trained(folder: Path, other: str | None = None) -> TrainedOn:
    """Return the record of a training on `folder`, read from its card."""
    found = read_dataset(folder)
    split = found.splits[""]
    assert split.targets is not None
    prints = fingerprints(split.contents)
    held_out = HeldOut.draw(prints, split.targets, found.labels, 0.2, seed=1)
    held = held_out.mask(prints, split.targets, found.labels)
    card = TrainedOn.of([one for one, out in zip(prints, held, strict=True) if not out], held_out, other)
    again = TrainedOn.from_card(json.loads(json.dumps(card.to_card())))
    assert again == card
    return again


def test_the_same_share_of_every_label_is_held_out_and_judges(folder: Path) -> None:
    pictures = evaluation_pictures(folder, LABELS, trained(folder))
    assert pictures.targets is not None
    assert np.bincount(pictures.targets).tolist() == [2, 8]
    assert "0.2" in str(pictures)
    assert not pictures.cautions
    assert len(evaluation_pictures(folder, LABELS)) == 50  # a card that remembers nothing


def test_an_empty_file_is_not_a_picture_that_was_trained_on(folder: Path, tmp_path: Path) -> None:
    (folder / "red" / "empty.png").write_bytes(b"")
    card = TrainedOn.of(fingerprints(read_dataset(folder).splits[""].contents))
    assert len(card.sample) == 50
    for label in LABELS:
        (tmp_path / "new" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), label).save(tmp_path / "new" / label / "0.png")
    (tmp_path / "new" / "blue" / "another.png").write_bytes(b"")
    assert not evaluation_pictures(tmp_path / "new", LABELS, card).cautions


def test_copies_of_a_picture_are_a_caution_and_unreadable_files_are_none(folder: Path) -> None:
    card = trained(folder)
    for i in range(2):
        (folder / "red" / f"broken {i}.png").write_bytes(b"")
    held_out = evaluation_pictures(folder, LABELS, card)
    assert not evaluation_pictures(folder, LABELS).cautions
    for name in held_out.names[:3]:  # blue ones, or of both labels
        (folder / "red" / f"copy of {Path(name).name}").write_bytes((folder / name).read_bytes())
    (caution,) = evaluation_pictures(folder, LABELS).cautions
    assert "3 copies" in caution
    assert "2 of them with another label" in caution
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    for label in LABELS:
        (folder / label).rename(folder / "test" / label)
        (folder / "train" / label).mkdir()
        Image.new("RGB", (8, 8)).save(folder / "train" / label / "0.png")
    seen, copies = evaluation_pictures(folder, LABELS, card).cautions
    assert copies == caution.replace("red/", "test/red/").replace("blue/", "test/blue/")
    assert "trained on" in seen


def test_pictures_of_the_training_that_the_weights_came_from_are_a_caution_too(folder: Path, tmp_path: Path) -> None:
    now = trained(folder)
    before = {"started_from": TrainedOn.of(fingerprints(read_dataset(folder).splits[""].contents)).to_card()}
    alone = TrainedOn.from_card(before)  # of a training on shards
    tuned = TrainedOn.from_card({**now.to_card(), **before})
    assert tuned is not None
    assert evaluation_pictures(folder, LABELS, now).seen == ""
    held = evaluation_pictures(folder, LABELS, tuned)
    assert len(held) == 10
    assert "(20 % of all" in held.seen
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "test")
    for one in (tuned, alone):
        assert "(100 % of all" in evaluation_pictures(tmp_path / "moved", LABELS, one).seen
    assert len(tuned.whole) == 50


def test_it_stays_so_when_files_are_added_removed_renamed_and_packed(folder: Path, tmp_path: Path) -> None:
    card = trained(folder)
    before = {name: (folder / name).read_bytes() for name in evaluation_pictures(folder, LABELS, card).names}
    (folder / "red" / "00.png").unlink()
    for i in range(1, 40):
        (folder / "red" / f"{i:02d}.png").rename(folder / "red" / f"photo {40 - i}.png")
    for i in range(20):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "blue" / f"new {i}.png")
    after = evaluation_pictures(folder, LABELS, card)
    kept = {content for name in after.names if (content := (folder / name).read_bytes()) in before.values()}
    assert len(kept) >= len(before) - 1
    trained_on = {(folder / name).read_bytes() for name in after.names if "new" not in name} - kept
    assert not trained_on
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="elsewhere")
    assert len(evaluation_pictures(tmp_path / "data.tar.gz", LABELS, card)) == len(after)


def test_calibration_takes_what_was_trained_on_and_judging_what_was_not(folder: Path) -> None:
    card = trained(folder)
    calibrating, judging = calibration_and_judging(folder, LABELS, 100, card)
    assert (len(calibrating), len(judging)) == (40, 10)
    assert judging.names == evaluation_pictures(folder, LABELS, card).names


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_pictures_of_none_of_the_labels_that_came_after_the_training_are_all_there(folder: Path, form: str) -> None:
    card = trained(folder)
    (folder / "übrig").mkdir()
    for i in range(6):
        Image.new("RGB", (8, 8), (i, 9, 9)).save(folder / "übrig" / f"{i}.png")
    other = unicodedata.normalize(form, "übrig")  # NFD: as macOS types it
    judged, others = evaluation_and_other_pictures(folder, LABELS, card, other)
    assert (len(judged), len(others)) == (10, 6)
    assert not judged.cautions
    of_training = evaluation_and_other_pictures(folder, LABELS, trained(folder, other="übrig"), other)
    assert tuple(map(len, of_training)) == (10, 1), "those that were held out, where it had them"


def test_other_pictures_all_judge_and_those_trained_on_have_a_warning(folder: Path, tmp_path: Path) -> None:
    card = trained(folder)
    for label in LABELS:
        (tmp_path / "other" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (i, i, LABELS.index(label))).save(tmp_path / "other" / label / f"{i}.png")
    other = evaluation_pictures(tmp_path / "other", LABELS, card)
    assert (len(other), other.warnings) == (40, [])
    everything = evaluation_pictures(folder, LABELS, TrainedOn(card.sample))  # nothing was held out of it
    assert len(everything) == 50
    assert "100 %" in everything.warnings[0]


def test_train_alone_judges_where_its_held_out_share_is_known(folder: Path) -> None:
    card = trained(folder)
    (folder.parent / "split").mkdir()
    folder.rename(folder.parent / "split" / "train")
    assert len(evaluation_pictures(folder.parent / "split", LABELS, card)) == 10
    with pytest.raises(DataError):
        evaluation_pictures(folder.parent / "split", LABELS)
    assert [len(part) for part in calibration_and_judging(folder.parent / "split", LABELS, 100, card)] == [40, 10]
    for unknown in (None, TrainedOn(card.sample)):
        with pytest.raises(DataError, match="split/train"):
            calibration_and_judging(folder.parent / "split", LABELS, 100, unknown)
    # The folder itself is taken as it is.
    assert [len(part) for part in calibration_and_judging(folder.parent / "split" / "train", LABELS, 100)] == [25, 25]


def test_copies_of_a_picture_are_on_one_side_and_too_few_are_refused() -> None:
    targets = np.zeros(10, np.int64)
    prints = [hashlib.sha256(bytes([i // 2])).hexdigest() for i in range(10)]
    held = HeldOut.draw(prints, targets, LABELS[:1], 0.1, seed=0).mask(prints, targets, LABELS[:1])
    assert held.sum() == 2
    assert (held[::2] == held[1::2]).all()
    with pytest.raises(DataError, match="blue 1"):
        HeldOut.draw(prints[:1] * 10, targets, LABELS[:1], 0.2, seed=0)


@pytest.mark.parametrize(
    "training",
    [
        {"train_sample": 3},
        {"train_sample": "", "started_from": {"train_sample": 3}},
        {"train_sample": "", "held_out": []},
        {"train_sample": "", "held_out": {"share": 0.2, "seed": 0, "cuts": {"blue": "low"}}},
    ],
)
def test_a_card_that_remembers_nonsense_is_refused(training: dict[str, object]) -> None:
    with pytest.raises(ArtefactError, match=r"training\."):
        TrainedOn.from_card(training)


def test_a_folder_has_the_sha256_that_a_shell_gives_it(folder: Path) -> None:
    found = read_dataset(folder)
    command = "find -L . -type f ! -path '*/.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    shell = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert dataset_sha256(found, {"": fingerprints(found.splits[""].contents)}) == shell.stdout.split()[0]
    renamed = read_dataset(folder.rename(folder.parent / "data.csv"))  # it stays a folder
    assert dataset_sha256(renamed, {"": fingerprints(renamed.splits[""].contents)}) == shell.stdout.split()[0]
    (folder.parent / "data.csv").rename(folder)
    pairs = folder.parent / "pairs.csv"
    pairs.write_text("data/blue/00.png,blue\ndata/red/00.png,red\n")
    listed = read_dataset(pairs)
    first = dataset_sha256(listed, {"": fingerprints(listed.splits[""].contents)})
    pairs.write_text("data/blue/00.png,red\ndata/red/00.png,blue\n")
    listed = read_dataset(pairs)
    assert dataset_sha256(listed, {"": fingerprints(listed.splits[""].contents)}) != first
