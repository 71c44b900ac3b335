"""`taijitu adopt --find`: the contract of a network that says nothing of it, found by labelled pictures."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from taijitu_export.adopt.cli import build_parser, main
from taijitu_export.adopt.finding import candidate_answers
from taijitu_export.adopt.finding.candidate_answers import CandidateAnswers
from taijitu_export.adopt.finding.candidates import flags
from taijitu_export.adopt.finding.find import FoundContract, UndecidedError, find_contract
from taijitu_export.adopt.finding.label_order import score_by_halves
from taijitu_export.adopt.onnx_from_foreign import standard_graph
from taijitu_export.adopt.original import Original
from taijitu_export.adopt.preprocessing import Preprocessing, Resize
from taijitu_export.api import adopt
from taijitu_export.onnx.onnx_file import read_onnx
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import DataError, UsageError
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_runtime.pictures.resizing.resize import resize_picture

SIDE = 8
LABELS = ("apple", "brick", "cloud", "daisy")
TRUTH = InputSpec(
    height=SIDE,
    width=SIDE,
    colour="BGR",
    resize="letterbox",
    resize_size=SIDE,
    interpolation="bilinear_opencv",
    scale=1.0,
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    fill=(255, 255, 255),
)

pytestmark = pytest.mark.usefixtures("quick_passport")

CAFFE = ["--scale", "1", "--std", "1", "--mean", *map(str, TRUTH.mean)]


def drawn_pictures(count: int, *, square: bool = False, seed: int = 3) -> tuple[list[NDArray[np.uint8]], NDArray[Any]]:
    """Noisy pictures larger than the network's input: two labels differ in colour, two in a texture.

    OpenCV's filters, which do not antialias, see the texture as a lighter picture; the others see none.
    """
    lot = np.random.default_rng(seed)
    targets = np.arange(count) % len(LABELS)
    pictures = []
    for target in targets:
        height, width = (34, 34) if square else lot.permutation([20, 34])
        y, x = np.mgrid[:height, :width] + 0.5
        slope = np.stack([x / width, y / height, 1 - x / width], axis=2)
        tint = np.array([60.0, 10.0, -50.0]) * (1 if target % 2 else -1) * slope
        texture = np.cos(2 * np.pi * SIDE / 34 * x) * np.cos(2 * np.pi * SIDE / 34 * y) * (40 if target < 2 else 0)
        noise = lot.normal(0, 25, (height, width, 3)) + lot.normal(0, 8, 3)
        pictures.append((128 + tint + texture[..., None] + noise).clip(0, 255).astype(np.uint8))
    return pictures, targets


def write_network(path: Path, truth: InputSpec, *, square: bool = False) -> Path:
    """Return a linear network, fitted to pictures that are prepared as `truth` says."""
    pictures, targets = drawn_pictures(400, square=square, seed=4)
    planes = normalise(np.stack([resize_picture(each, truth) for each in pictures]), truth).reshape(len(pictures), -1)
    middle, size = planes.mean(axis=0), planes.std()
    features = (planes - middle) / size
    wanted = 6.0 * (np.eye(len(LABELS))[targets] - 1 / len(LABELS))
    found = np.linalg.solve(features.T @ features + 20 * np.eye(features.shape[1]), features.T @ wanted) / size
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(LABELS)])],
        [
            numpy_helper.from_array(found.astype(np.float32), "w"),
            numpy_helper.from_array((-middle @ found).astype(np.float32), "b"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_pictures(folder: Path, pictures: list[NDArray[np.uint8]], names: list[str]) -> Path:
    for number, (pixels, name) in enumerate(zip(pictures, names)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a network and its pictures."""
    folder = tmp_path_factory.mktemp("detective")
    pictures, targets = drawn_pictures(120)
    network = write_network(folder / "network.onnx", TRUTH)
    return network, write_pictures(folder / "data", pictures, [LABELS[target] for target in targets])


def find(network: Path, data: Path, **known: Any) -> FoundContract:
    file = read_onnx(network)
    return find_contract(Original(file), standard_graph(file.model).model, Preprocessing(**known), data)


def test_the_contract_is_found_and_each_alternative_has_its_price(case: tuple[Path, Path]) -> None:
    found = find(*case, labels=LABELS, interpolation="bilinear_opencv")
    assert found.spec == TRUTH
    assert found.labels == LABELS
    assert found.score.percent > 95
    costs = {each.instead: each.points for each in found.alternatives}
    assert costs["RGB"] > 5
    assert {"stretch", "letterbox:8:black", "0 to 1"} <= costs.keys()


def test_resized_pictures_take_a_limited_memory_and_give_the_same_answers(
    case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = find(*case, labels=LABELS, interpolation="bilinear_opencv")
    most, held = 2 * 120 * SIDE * SIDE * 3, []
    let_go = CandidateAnswers._let_go

    def spy(self: CandidateAnswers, picture_bytes: int) -> None:
        let_go(self, picture_bytes)
        held.append(sum(each.nbytes for resized in self._resized.values() for each in resized.values()))

    monkeypatch.setattr(candidate_answers, "HELD_BYTES", most)
    monkeypatch.setattr(CandidateAnswers, "_let_go", spy)
    found = find(*case, labels=LABELS, interpolation="bilinear_opencv")
    assert (found.spec, found.to_dict()) == (usual.spec, usual.to_dict())
    assert most / 2 < max(held) <= most


def test_filters_that_make_no_difference_are_named_and_the_others_are_not(case: tuple[Path, Path]) -> None:
    with pytest.raises(UndecidedError) as caught:
        find(*case, labels=LABELS)
    assert {spec.interpolation for spec in caught.value.candidates} == {"bilinear_opencv", "bicubic_opencv"}
    assert TRUTH in caught.value.candidates


def test_what_is_given_stays_and_the_rest_is_searched(case: tuple[Path, Path]) -> None:
    found = find(*case, labels=LABELS, interpolation="bicubic_opencv", colour="BGR")
    assert found.spec == dataclasses.replace(TRUTH, interpolation="bicubic_opencv")


def test_the_labels_order_is_found_where_none_is_given_or_a_wrong_one(case: tuple[Path, Path]) -> None:
    fixed = {"resize": Resize("letterbox", 8, (255,) * 3), "interpolation": "bilinear_opencv", "colour": "BGR"}
    network, data = case
    renamed = dict(zip(LABELS, ("d", "b", "a", "c")))
    other = data.parent / "renamed"
    for label, name in renamed.items():
        other.mkdir(exist_ok=True)
        (other / name).symlink_to(data / label)
    assert find(network, other, **fixed).labels == ("d", "b", "a", "c")
    wrong = find(network, data, labels=("brick", "apple", "cloud", "daisy"), **fixed)
    assert wrong.labels == LABELS
    assert wrong.reordered is not None


def test_a_perfect_network_explains_every_picture_wherever_the_pictures_of_a_label_are() -> None:
    """Labels 0 and 1 are at even places alone: halves by place would not have both."""
    order = np.array([1, 0, 3, 2])
    targets = np.array([0, 2, 1, 3] * 4)
    logits = 10 * np.eye(4, dtype=np.float32)[order[targets]]
    assert score_by_halves(logits, targets).percent == 100


def test_square_pictures_cannot_tell_the_resize_and_are_refused_with_all_that_it_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, targets = drawn_pictures(200, square=True)
    network = write_network(tmp_path / "network.onnx", TRUTH, square=True)
    data = write_pictures(tmp_path / "data", pictures, [LABELS[target] for target in targets])
    with pytest.raises(UndecidedError) as caught:
        find(network, data, labels=LABELS)
    assert TRUTH in caught.value.candidates
    assert {spec.resize for spec in caught.value.candidates} == {"stretch", "shorter_side", "letterbox"}
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    usual = ["--labels", str(tmp_path / "labels.txt"), "--find", "--data", str(data)]
    assert main([str(network), "-o", str(tmp_path / "a.onnx"), *usual]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "--resize stretch" in said
    assert not (tmp_path / "a.onnx").exists()
    usual += ["--resize", "stretch", "--color", "bgr", *CAFFE, "--json"]
    assert main([str(network), "-o", str(tmp_path / "a.onnx"), *usual]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert found["top1_percent"] > 80
    assert {each["instead"] for each in found["alternatives"]} >= {"interpolation bilinear", "interpolation bicubic"}


def test_answers_at_chance_are_refused(case: tuple[Path, Path], tmp_path: Path) -> None:
    network, data = case
    mixed = np.random.default_rng(1).permutation(sorted(path for path in data.rglob("*.png")))
    names = [LABELS[index % len(LABELS)] for index in range(len(mixed))]
    noise = write_pictures(tmp_path / "noise", [np.asarray(Image.open(path)) for path in mixed], names)
    for labels in (LABELS, None):
        with pytest.raises(UndecidedError) as caught:
            find(network, noise, labels=labels)
        assert caught.value.candidates == ()
        shares = re.search(r"got ([\d.]+) % .* at least ([\d.]+) %", str(caught.value))
        assert shares is not None
        assert float(shares[1]) < float(shares[2])
        assert 25 < float(shares[2]) < 60, "a little more than chance is chance too, of so few pictures"


def test_what_cannot_be_searched_is_refused_in_one_line(case: tuple[Path, Path], tmp_path: Path) -> None:
    network, data = case
    few = write_pictures(tmp_path / "few", drawn_pictures(8)[0], [LABELS[index % 4] for index in range(8)])
    with pytest.raises(DataError):
        adopt(network, tmp_path / "a.onnx", labels=LABELS, find=few)
    with pytest.raises(UsageError):
        adopt(network, tmp_path / "a.onnx", labels=LABELS[:3], find=data)
    assert main([str(network), "-o", str(tmp_path / "a.onnx"), "--find"]) == 2
    assert main([str(network), "-o", str(tmp_path / "a.onnx"), "--data", str(data)]) == 2


def test_flags_that_were_found_give_the_same_numbers() -> None:
    clip = dataclasses.replace(TRUTH, scale=1 / 255.5, mean=(0.48145466, 0.4578275, 0.40821073), std=(1 / 3, 1e-5, 0.2))
    told = flags(clip, ["numbers"]).split()
    given = build_parser().parse_args(["model.onnx", "-o", "out.onnx", *told])
    assert (given.scale, tuple(given.mean), tuple(given.std)) == (clip.scale, clip.mean, clip.std)
