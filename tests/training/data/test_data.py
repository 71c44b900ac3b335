"""Folders and tars of pictures: reading, holding out, and naming faults before training starts."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taijitu_runtime.datasets import TrainedOn
from taijitu_runtime.errors import DamagedPictureError, DataError, UsageError
from taijitu_runtime.pictures.preprocess import decode_picture
from taijitu_training.data import DataRequest, Dataset, Pictures, Share, Stream, batches, load_dataset
from taijitu_training.recipes.named import RECIPES
from taijitu_training.recipes.recipe import Recipe
from tests.helpers.memory import reset_peak, status

RECIPE = replace(RECIPES["yynet_cifar10"], batch_size=8)
RESIZED = replace(RECIPE, crop="resized", pad=0)


def in_memory(dataset: Dataset) -> tuple[Pictures, Pictures]:
    assert isinstance(dataset.train, Pictures)
    assert isinstance(dataset.evaluation, Pictures)
    return dataset.train, dataset.evaluation


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """Copy the tiny data set, so that a test may damage it."""
    return shutil.copytree(tiny_data, tmp_path / "data")


def test_folder_and_tars_of_it_give_the_same_pictures_in_the_same_order(tiny_data: Path, tmp_path: Path) -> None:
    folder = load_dataset(DataRequest(tiny_data, (32, 32), RECIPE))
    train, evaluation = in_memory(folder)
    assert (folder.labels, folder.evaluation_name, folder.size) == (("blue", "red"), "test", (32, 32))
    assert folder.form == "folder, in memory"
    assert train.images.shape == (48, 32, 32, 3)
    assert train.targets.tolist() == [0] * 24 + [1] * 24
    assert len(evaluation) == 12
    # the blue pictures are blue: channel order and labels belong together
    assert train.images[:24].float().mean((0, 1, 2)).argmax() == 2
    for name, mode in (("plain.tar", "w"), ("small.tar.xz", "w:xz"), ("small.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            for file in sorted(tiny_data.rglob("*.png"), reverse=True):
                archive.add(file, arcname=Path("anything") / file.relative_to(tiny_data))
        packed = load_dataset(DataRequest(tmp_path / name, (32, 32), RECIPE))
        assert (packed.labels, packed.form) == (folder.labels, "tar, in memory")
        assert torch.equal(in_memory(packed)[0].images, train.images)
        assert len(packed.sha256) == 64


def test_the_centre_crop_keeps_the_recipes_share(tiny_data: Path) -> None:
    cropped, _ = in_memory(load_dataset(DataRequest(tiny_data, (32, 32), replace(RECIPE, evaluation_crop=32 / 36))))
    with Image.open(tiny_data / "train" / "blue" / "00.png") as image:  # 40 x 36: nothing to resize
        expected = np.asarray(image)[2:34, 4:36]
    np.testing.assert_array_equal(cropped.images[0].numpy(), expected)


@pytest.mark.parametrize("share", [1e-3, 5e-324])
def test_a_centre_crop_that_is_too_small_names_its_field(tiny_data: Path, share: float) -> None:
    with pytest.raises(UsageError, match="evaluation_crop"):
        load_dataset(DataRequest(tiny_data, (32, 32), replace(RECIPE, evaluation_crop=share)))


def test_validation_pictures_are_held_out_of_every_class_in_place_of_val(data: Path) -> None:
    shutil.copytree(data / "test", data / "val")
    (data / "val" / "red" / "00.png").write_bytes(b"unreadable")
    (data / "val" / "loose.png").write_bytes(b"unreadable")
    recipe = replace(RECIPE, seed=3)
    train, held = in_memory(load_dataset(DataRequest(data, (32, 32), recipe, validation=0.25)))
    assert held.targets.tolist() == [0] * 6 + [1] * 6
    everything = {image.numpy().tobytes() for image in torch.cat([train.images, held.images])}
    assert len(everything) == 48
    _, again = in_memory(load_dataset(DataRequest(data, (32, 32), recipe, validation=0.25)))
    assert torch.equal(held.images, again.images)
    _, other = in_memory(load_dataset(DataRequest(data, (32, 32), replace(RECIPE, seed=4), validation=0.25)))
    assert not torch.equal(held.images, other.images)
    with pytest.raises(DataError, match=r"0\.99 .*blue 24, red 24"):
        load_dataset(DataRequest(data, (32, 32), recipe, validation=0.99))


def test_label_folders_without_splits_are_split_by_validation(tiny_data: Path, tmp_path: Path) -> None:
    unsplit = shutil.copytree(tiny_data / "train", tmp_path / "colours")
    with pytest.raises(DataError, match=r"test/.*--validation"):
        load_dataset(DataRequest(unsplit, (32, 32), RECIPE, validation=0.0))
    by_default = load_dataset(DataRequest(unsplit, (32, 32), RECIPE))
    assert (len(by_default.train), len(by_default.evaluation)) == (38, 10)
    assert by_default.trained_on is not None
    assert by_default.trained_on.held_out is not None
    assert (by_default.trained_on.held_out.share, by_default.trained_on.held_out.seed) == (0.2, RECIPE.seed)
    folder = load_dataset(DataRequest(unsplit, (32, 32), RECIPE, validation=0.25))
    assert (folder.labels, len(folder.train), len(folder.evaluation)) == (("blue", "red"), 36, 12)
    assert folder.form == "folder without splits, in memory"
    with tarfile.open(tmp_path / "colours.tar", "w") as archive:
        archive.add(unsplit, arcname="colours")
    packed = load_dataset(DataRequest(tmp_path / "colours.tar", (32, 32), RECIPE, validation=0.25))
    assert torch.equal(in_memory(packed)[1].images, in_memory(folder)[1].images)


def test_a_label_that_is_called_as_a_split_is_kept_with_validation(data: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (data / split / "red").rename(data / split / "valid")
    (data / "val").mkdir()
    shutil.copy(data / "test" / "blue" / "00.png", data / "val" / "loose.png")  # still left out
    assert load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25)).labels == ("blue", "valid")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(data, arcname="colours")
    packed = load_dataset(DataRequest(tmp_path / "data.tar", (32, 32), RECIPE, validation=0.25))
    assert (packed.labels, len(packed.train), len(packed.evaluation)) == (("blue", "valid"), 36, 12)
    (data / "train" / "blue" / "test").mkdir()
    (data / "train" / "blue" / "00.png").rename(data / "train" / "blue" / "test" / "00.png")
    deep = load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25))
    assert (deep.labels, len(deep.train)) == (("blue", "valid"), 36)


def test_a_folder_that_may_be_a_label_or_a_split_is_not_left_out_silently(tiny_data: Path, tmp_path: Path) -> None:
    unsplit = shutil.copytree(tiny_data / "train", tmp_path / "colours")
    (unsplit / "red").rename(unsplit / "valid")
    with tarfile.open(tmp_path / "colours.tar", "w") as archive:
        for file in sorted(unsplit.rglob("*.png")):
            archive.add(file, arcname=file.relative_to(tmp_path))
    for path in (unsplit, tmp_path / "colours.tar"):
        with pytest.raises(DataError, match=r"valid/.* train/<label>/"):
            load_dataset(DataRequest(path, (32, 32), RECIPE, validation=0.25))


def test_digits_named_by_their_files_are_held_out_by_label(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "digits.tar.xz", "w:xz") as archive:
        for i in range(100):
            file = io.BytesIO()
            Image.fromarray(np.full((28, 28), i, np.uint8)).save(file, "PNG")
            member = tarfile.TarInfo(f"mnist_10k_test_images/{i:06d}-num{i % 10}.png")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    digits = load_dataset(DataRequest(tmp_path / "digits.tar.xz", (28, 28), RECIPES["nish_mnist"], validation=0.2))
    train, held = in_memory(digits)
    assert digits.labels == tuple("0123456789")
    assert digits.form == "tar without splits, labelled by file names, in memory"
    assert held.targets.bincount().tolist() == [2] * 10
    assert torch.equal(train.images[:, 0, 0, 1] % 10, train.targets)  # grey became three channels


@pytest.mark.parametrize(("train", "evaluation"), [("training", "testing"), ("train", "val"), ("train", "valid")])
def test_other_names_of_the_splits_are_known(data: Path, train: str, evaluation: str) -> None:
    (data / "train").rename(data / train)
    (data / "test").rename(data / evaluation)
    (data / train / "red" / "07.png").rename(data / train / "red" / "n01440764_7.JPEG")  # ImageNet's suffix
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert (len(dataset.train), len(dataset.evaluation), dataset.evaluation_name) == (48, 12, evaluation)


def test_unreadable_pictures_are_named_with_their_files(data: Path) -> None:
    broken = data / "train" / "red" / "07.png"
    broken.write_bytes(broken.read_bytes()[:200])
    for name in ("01", "02", "03"):
        (data / "train" / "blue" / f"{name}.png").write_bytes(b"no picture at all")
    judged = data / "test" / "red" / "00.png"
    whole = judged.read_bytes()
    judged.write_bytes(b"")
    with pytest.raises(DataError, match=r"5 .*60 ") as caught:
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert f"{judged} (" in str(caught.value)
    judged.write_bytes(whole)
    for name in ("blue/01.png", "blue/02.png", "blue/03.png", "red/07.png"):
        assert f"{data}/train/{name} (" in str(caught.value)
    kept = load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
    assert (len(kept.train), in_memory(kept)[0].targets.tolist()) == (44, [0] * 21 + [1] * 23)
    assert [text.partition(" ")[0].removeprefix(f"{data}/train/") for text in kept.unreadable] == [
        "blue/01.png", "blue/02.png", "blue/03.png", "red/07.png",
    ]  # fmt: skip
    for name in ("01", "02", "03"):
        (data / "train" / "blue" / f"{name}.png").unlink()
    with tarfile.open(data / "packed.tar", "w") as archive:
        archive.add(data / "train", arcname="train")
    with pytest.raises(DataError, match=r"1 .*train/red/07\.png"):
        load_dataset(DataRequest(data / "packed.tar", (32, 32), RECIPE, validation=0.25))


@pytest.mark.parametrize("recipe", [RECIPE, RESIZED], ids=["in memory", "streamed"])
def test_a_truncated_jpeg_with_an_end_marker_is_refused_as_by_the_runtime(data: Path, recipe: Recipe) -> None:
    path = data / "train" / "red" / "07.png"
    with Image.open(path) as image:
        image.resize((400, 400)).save(path.with_suffix(".jpg"), quality=95)
    path.unlink()
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(DamagedPictureError):
        decode_picture(path.with_suffix(".jpg"))

    def first_epoch() -> None:
        dataset = load_dataset(DataRequest(data, (32, 32), recipe, workers=0))
        list(batches(dataset.train, recipe, torch.device("cpu"), Share()).epoch(0, 0))

    with pytest.raises(DataError, match=r"red/07\.jpg"):
        first_epoch()
    kept = load_dataset(DataRequest(data, (32, 32), recipe, workers=0, skip_unreadable=True))
    assert (len(kept.train), len(kept.unreadable)) == (47, 1)


def test_a_narrow_picture_is_cropped_before_it_is_resized(tiny_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    Image.new("RGB", (1, 10_000), (255, 0, 0)).save(data / "train" / "red" / "07.png")
    before = reset_peak()
    train, _ = in_memory(load_dataset(DataRequest(data, (224, 224), RECIPE)))
    assert len(train) == 48
    assert status("VmHWM") - before < 400_000_000  # resized whole it is 1.5 GB


def test_the_headers_of_streamed_pictures_are_checked(data: Path) -> None:
    streamed = load_dataset(DataRequest(data, (32, 32), RESIZED, workers=0))
    assert streamed.form == "folder, decoded while training"
    assert isinstance(streamed.train, Stream)
    assert isinstance(streamed.evaluation, Pictures)  # it fits, and is needed as it is after every epoch
    (data / "train" / "red" / "07.png").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"\S+/train/red/07\.png \("):
        load_dataset(DataRequest(data, (32, 32), RESIZED, workers=0))


def test_what_does_not_fit_in_memory_is_streamed(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 48 * (32 * 32 + 40 * 40) * 3 + 12 * 32 * 32 * 3  # the training pictures and their padded copies
    for free, train, evaluation in (
        (needed, Pictures, Pictures),
        (needed - 1, Stream, Pictures),
        (999, Stream, Stream),
    ):
        monkeypatch.setattr("taijitu_training.data.dataset.host_budget", lambda free=free: free)
        dataset = load_dataset(DataRequest(tiny_data, (32, 32), RECIPE, workers=0))
        assert (type(dataset.train), type(dataset.evaluation)) == (train, evaluation)
        assert (len(dataset.train), len(dataset.evaluation)) == (48, 12)


def test_a_packed_tar_larger_than_the_memory_is_refused(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mode in (("large.tar", "w"), ("large.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tiny_data, arcname="data")
    monkeypatch.setattr("taijitu_runtime.datasets.scan.host_budget", lambda: 50_000)
    with pytest.raises(DataError, match=r"large\.tar\.gz.*memory"):
        load_dataset(DataRequest(tmp_path / "large.tar.gz", (32, 32), RECIPE))
    assert (
        len(load_dataset(DataRequest(tmp_path / "large.tar", (32, 32), RECIPE)).train) == 48
    )  # they stay where they are


def test_missing_files_are_named(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*train/<label>/"):
        load_dataset(DataRequest(tmp_path / "nowhere", (32, 32), RECIPE))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty.*train/<label>/"):
        load_dataset(DataRequest(tmp_path / "empty", (32, 32), RECIPE))


def test_files_that_are_not_tars_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    torch.save({"x": torch.zeros(3)}, tmp_path / "data.pt")
    (tmp_path / "text.tar").write_text("no tar")
    for name in ("data.npz", "data.pt", "text.tar"):
        with pytest.raises(DataError, match=rf"{name}.*(ZIP|text)"):
            load_dataset(DataRequest(tmp_path / name, (32, 32), RECIPE))


def test_labels_that_only_one_split_has_are_named(data: Path) -> None:
    (data / "test" / "red").rename(data / "test" / "green")
    with pytest.raises(DataError, match=r"test/.*train/.*green"):
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    shutil.rmtree(data / "test" / "green")
    with pytest.raises(DataError, match=r"test.*: red"):
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    (data / "test" / "red").mkdir()
    with pytest.raises(DataError, match=r"test.*: red") as caught:
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert "--validation" not in str(caught.value), "it does not replace test/"
    shutil.rmtree(data / "test")
    with pytest.raises(DataError, match=r"val/.*--validation"):
        load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.0))
    (data / "train").rename(data / "test")
    with pytest.raises(DataError, match=r"test/.*train/"):
        load_dataset(DataRequest(data, (32, 32), RECIPE))


def test_val_chooses_and_test_measures(data: Path) -> None:
    assert not load_dataset(DataRequest(data, (32, 32), RECIPE)).chooses  # by the test pictures
    shutil.copytree(data / "test", data / "val")
    (data / "val" / "red" / "00.png").unlink()
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert dataset.chooses
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.evaluation), len(dataset.test)) == (48, 11, 12)
    held = load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25))
    assert held.test is not None
    assert (held.chooses, len(held.train), len(held.evaluation), len(held.test)) == (True, 36, 12, 12)


def test_an_empty_label_is_named(data: Path, tmp_path: Path) -> None:
    (data / "train" / "green").mkdir()
    (data / "train" / ".cache").mkdir()
    expected = "train.*: green"
    with pytest.raises(DataError, match=expected):
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(data, arcname="data")
    with pytest.raises(DataError, match=expected):
        load_dataset(DataRequest(tmp_path / "data.tar", (32, 32), RECIPE))
    with pytest.raises(DataError, match=expected):
        load_dataset(DataRequest(data / "train", (32, 32), RECIPE, validation=0.25))


def test_pictures_outside_any_labels_folder_are_named(data: Path) -> None:
    (data / "test").rename(data / "val")
    for label in ("red", "blue"):
        for file in (data / "val" / label).iterdir():
            file.rename(data / "val" / f"ILSVRC2012_val_{label}{file.name}")
        (data / "val" / label).rmdir()
    with pytest.raises(DataError, match=r"val/ILSVRC2012_val_blue00\.png.*valprep\.sh.*--validation"):
        load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert len(load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25)).train) == 36
    nested = data / "train" / "red" / "more"
    nested.mkdir()
    (data / "train" / "red" / "00.png").rename(nested / "00.png")
    assert len(load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25)).train) == 36
    shutil.rmtree(data / "val")
    (data / "train").rename(data / "pictures")
    assert load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25)).labels == ("blue", "red")
    shutil.copy(data / "pictures" / "blue" / "00.png", data / "pictures" / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png.*train/<label>/"):
        load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25))


def test_hidden_files_and_those_next_to_the_splits_are_not_used(data: Path) -> None:
    shutil.copy(data / "train" / "red" / "00.png", data / "preview.png")
    (data / "train-pictures.tar").write_bytes(b"where they came from")
    (data / "train" / "red" / "._00.png").write_bytes(b"what macOS puts into tars")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert (len(dataset.train), str(dataset.left_out)) == (48, "1 .tar, 1 pictures outside of the splits")


def test_labels_must_be_printable(data: Path) -> None:
    for split in ("train", "test"):
        (data / split / "red").rename(data / split / "r\x1bed")
    with pytest.raises(DataError, match=r"'r\\x1bed'"):
        load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25))


def test_the_ten_thousand_digits_give_8000_to_train_and_2000_to_evaluate(data_folder: Path) -> None:
    archive = data_folder / "mnist-10k-png.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    digits = load_dataset(DataRequest(archive, (28, 28), RECIPES["nish_mnist"], validation=0.2))
    assert digits.labels == tuple("0123456789")
    assert (len(digits.train), len(digits.evaluation)) == (8000, 2000)
    train, held = in_memory(digits)
    shares = Counter(held.targets.tolist())
    assert all(
        abs(shares[label] - 0.2 * (shares[label] + n)) < 1 for label, n in Counter(train.targets.tolist()).items()
    )


def test_pictures_that_train_has_too_and_a_split_that_is_not_used_are_said(data: Path) -> None:
    assert not load_dataset(DataRequest(data, (32, 32), RECIPE)).repeated
    for name in ("00", "01"):
        shutil.copy(data / "train" / "red" / f"{name}.png", data / "test" / "red" / f"again{name}.png")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE))
    assert dataset.repeated == {"test": 2}
    assert len(dataset.warnings) == 1
    (data / "test").rename(data / "val")
    assert "14 pictures of val/" in str(load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25)).left_out)
    lines = [f"{file},{file.parent.name},train\n" for file in sorted((data / "train").glob("*/*"))]
    (data / "list.csv").write_text("".join([*lines, "gone.jpg,red,valid\n"]))
    listed = load_dataset(DataRequest(data / "list.csv", (32, 32), RECIPE, validation=0.25))
    assert (len(listed.train), len(listed.evaluation), str(listed.left_out)[:17]) == (36, 12, "1 pictures of val")


@pytest.mark.parametrize("changes", [{}, {"class_weights": "balanced"}, {"sampler": "balanced"}])
def test_weights_that_balance_are_advised_only_where_nothing_does(data: Path, changes: dict[str, Any]) -> None:
    for file in sorted((data / "train" / "red").iterdir())[1:]:
        file.unlink()
    (uneven,) = (
        text
        for text in load_dataset(DataRequest(data, (32, 32), replace(RECIPE, **changes))).warnings
        if "times as many" in text
    )
    assert ("--set class_weights=balanced" in uneven) == (not changes)


def test_pictures_of_test_that_val_has_too_are_a_warning(data: Path) -> None:
    shutil.copytree(data / "train", data / "val")
    for file in (data / "val").glob("*/*.png"):
        file.write_bytes(file.read_bytes() + b"behind its end")  # other files than those of train
    for split in ("val", "test"):
        (data / split / "red" / "empty.png").write_bytes(b"")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
    assert (dataset.test_in_val, dataset.warnings) == (0, [])
    for name in ("00", "01"):
        shutil.copy(data / "test" / "red" / f"{name}.png", data / "val" / "red" / f"again{name}.png")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
    assert (dataset.test_in_val, len(dataset.warnings), dataset.repeated) == (2, 1, {})
    held = load_dataset(DataRequest(data, (32, 32), RECIPE, validation=0.25, skip_unreadable=True))
    assert held.test_in_val == 0, "val/ is not used"


def test_pictures_to_judge_by_that_the_initial_weights_were_trained_on_are_a_warning(data: Path) -> None:
    def load(folder: Path, seed: int, before: TrainedOn | None = None) -> Dataset:
        return load_dataset(DataRequest(folder, (32, 32), replace(RECIPE, seed=seed), before=before))

    before = load(data / "train", 1).trained_on
    assert load(data / "train", 1, before=before).seen_before == {}, "the same share is held out"
    assert load(data, 1, before=before).seen_before == {}, "test/ is new"
    held = load(data / "train", 2, before=before)
    assert list(held.seen_before) == ["validation (0.2 of train)"]
    assert "--validation 0.2 --set seed=1" in held.warnings[0]
    (data / "train").rename(data / "learned")
    (data / "test").rename(data / "train")
    (data / "learned").rename(data / "test")
    tested = load(data, 1, before=before)
    assert tested.seen_before == {"test": 1.0}
    assert "(100 % of" in tested.warnings[0]


def test_a_picture_under_two_labels_is_a_warning(data: Path) -> None:
    for i, label in enumerate(("red", "blue")):
        (data / "train" / label / f"empty{i}.png").write_bytes(b"")
        (data / "test" / label / f"empty{i}.png").write_bytes(b"")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
    assert (dataset.contradicted, dataset.repeated, dataset.warnings) == (0, {}, [])
    shutil.copy(data / "train" / "red" / "00.png", data / "train" / "blue" / "red.png")
    dataset = load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
    assert (dataset.contradicted, len(dataset.warnings)) == (1, 1)


def test_a_label_whose_pictures_are_all_left_out_is_refused(data: Path) -> None:
    for picture in (data / "train" / "red").iterdir():
        picture.write_bytes(b"no picture at all")
    with pytest.raises(DataError, match="red"):
        load_dataset(DataRequest(data, (32, 32), RECIPE, skip_unreadable=True))
