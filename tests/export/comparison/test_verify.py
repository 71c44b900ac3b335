"""verify: the verdict, its evidence, what it does not judge, and the layer that it names."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from taijitu_export.comparison import cli as verify_cli
from taijitu_export.comparison.classes import (
    calibration_error,
    coverage_and_accuracy,
    first_answers,
    reliability,
)
from taijitu_export.comparison.divergence import divergence
from taijitu_export.comparison.reference import CheckpointClassifier, open_reference
from taijitu_export.comparison.verify import verify_file
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.datasets import (
    HeldOut,
    TrainedOn,
    calibration_and_judging,
    fingerprints,
    read_dataset,
)
from taijitu_runtime.datasets.found import Content
from taijitu_runtime.datasets.picture_set import prepare
from taijitu_runtime.errors import UsageError
from tests.helpers import pretend_tensorrt
from tests.helpers.changed_model import with_card
from tests.helpers.decision import make_decision
from tests.helpers.full_disk import full_disk
from tests.helpers.painted import PAINT, paint
from tests.helpers.tiny_model import COLOURS, card_dict, make_tiny_onnx

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write test/<colour>/*.png and train/<colour>/*.png: 4 pictures of each colour in both."""
    paint(tmp_path / "data" / "test", 4)
    paint(tmp_path / "data" / "train", 4)
    return tmp_path / "data"


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the object of --json."""
    code = verify_cli.main([*map(str, arguments), "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, json.loads(printed.out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the only line on stderr of a refused call."""
    assert verify_cli.main(list(map(str, arguments))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def changed(source: Path, output: Path, change: Change) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, output)
    return output


def scale_weights(model: onnx.ModelProto, name: str, factor: float) -> None:
    weights = next(constant for constant in model.graph.initializer if constant.name == name)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(factor), name))


def test_few_pictures_of_a_model_like_its_reference_show_little_and_it_says_how_many_would(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, candidate = make_tiny_onnx(tmp_path / "a.onnx"), make_tiny_onnx(tmp_path / "b.onnx", scale=1.001)
    arguments = [str(candidate), "--data", str(data), "--reference", str(reference)]
    assert verify_cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("not shown: ")
    assert "3,688" in lines[0]
    assert lines[1] == "judged on 12 pictures of data/test"
    assert [line.split() for line in lines if line.startswith("top-1")] == [["top-1", "100.00", "%", "100.00", "%"]]
    assert not any(line.startswith("top-5") for line in lines), "three classes have no first five"
    code, found = verify(capsys, *arguments, "--require-certain")
    assert (code, found["verdict"], found["pictures_to_show"], found["fine"]) == (1, "not shown", 3688, False)
    code, found = verify(capsys, *arguments, "--require-certain", "--max-drop", "27")
    assert (code, found["verdict"]) == (0, "fine")
    low, high = found["comparison"]["drop_interval_points"]
    assert low == -high == pytest.approx(-26.46, abs=0.01)


def test_a_model_that_answers_otherwise_is_not(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, candidate = make_tiny_onnx(tmp_path / "a.onnx"), make_tiny_onnx(tmp_path / "b.onnx", scale=-1.0)
    assert verify_cli.main([str(candidate), "--data", str(data), "--reference", str(reference)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("NOT FINE: ")
    assert "100.00 points" in printed.splitlines()[0]
    assert "test/red/0.png: red became green, margin" in printed
    code, found = verify(capsys, candidate, "--data", data, "--reference", reference, "--max-drop", "100")
    assert (code, found["fine"], found["max_drop_points"]) == (0, True, 100.0)
    assert len(found["comparison"]["flips"]) == 12
    assert (found["comparison"]["lost"], found["comparison"]["gained"]) == (12, 0)
    assert found["comparison"]["agreement_percent"] == 0.0
    assert found["accuracy"]["candidate"]["top1_percent"] == 0.0


def test_nan_is_a_wrong_answer_and_never_fine(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, candidate = make_tiny_onnx(tmp_path / "a.onnx"), make_tiny_onnx(tmp_path / "b.onnx", scale=3e38)
    code, found = verify(capsys, candidate, "--data", data, "--reference", reference, "--max-drop", "100")
    assert (code, found["not_finite_pictures"]) == (1, 12)
    assert found["accuracy"]["candidate"]["top1_percent"] == 0.0
    code, found = verify(capsys, candidate)
    assert code == 1
    assert found["not_finite_pictures"] > 0
    assert found["verdict"] == "not fine"
    assert refused(capsys, reference, "--reference", candidate).endswith("expected a sound reference; give another\n")


def test_a_calibration_error_of_no_number_is_not_printed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, page = make_tiny_onnx(tmp_path / "a.onnx", scale=math.nan), tmp_path / "page.html"
    assert verify_cli.main([str(model), "--data", str(data), "--report", str(page)]) == 1
    for text in (capsys.readouterr().out, page.read_text()):
        assert "nan " not in text.replace("NaN", "")


def test_labels_in_another_order_are_matched_by_name(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = make_tiny_onnx(tmp_path / "a.onnx")

    def reverse(model: onnx.ModelProto) -> None:
        for constant in model.graph.initializer:
            if constant.name in ("weights", "bias"):
                flipped = np.ascontiguousarray(numpy_helper.to_array(constant)[..., ::-1])
                constant.CopyFrom(numpy_helper.from_array(flipped, constant.name))
        card = ModelCard.from_dict(card_dict(COLOURS[::-1]))
        onnx.helper.set_model_props(model, card.to_metadata())

    candidate = changed(reference, tmp_path / "b.onnx", reverse)
    code, found = verify(capsys, candidate, "--data", data, "--reference", reference)
    assert code == 0
    assert found["comparison"]["max_logit_difference"] == 0.0
    assert found["accuracy"]["candidate"]["top1_percent"] == 100.0


def test_labels_that_differ_are_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidate = make_tiny_onnx(tmp_path / "a.onnx")
    reference = make_tiny_onnx(tmp_path / "b.onnx", labels=("red", "green", "violet"))
    assert "got the label 'blue' in the candidate" in refused(capsys, candidate, "--reference", reference)


def test_models_of_other_pictures_are_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidate, reference = make_tiny_onnx(tmp_path / "a.onnx"), make_tiny_onnx(tmp_path / "b.onnx", size=(9, 9))
    assert "got input.height 8 for the candidate and 9 for the ref" in refused(
        capsys, candidate, "--reference", reference
    )


def test_without_labels_the_logits_error_judges(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, unlabelled = make_tiny_onnx(tmp_path / "a.onnx"), data / "test" / "red"
    for scale, expected in ((1.00001, 0), (1.001, 1), (-1.0, 1)):
        candidate = make_tiny_onnx(tmp_path / "b.onnx", scale=scale)
        arguments = (candidate, "--data", unlabelled, "--reference", reference)
        assert "--max-drop 5" in refused(capsys, *arguments, "--max-drop", "5"), "no drop is judged"
        code, found = verify(capsys, *arguments)
        assert (code, found["verdict"]) == (expected, "not fine" if expected else "fine")
        assert any("no labels" in what for what in found["not_judged"])
        assert found["picture_count"] == 4
        assert found["accuracy"] == {"candidate": None, "reference": None}
        assert found["comparison"]["lost"] is None


def test_without_data_generated_pictures_judge_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = make_tiny_onnx(tmp_path / "a.onnx")
    code, found = verify(capsys, reference, "--reference", reference)
    assert (code, found["verdict"], found["pictures"]) == (0, "fine", "64 generated pictures")
    assert "--data" in found["not_judged"][0]


@pytest.mark.parametrize(
    ("recorded", "scale", "options", "code", "verdict"),
    [
        (100.0, 1.0, [], 0, "not shown"),  # 12 of 12 could be 74 %
        (70.0, 1.0, [], 0, "fine"),
        (100.0, -1.0, [], 1, "not fine"),
        (100.0, 1.0, ["--expect", "70"], 0, "fine"),
        (None, 1.0, ["--expect", "70"], 0, "fine"),
        (None, -1.0, ["--expect", "70"], 1, "not fine"),
        (None, 1.0, [], 0, "not shown"),  # compared with nothing
        (None, -1.0, [], 1, "not judged"),
    ],
)
def test_without_a_reference_what_is_expected_or_recorded_is_the_measure(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recorded: float | None,
    scale: float,
    options: list[str],
    code: int,
    verdict: str,
) -> None:
    metrics = {} if recorded is None else {"eval_top1": recorded}
    card = card_dict(training={"metrics": metrics})
    candidate = make_tiny_onnx(tmp_path / "a.onnx", card=card, scale=scale)
    got, found = verify(capsys, candidate, "--data", data, *options)
    assert (got, found["verdict"]) == (code, verdict)
    assert any("--reference" in what for what in found["not_judged"])


@pytest.mark.parametrize(
    ("split", "evaluation", "metrics", "verdict"),
    [
        ("test", "val", {"eval_top1": 100.0, "test_top1": 70.0}, "fine"),
        ("test", "val", {"eval_top1": 100.0, "test_top1": 100.0}, "not fine"),
        ("test", "validation (0.2 of train)", {"eval_top1": 100.0}, "not shown"),  # compared with nothing
        ("test", "test", {"eval_top1": 100.0}, "not fine"),
        ("val", "val", {"eval_top1": 100.0, "test_top1": 70.0}, "not fine"),
        ("val", "test", {"eval_top1": 100.0}, "not shown"),
    ],
)
def test_the_recorded_accuracy_is_that_of_the_split_that_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, evaluation: str, metrics: Any, verdict: str
) -> None:
    folder = tmp_path / "data" / split
    paint(folder, 40)
    for index in range(12):  # a tenth of the pictures have another label
        (folder / "red" / f"{index}.png").write_bytes((folder / "blue" / f"{index}.png").read_bytes())
    card = card_dict(tuple(PAINT), training={"evaluation": evaluation, "metrics": metrics})
    model = make_tiny_onnx(tmp_path / "a.onnx", labels=tuple(PAINT), card=card)
    _, found = verify(capsys, model, "--data", tmp_path / "data")
    assert found["verdict"] == verdict
    if "compared with nothing" in found["reason"]:
        assert f"no accuracy of {split}" in found["reason"], "the card records that of another split"


def test_pictures_of_one_label_alone_judge_nothing_and_the_others_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = make_tiny_onnx(tmp_path / "a.onnx")
    for label in ("green", "blue"):
        shutil.rmtree(data / "test" / label)
    code, found = verify(capsys, candidate, "--data", data)
    assert (code, found["verdict"]) == (1, "not judged"), "always answering red has 100 % too"
    assert any("'green', 'blue'" in what for what in found["not_judged"])
    code, found = verify(capsys, candidate, "--data", data, "--expect", "35", "--max-drop", "0")
    assert (code, found["verdict"]) == (1, "not judged"), "always answering red passes that bar too"


def test_a_drop_takes_something_that_it_is_judged_by(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_dict(("red",), output="probabilities")
    model, one = make_tiny_onnx(tmp_path / "a.onnx"), make_tiny_onnx(tmp_path / "1.onnx", labels=("red",), card=card)
    red = shutil.copytree(data / "test" / "red", tmp_path / "one" / "red").parent
    for arguments in ((model, "--data", data), (one, "--data", red, "--reference", one)):
        assert "--max-drop 5" in refused(capsys, *arguments, "--max-drop", "5")
        assert verify(capsys, *arguments)[1]["verdict"] != "not fine"
    verify(capsys, model, "--data", data, "--expect", "70", "--max-drop", "5")


def test_expecting_an_accuracy_takes_labels(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    for options in ([], ["--data", data / "test" / "red"], ["--data", data, "--reference", model]):
        assert "70 %" in refused(capsys, model, "--expect", "70", *options)


@pytest.mark.parametrize("value", [-1.0, 101.0, math.nan])
def test_percentages_outside_their_range_are_wrong_usage_without_a_command_line_too(
    value: float, data: Path, tmp_path: Path
) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match=f"--expect {value:g}"):
        verify_file(model, data, expect=value)
    with pytest.raises(UsageError, match=f"--max-drop {value:g}"):
        verify_file(model, data, max_drop=value)


def test_a_float32_model_and_one_of_a_fixed_batch_are_judged_alike(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = make_tiny_onnx(tmp_path / "a.onnx")
    candidate = make_tiny_onnx(tmp_path / "b.onnx", layout="float32", batch=5)
    code, found = verify(capsys, candidate, "--data", data, "--reference", reference)
    assert (code, found["comparison"]["flips"]) == (0, [])


@pytest.mark.parametrize(("train", "test"), [("training", "testing"), ("train", "valid"), ("Train", "Test")])
def test_training_pictures_are_never_judged_for_any_names_of_the_splits(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], train: str, test: str
) -> None:
    (data / "train").rename(data / "moved")
    (data / "test").rename(data / test)
    (data / "moved").rename(data / train)
    code, found = verify(capsys, make_tiny_onnx(tmp_path / "a.onnx"), "--data", data)
    assert (code, found["picture_count"], found["pictures"]) == (0, 12, f"12 pictures of data/{test}")
    calibrating, judging = calibration_and_judging(data, COLOURS, 100)
    assert (calibrating.split, len(calibrating), judging.split, len(judging)) == (train, 12, test, 12)


def test_wrong_pictures_are_one_line_that_names_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.tar").write_bytes(b"no tar")
    paint(tmp_path / "only" / "train", 1)
    paint(tmp_path / "named", 1)
    (tmp_path / "named" / "red").rename(tmp_path / "named" / "rouge")
    assert "no such file or folder" in refused(capsys, model, "--data", tmp_path / "missing")
    assert "got no picture in it" in refused(capsys, model, "--data", tmp_path / "empty")
    assert "no.tar: got a file of the kind text" in refused(capsys, model, "--data", tmp_path / "no.tar")
    assert "got train/ alone" in refused(capsys, model, "--data", tmp_path / "only")
    assert "got 'rouge' for labels" in refused(capsys, model, "--data", tmp_path / "named")
    (data / "test" / "red" / "1.png").write_bytes(b"no picture")
    for part in ("test/red/1.png: got no picture", "--skip-unreadable"):
        assert part in refused(capsys, model, "--data", data)
    assert "--data" in refused(capsys, model, "--skip-unreadable")
    _, report = verify(capsys, model, "--data", data, "--skip-unreadable")
    assert report["label_counts"] == {"red": 3, "green": 4, "blue": 4}
    assert [name.split()[0] for name in report["left_out"]["named"]] == [str(Path("test", "red", "1.png"))]
    card = ModelCard.from_dict(card_dict())
    assert len(CalibrationData.of_data(data, card, skip_unreadable=True).evaluation) == 11
    for path in (data / "test").glob("*/*.png"):
        path.write_bytes(b"no picture")
    assert "no picture that can be decoded" in refused(capsys, model, "--data", data, "--skip-unreadable")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--max-drop", "-1"], "from 0 to 100"),
        (["--max-drop", "nan"], "from 0 to 100"),
        (["--max-drop", "1"], "give --data with labels"),
        (["--explain"], "give --reference"),
        (["--reference", "missing.onnx"], "missing.onnx: got no such file"),
        (["--reference", "x" * 5000], "expected a model file"),
        (["--data", "x" * 5000], "expected train/<label>"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert text in refused(capsys, make_tiny_onnx(tmp_path / "a.onnx"), *arguments)


def middle_layer(model: Path) -> str:
    """Return the weights of the convolution in the middle."""
    convolutions = [node for node in onnx.load(model).graph.node if node.op_type == "Conv"]
    return str(convolutions[len(convolutions) // 2].input[1])


def test_explain_names_the_layer_whose_weights_are_wrong(
    shipped_onnx: Path, shipped_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guilty = middle_layer(shipped_onnx)
    candidate = changed(shipped_onnx, tmp_path / "bad.onnx", lambda model: scale_weights(model, guilty, 0.3))
    code, found = verify(capsys, candidate, "--reference", shipped_checkpoint, "--explain")
    assert code == 1
    assert found["divergence"]["first"] == guilty.removeprefix("model.").removesuffix(".weight")
    layer = next(x for x in found["divergence"]["layers"] if x["name"] == found["divergence"]["first"])
    assert layer["before"] < 1e-5 < 0.1 < layer["error"]
    assert verify_cli.main([str(candidate), "--reference", str(shipped_onnx), "--explain"]) == 1
    assert f"first layer that diverges: {found['divergence']['first']} (Conv): " in capsys.readouterr().out


def test_an_engine_as_reference_has_no_layers_to_explain_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_tensorrt.pretend(
        tmp_path / "model.engine", pretend_tensorrt.COLOURS, monkeypatch, card=ModelCard.from_dict(card_dict())
    )
    candidate = make_tiny_onnx(tmp_path / "candidate.onnx", scale=-1.0)
    code, found = verify(capsys, candidate, "--reference", tmp_path / "model.engine", "--explain")
    assert (code, found["fine"]) == (1, False)
    assert "engine" in found["divergence"]["not_explained"]


def test_layers_of_other_names_are_matched_by_their_order(shipped_onnx: Path) -> None:
    guilty = middle_layer(shipped_onnx)
    reference, candidate = onnx.load(shipped_onnx), onnx.load(shipped_onnx)
    scale_weights(candidate, guilty, 0.3)
    del candidate.graph.value_info[:]
    for node in candidate.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"other_{name}" if name not in ("images", "logits") else name for name in names]
    for constant in candidate.graph.initializer:
        constant.name = f"other_{constant.name}"
    found = divergence(candidate, reference, sample_pictures(2, 32, 32))
    assert found.first.name == guilty.removeprefix("model.").removesuffix(".weight")


def test_a_fine_model_needs_no_explanation(shipped_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys, shipped_onnx, "--reference", shipped_onnx, "--explain")
    assert (code, found["divergence"]) == (0, None)


def test_equal_models_that_too_few_pictures_judge_have_no_layer_that_diverges(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    code, found = verify(capsys, model, "--reference", model, "--data", data, "--explain")
    assert (code, found["verdict"]) == (0, "not shown")
    assert found["divergence"].keys() == {"not_explained"}


def test_real_pictures_through_the_shipped_checkpoint_and_its_export_agree(
    shipped_checkpoint: Path, shipped_onnx: Path, cifar_subset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verify(capsys, shipped_onnx, "--data", cifar_subset, "--reference", shipped_checkpoint)
    assert code == 0
    assert (found["picture_count"], found["comparison"]["flips"], found["verdict"]) == (300, [], "not shown")
    assert found["comparison"]["max_logit_difference"] < 1e-3
    assert found["accuracy"]["candidate"] == found["accuracy"]["reference"]
    assert found["accuracy"]["candidate"]["top1_percent"] > 75
    assert found["accuracy"]["candidate"]["top5_percent"] > 95


def test_threads_hold_for_the_checkpoint_too(shipped_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    for threads in (before + 1, 0):
        with open_reference(shipped_checkpoint, threads) as reference:
            assert isinstance(reference, CheckpointClassifier)
            reference._network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
            reference.logits(sample_pictures(1, 32, 32))
    assert seen == [before + 1, before]
    assert torch.get_num_threads() == before


def test_threads_hold_for_decoding_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def noted(content: Content, spec: InputSpec) -> NDArray[np.uint8]:
        seen.add(threading.current_thread().name)
        return prepare(content, spec)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr("taijitu_runtime.datasets.picture_set.prepare", noted)
    verify_file(make_tiny_onnx(tmp_path / "model.onnx"), data, threads=1, skip_unreadable=True)
    assert {name.rpartition("_")[2] for name in seen} == {"0"}


def test_the_documented_script_runs_by_itself(root: Path, tmp_path: Path) -> None:
    packages = os.pathsep.join(str(root / folder) for folder in ("training", "export", "runtime"))
    done = subprocess.run(
        [sys.executable, "export/verify.py", str(make_tiny_onnx(tmp_path / "a.onnx"))],
        cwd=root,
        env=os.environ | {"PYTHONPATH": packages},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("not shown: ")


def test_the_report_shows_labels_and_changed_pictures_and_lists_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prefer_red(model: onnx.ModelProto) -> None:
        bias = next(constant for constant in model.graph.initializer if constant.name == "bias")
        bias.CopyFrom(numpy_helper.from_array(np.array([9, 0, 0], np.float32), "bias"))

    reference = make_tiny_onnx(tmp_path / "a.onnx")
    candidate = changed(reference, tmp_path / "b.onnx", prefer_red)
    (data / "test" / "red" / "<script>.png").write_bytes((data / "test" / "green" / "0.png").read_bytes())
    page = tmp_path / "page.html"
    code, _ = verify(capsys, candidate, "--data", data, "--reference", reference, "--report", page)
    assert code == 1
    text = page.read_text()
    assert text.count("<figure>") == 9, "8 wrong and flipped, and a green one in the red folder that was wrong before"
    assert text.count("data:image/png;base64,") == 9
    assert "<script>" not in text
    assert "src=" in text
    assert "http" not in text
    for heading in ("Labels", "Confusion", "Probabilities", "Wrong and flipped pictures"):
        assert f"<h2>{heading}</h2>" in text
    with page.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["what"] for row in rows].count("wrong and flipped") == 8
    assert {row["picture"]: (row["label"], row["reference"], row["candidate"], row["what"]) for row in rows}[
        "test/red/<script>.png"
    ] == ("red", "green", "red", "flipped")


def test_a_report_does_not_overwrite_the_list_that_is_judged_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pictures = make_tiny_onnx(tmp_path / "a.onnx"), tmp_path / "pictures.csv"
    pictures.write_text("1.png,red\n")
    (tmp_path / "link.csv").symlink_to(pictures)
    for name in ("pictures", "link"):
        page = tmp_path / f"{name}.html"
        assert f"{name}.csv" in refused(capsys, model, "--data", pictures, "--report", page)
        assert not page.exists()
    assert pictures.read_text() == "1.png,red\n"


def test_a_report_replaces_an_earlier_one_but_no_other_list(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, page, listed = make_tiny_onnx(tmp_path / "a.onnx"), tmp_path / "mine.html", tmp_path / "mine.csv"
    listed.write_text("1.png,red\n")
    assert "mine.csv" in refused(capsys, model, "--data", data, "--report", page)
    assert (listed.read_text(), page.exists()) == ("1.png,red\n", False)
    listed.unlink()
    for _ in range(2):
        verify(capsys, model, "--data", data, "--report", page)
        assert listed.read_text().startswith("picture,label,")
        listed.write_text(listed.read_text().splitlines()[0])


def test_a_report_without_labels_leaves_no_list_of_an_earlier_one(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, page = make_tiny_onnx(tmp_path / "a.onnx"), tmp_path / "page.html"
    for arguments, has_list in ((["--data", data], True), ([], False), ([], False)):
        verify(capsys, model, *arguments, "--report", page)
        assert (page.exists(), page.with_suffix(".csv").exists()) == (True, has_list)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    assert "page.csv" in refused(capsys, model, "--report", tmp_path / "page.csv")
    assert "nowhere" in refused(capsys, model, "--report", tmp_path / "nowhere" / "page.html")


def test_a_disk_that_is_full_for_the_report_does_not_cost_the_verdict(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "a.onnx")
    report = ["--report", str(tmp_path / "page.html")]
    with full_disk(100):
        assert verify_cli.main([str(model), "--data", str(data), "--json", *report]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["verdict"]
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_the_reliability_of_answers_is_measured_by_bins() -> None:
    targets = np.array([0] * 8 + [1] * 2)
    logits = np.log(np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1)))
    found = first_answers(logits, targets)
    (only,) = reliability(found)
    assert (only.pictures, only.accuracy) == (10, 0.8)
    assert calibration_error(found) == pytest.approx(10, abs=1e-4)
    flatter = first_answers(logits, targets, temperature=np.log(9) / np.log(4))
    assert calibration_error(flatter) == pytest.approx(0, abs=1e-4)
    mixed = first_answers(np.vstack([logits, np.full_like(logits, np.nan)]), np.concatenate([targets, targets]))
    assert calibration_error(mixed) == pytest.approx(10, abs=1e-4), "of the pictures that have an answer"
    nothing = first_answers(np.full_like(logits, np.nan), targets)
    assert (reliability(nothing), math.isnan(calibration_error(nothing))) == ([], True)
    unknown = first_answers(np.vstack([logits, [[np.nan, np.inf]]]), np.append(targets, 0), temperature=0.5)
    assert (unknown.answers[-1], unknown.confidence[-1], unknown.right[-1]) == (-1, 0.0, False)
    coverage, right = coverage_and_accuracy(found)
    assert (coverage[-1], right[-1]) == (1.0, 0.8)


def test_the_calibration_error_of_each_is_that_of_its_own_temperature(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = make_tiny_onnx(tmp_path / "a.onnx", scale=5.0)
    candidate = with_card(reference, tmp_path / "b.onnx", decision=make_decision(temperature=2.0))
    arguments = [str(candidate), "--data", str(data), "--reference", str(reference)]
    _, found = verify(capsys, *arguments)
    errors = found["calibration_error_points"]
    assert 0 < errors["reference"] < errors["candidate"], (
        "all answers are right, so the surer network is the better one"
    )
    assert verify_cli.main(arguments) == 0
    (line,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("ECE"))
    assert [float(each) for each in line[1::2]] == pytest.approx([errors["candidate"], errors["reference"]], abs=0.01)
    _, unlabelled = verify(capsys, *arguments[:1], "--reference", reference)
    assert unlabelled["calibration_error_points"] == {"candidate": None, "reference": None}


def test_training_pictures_do_not_judge_or_cause_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    paint(data, 10)
    found = read_dataset(data)
    split = found.splits[""]
    assert split.targets is not None
    prints = fingerprints(split.contents)
    held_out = HeldOut.draw(prints, split.targets, found.labels, 0.2, seed=0)
    for remembered, count, warnings in ((TrainedOn.of(prints, held_out), 6, 0), (TrainedOn.of(prints), 30, 1)):
        card = card_dict(tuple(PAINT), 8, 8)
        card["training"] = {**card["training"], **remembered.to_card()}
        model = make_tiny_onnx(tmp_path / "model.onnx", labels=tuple(PAINT), card=card)
        code, report = verify(capsys, model, "--data", data)
        assert (code, report["picture_count"]) == (0, count)
        assert [text for text in report["warnings"] if "trained" in text] == report["warnings"][:warnings]
        assert verify_cli.main([str(model), "--data", str(data)]) == 0
        assert capsys.readouterr().out.count("that the network was trained on") == warnings


def test_judged_pictures_are_counted_by_label_and_files_left_out_by_kind(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx", labels=tuple(PAINT))
    os.mkfifo(data / "test" / "red" / "pipe.jpg")
    (data / "test" / "red" / "clip").write_bytes(b"\0\0\0\x18ftypisom")
    _, report = verify(capsys, model, "--data", data)
    assert report["label_counts"] == {"red": 4, "green": 4, "blue": 4}
    assert report["left_out"]["kinds"] == {"FIFO": 1, "MP4": 1}
    assert len(report["warnings"]) == 1, "fewer than 20 of each"
    assert verify_cli.main([str(model), "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "red 4, green 4, blue 4" in printed
    assert "pipe.jpg (FIFO)" in printed
