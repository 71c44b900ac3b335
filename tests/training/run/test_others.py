"""`--other LABEL`: pictures of none of the labels make the network unsure, and are neither a label nor judged."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taijitu_runtime.datasets import TrainedOn, calibration_and_judging, evaluation_and_other_pictures
from taijitu_runtime.errors import DataError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.cli import main
from taijitu_training.data import DataRequest, load_dataset
from taijitu_training.recipes.named import RECIPES

SHORT = ["--model", "yynet_small_16", "--set", "epochs=5", "--set", "batch_size=8", "--set", "pad=2"]


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write tiny_data with 30 green pictures in train/grass and 6 in test/grass: between `blue` and `red`."""
    folder = shutil.copytree(tiny_data, tmp_path_factory.mktemp("others") / "data")
    generator = np.random.default_rng(1)
    for split, count in (("train", 30), ("test", 6)):
        (folder / split / "grass").mkdir()
        for i in range(count):
            pixels = generator.integers(0, 120, (36, 40, 3), dtype=np.uint8)
            pixels[..., 1] += 100
            Image.fromarray(pixels).save(folder / split / "grass" / f"{i:02d}.png")
    return folder


def sureness(trained: Checkpoint, folder: Path) -> float:
    """Return the mean probability of the likeliest label."""
    spec = trained.input
    pixels = np.stack([np.asarray(Image.open(file).resize((32, 32))) for file in sorted(folder.iterdir())])
    images = (torch.from_numpy(pixels) / 255 - torch.tensor(spec["mean"])) / torch.tensor(spec["std"])
    with torch.no_grad():
        return float(trained.model()(images.permute(0, 3, 1, 2)).softmax(1).amax(1).mean())


def test_the_network_is_less_sure_of_them_than_of_its_labels(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, "--data", str(data), "--out", str(tmp_path / "run"), "--other", "grass"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "78 to train (30 of them of none of the labels), 12 to evaluate" in first
    assert "2 labels: blue 24, red 24" in first
    final = checkpoint.load(tmp_path / "run" / "final.pt")
    assert (final.labels, final.architecture.options["num_classes"]) == (["blue", "red"], 2)
    assert (final.training["other"], final.training["other_pictures"]) == ("grass", 30)
    assert final.training["metrics"]["eval_top1"] == 100.0
    assert sureness(final, data / "test" / "grass") < sureness(final, data / "test" / "red") - 0.1
    judged, others = evaluation_and_other_pictures(data, ("blue", "red"), TrainedOn.from_card(final.training))
    assert (len(judged), len(others), judged.label_counts) == (12, 6, {"blue": 6, "red": 6})
    assert "6 pictures of 'grass'" in str(judged.left_out)
    calibrating, judging = calibration_and_judging(data, ("blue", "red"), 100, TrainedOn.from_card(final.training))
    assert (len(calibrating), len(judging)) == (48, 12)
    assert main([*SHORT, "--data", str(data), "--out", str(tmp_path / "run"), "--resume"]) == 2


def test_some_of_them_are_held_out_where_there_are_no_splits(data: Path) -> None:
    found = load_dataset(DataRequest(data / "train", (32, 32), RECIPES["yynet_cifar10"], other="grass"))
    assert (found.labels, found.others, len(found.train), len(found.evaluation)) == (("blue", "red"), 24, 62, 10)
    judged, others = evaluation_and_other_pictures(data / "train", found.labels, found.trained_on)
    assert (len(judged), len(others)) == (10, 6)


def test_others_may_be_elsewhere_or_a_label_of_the_network_too(data: Path) -> None:
    found = load_dataset(DataRequest(data, (32, 32), RECIPES["yynet_cifar10"], other="grass"))
    for other in (str(data / "train" / "grass"), "red"):
        judged, others = evaluation_and_other_pictures(data, found.labels, found.trained_on, other)
        assert (judged.label_counts, judged.labels) == ({"blue": 6, "red": 6}, ("blue", "red"))
        assert "6 pictures of 'grass'" in str(judged.left_out)
    judged, others = evaluation_and_other_pictures(data, ("blue",), found.trained_on, "red")
    assert (judged.label_counts, len(others)) == ({"blue": 6}, 6)
    assert "6 pictures of 'grass', none of the labels, 6 pictures of 'red'" in str(judged.left_out)


@pytest.mark.parametrize(("other", "fact"), [("gras", "grass"), ("nothing", "blue")])
def test_a_label_that_the_data_lacks_is_refused(data: Path, other: str, fact: str) -> None:
    with pytest.raises(DataError, match=fact):
        load_dataset(DataRequest(data, (32, 32), RECIPES["yynet_cifar10"], other=other))


def test_an_umlaut_of_macos_names_them_too(data: Path, tmp_path: Path) -> None:
    folder, name = shutil.copytree(data, tmp_path / "data"), unicodedata.normalize("NFD", "übrig")
    for split in ("train", "test"):
        (folder / split / "grass").rename(folder / split / name)
    run = [*SHORT, "--set", "epochs=1", "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main([*run, "--other", name]) == 0
    assert checkpoint.load(tmp_path / "run" / "final.pt").training["other"] == "übrig"


def test_two_labels_must_be_left(tiny_data: Path) -> None:
    with pytest.raises(DataError, match="only the label 'red'"):
        load_dataset(DataRequest(tiny_data, (32, 32), RECIPES["yynet_cifar10"], other="blue"))
