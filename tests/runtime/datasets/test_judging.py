"""The pictures that a model is judged on, or calibrated by, from folders and tars of any layout."""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from taijitu_runtime.card import ModelCard
from taijitu_runtime.datasets import calibration_and_judging, evaluation_pictures
from taijitu_runtime.errors import DataError
from tests.helpers.machine_tree import as_nobody
from tests.helpers.painted import paint
from tests.helpers.tiny_model import COLOURS, card_dict


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write test/<colour>/*.png and train/<colour>/*.png: 4 pictures of each colour in both."""
    paint(tmp_path / "data" / "test", 4)
    paint(tmp_path / "data" / "train", 4)
    return tmp_path / "data"


def test_every_layout_of_pictures_is_found(data: Path, tmp_path: Path) -> None:
    def kind(source: Path) -> tuple[str, int, bool]:
        found = evaluation_pictures(source, COLOURS)
        return found.split, len(found), found.targets is not None

    assert kind(data) == ("test", 12, True)
    assert kind(data / "train") == ("", 12, True)
    assert kind(data / "test" / "red") == ("", 4, False)
    paint(tmp_path / "other" / "val", 1)
    assert kind(tmp_path / "other") == ("val", 3, True)
    for name, top in (("whole.tar.gz", data), ("labels.tar.xz", data / "train"), ("loose.tar", data / "test" / "red")):
        with tarfile.open(tmp_path / name, f"w:{Path(name).suffix[1:].replace('tar', '')}") as archive:
            archive.add(top, arcname="." if name.startswith("whole") else "top")
        assert kind(tmp_path / name) == kind(top)


def test_a_folder_that_cannot_be_read_is_not_left_out() -> None:
    with TemporaryDirectory() as name:  # not in tmp_path, whose parents are root's alone if root runs the tests
        folder = Path(name)
        paint(folder / "test", 1)
        folder.chmod(0o755)
        (folder / "test" / "red").chmod(0)
        with as_nobody(), pytest.raises(DataError, match=r"red.*\(Permission denied"):
            evaluation_pictures(folder, COLOURS)
        (folder / "test" / "red").chmod(0o700)


def test_a_tar_gives_the_pixels_and_labels_of_its_folder(data: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "data.tar.xz", "w:xz") as archive:
        archive.add(data, arcname=".")
    spec = ModelCard.from_dict(card_dict()).input
    folder, tar = (evaluation_pictures(source, COLOURS) for source in (data, tmp_path / "data.tar.xz"))
    order = np.argsort([Path(name).as_posix() for name in tar.names])
    np.testing.assert_array_equal(tar.array(spec)[order], folder.array(spec))
    assert tar.targets is not None
    np.testing.assert_array_equal(tar.targets[order], folder.targets)
    picked = tar.subset(np.array([1, 5, 11]))
    np.testing.assert_array_equal(picked.array(spec), tar.array(spec)[[1, 5, 11]])


def test_pictures_never_both_calibrate_and_judge(data: Path) -> None:
    calibrating, judging = calibration_and_judging(data, COLOURS, 6)
    assert (calibrating.split, len(calibrating), judging.split, len(judging)) == ("train", 6, "test", 12)
    assert {name.split("/")[1] for name in calibrating.names} == set(COLOURS)
    calibrating, judging = calibration_and_judging(data / "train", COLOURS, 100)
    assert (len(calibrating), len(judging)) == (6, 6)
    assert not set(calibrating.names) & set(judging.names)


def test_copies_that_cannot_be_decoded_do_not_count(data: Path) -> None:
    for name in ("red/a.png", "blue/b.png"):
        (data / "test" / name).write_bytes(b"damaged")
    found = evaluation_pictures(data, COLOURS)
    assert len(found.cautions) == 1
    assert not found.readable(ModelCard.from_dict(card_dict()).input).cautions


@pytest.mark.parametrize("path", [".", "../data", "test/.."])
def test_a_folder_has_its_name_by_any_path(data: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(data)
    assert str(evaluation_pictures(Path(path), COLOURS)) == "12 pictures of data/test"
