"""`taijitu calibrate`: what it chooses, what it refuses, and that every program then gives the same answers."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import shutil
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from taijitu_export.decision.calibrate import calibrate_file
from taijitu_export.decision.choosing import decision_of as choose
from taijitu_export.decision.choosing import halves
from taijitu_export.decision.cli import main
from taijitu_export.decision.conformal import set_probability
from taijitu_export.decision.temperature import HIGHEST, LOWEST, best_temperature
from taijitu_export.decision.threshold import ThresholdRequest, coverage_row
from taijitu_export.engine.graph import read_graph
from taijitu_export.errors import ExportError
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify import cli as classify
from taijitu_runtime.decision.decision import Decision
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.live import cli as camera
from taijitu_runtime.proof.prove import prove
from tests.helpers.changed_model import with_card
from tests.helpers.decision import make_decision
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import COLOURS, card_dict, make_tiny_onnx

DECISION = make_decision()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx", scale=3.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 240 pictures of one colour each; a fifth has the label of another."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for number in range(240):
        label = number % 3 if number % 5 else (number + 1) % 3
        colour = generator.integers(60, 200, 3)
        colour[number % 3] += 50
        (folder / COLOURS[label]).mkdir(exist_ok=True)
        picture = np.broadcast_to(colour.astype(np.uint8), (8, 8, 3))
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / COLOURS[label] / f"{number}.png")
    return folder


def decision_of(path: Path) -> Decision:
    found = read_graph(path).card.decision
    assert found is not None
    return found


def test_it_writes_what_half_of_the_pictures_chose_and_the_other_half_shows(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "calibrated.onnx"
    arguments = [str(model), "--data", str(data), "-o", str(output), "--coverage", "80", "--guarantee", "90", "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    found = decision_of(output)
    assert printed["decision"] == json.loads(json.dumps(dataclasses.asdict(found)))
    assert found.temperature > 1, "a fifth of the labels are wrong, so the network is too sure"
    assert found.calibration_error < found.calibration_error_before
    assert (found.pictures, found.guarantee, found.score) == (240, 90.0, "probability")
    assert 70 <= printed["threshold"]["coverage"] <= 90
    assert 80 <= printed["set_coverage"] <= 100
    assert {row.others for row in found.table} == {None}
    before, after = read_graph(model), read_graph(output)
    assert dataclasses.replace(after.card, decision=None) == before.card
    assert after.model.graph == before.model.graph


def test_pictures_of_no_label_choose_the_score_and_are_counted(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for grey in range(40):
        Image.new("RGB", (8, 8), (100 + grey,) * 3).save(tmp_path / "none" / f"u\u0308 {grey}.png")  # as macOS does
    request = ThresholdRequest(coverage=90)
    found = calibrate_file(model, data, tmp_path / "out.onnx", threshold=request, other=str(tmp_path / "none"))
    assert found.row is not None
    assert found.row.others is not None
    assert found.row.others < found.row.coverage
    assert found.others_by_score.keys() == {"probability", "energy"}
    assert found.others_by_score[found.decision.score] == found.row.others
    both = shutil.copytree(data, tmp_path / "both")
    shutil.copytree(tmp_path / "none", both / "none")
    in_data = calibrate_file(model, both, tmp_path / "in_data.onnx", threshold=request, other="none")
    assert in_data.decision == dataclasses.replace(found.decision, data_sha256=in_data.decision.data_sha256)
    assert any("40 pictures of 'none'" in line for line in in_data.remarks)
    with pytest.raises(UsageError, match="nothing"):
        calibrate_file(model, data, tmp_path / "out.onnx", threshold=request, other="nothing")
    label = calibrate_file(model, data, tmp_path / "label.onnx", threshold=request, other="blue")
    assert (label.decision.other, decision_of(tmp_path / "label.onnx").other) == ("blue", "blue")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_label_is_the_other_however_its_letters_are_composed(data: Path, tmp_path: Path, form: Any) -> None:
    label = unicodedata.normalize("NFC", "übrig")
    model = make_tiny_onnx(tmp_path / "tiny.onnx", labels=(*COLOURS[:2], label), scale=3.0)
    renamed = shutil.copytree(data, tmp_path / "renamed")
    (renamed / COLOURS[2]).rename(renamed / label)
    given = unicodedata.normalize(form, label)
    found = calibrate_file(model, renamed, tmp_path / "out.onnx", threshold=ThresholdRequest(), other=given)
    assert found.decision.other == label


def test_answers_of_the_label_for_none_of_these_are_counted_as_unknown_as_they_are_in_use() -> None:
    generator, labels = np.random.default_rng(0), ("red", "green", "none")
    targets = np.arange(600) % 3
    logits = generator.normal(0, 0.5, (600, 3)).astype(np.float32)
    logits[np.arange(600), np.where(np.arange(600) % 20 == 3, 2, targets)] += 3  # some of the labelled ones too
    choosing, measuring = halves(logits, targets, None, labels.index("none"))
    for request in (ThresholdRequest(coverage=90), ThresholdRequest(accuracy=95), ThresholdRequest(reject=0.5)):
        found = choose(choosing, measuring, request, None, other="none", pictures=600, data_sha256="0" * 64)
        assert found.threshold is not None
        scores, others = measuring.scores(found.score, found.temperature)
        row, rule = coverage_row(found.threshold, scores, measuring.right, others), DecisionRule(labels, found)
        in_use = [
            scores_from_logits(each, found.temperature).known(rule) for each in (measuring.logits, measuring.others)
        ]
        assert (row.coverage, row.others) == tuple(round(100 * float(known.mean()), 2) for known in in_use)
        assert row.others < 5, "nearly all of them are answered with that label"
        assert row.accuracy == 100 * measuring.right[in_use[0]].mean().round(4)
    assert found.table[0].coverage == 100 - round(100 * (measuring.logits.argmax(1) == 2).mean(), 2), "at 100 %"
    with pytest.raises(ExportError, match="--other"):
        ThresholdRequest(coverage=90).threshold(np.full(20, -np.inf), np.zeros(20, np.bool_))


def test_an_accuracy_that_one_score_reaches_needs_no_other(model: Path, tmp_path: Path) -> None:
    """Right answers are those with a clear colour, at any brightness, which the energy follows."""
    mean, std = np.array([[0.5, 0.4, 0.3], [0.25, 0.2, 0.3]])  # those of the model
    generator = np.random.default_rng(1)
    (tmp_path / "none").mkdir()
    for number in range(240):
        clear = number % 2
        grey = np.full(3, generator.uniform(-1, 0.5))
        colour = grey + np.eye(3)[number % 3] * (0.2 + 0.6 * clear)
        folder = tmp_path / "data" / COLOURS[(number if clear else number + 1) % 3]
        folder.mkdir(parents=True, exist_ok=True)
        for place, levels in ((folder, colour), (tmp_path / "none", grey)):
            pixels = np.rint(255 * (mean + std * levels)).astype(int)
            Image.new("RGB", (8, 8), tuple(pixels.tolist())).save(place / f"{number}.png")
    for other in (None, str(tmp_path / "none")):
        output, request = tmp_path / "out.onnx", ThresholdRequest(accuracy=97)
        found = calibrate_file(model, tmp_path / "data", output, threshold=request, other=other)
        assert found.row is not None
        assert found.row.accuracy > 95, "on the half that did not choose"
        assert (found.decision.score, "energy" in found.others_by_score) == ("probability", False)


def test_too_few_pictures_and_two_threshold_requests_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    with pytest.raises(ExportError, match=r"120 .* 199"):
        calibrate_file(model, data, output, threshold=ThresholdRequest(), guarantee=99.5)
    with pytest.raises(ExportError, match="--accuracy 100"):
        calibrate_file(model, data, output, threshold=ThresholdRequest(accuracy=100))
    with pytest.raises(UsageError, match="--accuracy and --reject"):
        ThresholdRequest(accuracy=90, reject=0.5)
    few = tmp_path / "few"
    for label in COLOURS:
        (few / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(few / label / "1.png")
    with pytest.raises(ExportError, match=r"got 3 .* 100"):
        calibrate_file(model, few, output, threshold=ThresholdRequest())
    assert not output.exists()


def test_too_few_others_that_can_be_decoded_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    none, output = tmp_path / "none", tmp_path / "out.onnx"
    none.mkdir()
    for grey in range(30):
        (none / f"{grey}.png").write_bytes(b"nothing")
    Image.new("RGB", (8, 8)).save(none / "0.png")
    with pytest.raises(ExportError, match=r"got 1 .* 20"):
        calibrate_file(model, data, output, threshold=ThresholdRequest(), other=str(none), skip_unreadable=True)
    assert not output.exists()


def test_others_that_have_a_label_too_are_named(model: Path, data: Path, tmp_path: Path) -> None:
    request, output = ThresholdRequest(coverage=90), tmp_path / "out.onnx"
    remarks = calibrate_file(model, data, output, threshold=request, other=str(data / "red")).remarks
    count = len(list((data / "red").iterdir()))
    assert any(line.startswith("warning") and str(count) in line and ".png" in line for line in remarks)


@pytest.mark.parametrize("other", ["", "a\0b", "x" * 5000])
def test_the_working_directory_is_not_the_folder_of_no_name(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    for grey in range(40):
        Image.new("RGB", (8, 8), (100 + grey,) * 3).save(tmp_path / f"{grey}.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--other"):
        calibrate_file(model, data, tmp_path / "out.onnx", threshold=ThresholdRequest(), other=other)


def test_copies_are_named_with_the_pictures_that_they_are_among(model: Path, data: Path, tmp_path: Path) -> None:
    def copies(of: Path, other: Path | str) -> list[int]:
        found = calibrate_file(model, of, tmp_path / "out.onnx", threshold=ThresholdRequest(), other=str(other))
        return [
            int(line.split()[2]) for line in found.remarks if line.startswith("warning: got ") and " copies " in line
        ]

    (tmp_path / "none").mkdir()
    for number in range(40):
        Image.new("RGB", (8, 8), (100 + number % 30,) * 3).save(tmp_path / "none" / f"{number}.png")
    both = shutil.copytree(data, tmp_path / "both")
    shutil.copytree(tmp_path / "none", both / "none")
    in_data = 1  # two pictures of the fixture have the same colour
    assert copies(data, tmp_path / "none") == copies(both, "none") == [in_data, 10]


def test_a_temperature_at_the_end_of_its_range_is_a_warning(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    for label, other in zip(COLOURS, [*COLOURS[1:], COLOURS[0]]):
        shutil.copytree(data / label, moved / other)
    assert main([str(model), "--data", str(moved), "-o", str(tmp_path / "out.onnx"), "--reject", "1"]) == 0
    printed = capsys.readouterr().out
    assert decision_of(tmp_path / "out.onnx").temperature == 20
    assert "warning: temperature 20" in printed
    known = next(line for line in printed.splitlines() if line.startswith("known from"))
    assert "right" not in known, "no answer is known, so none is right or wrong"


def test_a_network_that_is_always_right_is_told_of_the_lowest_temperature(tmp_path: Path) -> None:
    sure = make_tiny_onnx(tmp_path / "sure.onnx", scale=100)
    for label, colour in zip(COLOURS, np.eye(3, dtype=np.uint8)):
        (tmp_path / "right" / label).mkdir(parents=True)
        for number in range(40):
            pixels = 100 + (60 + number) * colour
            Image.new("RGB", (8, 8), tuple(pixels.tolist())).save(tmp_path / "right" / label / f"{number}.png")
    found = calibrate_file(sure, tmp_path / "right", tmp_path / "out.onnx", threshold=ThresholdRequest())
    assert found.decision.temperature == LOWEST
    assert any(line.startswith(f"warning: temperature {LOWEST:g}") for line in found.remarks)


def test_labels_without_a_picture_are_named(model: Path, data: Path, tmp_path: Path) -> None:
    whole = calibrate_file(model, data, tmp_path / "whole.onnx", threshold=ThresholdRequest())
    assert not any("none in the data" in line for line in whole.remarks)
    shutil.copytree(data, tmp_path / "less", ignore=shutil.ignore_patterns("red"))
    less = calibrate_file(model, tmp_path / "less", tmp_path / "less.onnx", threshold=ThresholdRequest())
    assert "'red'" in less.remarks[-1]


@pytest.mark.parametrize("value", [-1.0, 101.0, math.nan])
def test_requests_outside_their_range_are_wrong_usage_without_a_command_line_too(
    value: float, model: Path, data: Path, tmp_path: Path
) -> None:
    for name in ("accuracy", "coverage", "reject"):
        with pytest.raises(UsageError, match=f"--{name} {value:g}"):
            ThresholdRequest(**{name: value})
    for guarantee in (value, 100.0):
        with pytest.raises(UsageError, match=f"--guarantee {guarantee:g}"):
            calibrate_file(model, data, tmp_path / "out.onnx", threshold=ThresholdRequest(), guarantee=guarantee)


@pytest.mark.parametrize("kind", [int, np.float32, np.float64, np.int64, Fraction])
def test_numbers_of_any_kind_are_written_as_the_command_writes_them(
    model: Path, data: Path, tmp_path: Path, kind: Callable[[int], Any]
) -> None:
    request = ThresholdRequest(reject=kind(1))
    calibrate_file(model, data, tmp_path / "out.onnx", threshold=request, guarantee=kind(90))
    found = decision_of(tmp_path / "out.onnx")
    assert (found.threshold, found.guarantee) == (1.0, 90.0)
    assert {type(found.threshold), type(found.guarantee)} == {float}
    assert str(ThresholdRequest(coverage=kind(90))) == "coverage 90 %"


def test_the_temperature_of_logits_that_are_three_times_too_large_is_three() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 5)).astype(np.float32)
    targets = np.array([generator.choice(5, p=np.exp(row) / np.exp(row).sum()) for row in logits.astype(np.float64)])
    assert best_temperature(3 * logits, targets) == pytest.approx(3, rel=0.05)


def test_of_temperatures_that_fit_alike_the_lowest_is_chosen() -> None:
    logits = np.eye(3, dtype=np.float32)
    assert best_temperature(100 * logits, np.arange(3)) == LOWEST, "all right: the loss is 0 up to a temperature of 2"
    assert best_temperature(0 * logits, np.arange(3)) == LOWEST, "all labels alike at any temperature"
    assert best_temperature(100 * logits, np.array([1, 2, 0])) == HIGHEST, "all wrong"


def test_sets_cover_as_many_as_they_guarantee() -> None:
    generator = np.random.default_rng(0)
    share = np.mean([(generator.random(200) >= set_probability(generator.random(100), 95)).mean() for _ in range(400)])
    assert share == pytest.approx(0.95, abs=0.01)


def test_a_decision_is_carried_and_leaves_the_passport_valid(shipped_onnx: Path, tmp_path: Path) -> None:
    decided = with_card(shipped_onnx, tmp_path / "decided.onnx", decision=DECISION)
    assert prove(decided).proven
    graph = read_graph(decided)
    assert graph.card.decision == DECISION
    data = CalibrationData.generated(graph.card)
    smaller = convert(graph.model, graph.card, PrecisionRequest("fp16"), data)
    assert smaller.card.decision == DECISION
    assert any("taijitu calibrate" in line for line in smaller.report), "it was measured in float32"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"threshold": 1.5},
        {"score": "margin"},
        {"guarantee": None},
        {"other": "elephant"},
        {"n": 1},
    ],
)
def test_a_wrong_decision_is_not_read(wrong: dict[str, Any]) -> None:
    plain = {**dataclasses.asdict(DECISION), **wrong}
    with pytest.raises(ArtefactError, match=next(iter(wrong))):
        ModelCard.from_dict(card_dict(decision=plain))


@pytest.mark.parametrize("score", ["probability", "energy"])
def test_every_program_gives_the_same_answer_to_a_picture(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], score: str
) -> None:
    decision = dataclasses.replace(DECISION, score=score, threshold=0.6 if score == "probability" else 2.5)
    decided = with_card(model, tmp_path / "tiny.onnx", decision=decision)
    files = [tmp_path / f"{red}.png" for red in (130, 150, 255)]
    for file, red in zip(files, (130, 150, 255)):
        Image.new("RGB", (8, 8), (red, 120, 100)).save(file)
    with Server(str(decided)) as server:
        for threshold in (None, 0.8):
            with Classifier.from_file(decided) as classifier:
                expected = [
                    {"known": each.known, "set": list(each.set or ()), "p": each.best.probability}
                    for each in classifier.predict(files, threshold=threshold)
                ]
            flags = [] if threshold is None else ["--threshold", str(threshold)]
            assert classify.main([str(decided), *map(str, files), "--json", *flags]) == 0
            printed = json.loads(capsys.readouterr().out)["results"]
            programs = [[_plain(each) for each in printed]]
            assert camera.main([str(decided), "--source", str(tmp_path / "*.png"), "--jsonl", "-", *flags]) == 0
            programs.append([_plain(json.loads(line)) for line in capsys.readouterr().out.splitlines()])
            programs.append([_plain(_classified(server, file, threshold)) for file in files])
            programs.append(_inferred(server, files, threshold))
            for program in programs:
                assert [each["known"] for each in program] == [each["known"] for each in expected]
                assert [each["set"] for each in program] == [each["set"] for each in expected]
                assert [each["p"] for each in program] == pytest.approx([each["p"] for each in expected], abs=1e-6)
            assert {each["known"] for each in expected} == {True, False}


def test_without_a_decision_only_a_threshold_decides(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 100, 100)).save(tmp_path / "a.png")
    with Classifier.from_file(model) as classifier:
        plain = classifier.predict(tmp_path / "a.png")
        assert (plain.known, plain.set) == (None, None)
        assert classifier.predict(tmp_path / "a.png", threshold=1.0).known is False
        with pytest.raises(UsageError, match="threshold"):
            classifier.predict(tmp_path / "a.png", threshold=1.1)


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    return {"known": result["known"], "set": result["set"], "p": result["answers"][0]["probability"]}


def _classified(server: Server, file: Path, threshold: float | None) -> dict[str, Any]:
    params = {} if threshold is None else {"threshold": str(threshold)}
    found: dict[str, Any] = httpx.post(f"{server.url}/classify", content=file.read_bytes(), params=params).json()
    return found


def _inferred(server: Server, files: list[Path], threshold: float | None) -> list[dict[str, Any]]:
    texts = [base64.b64encode(file.read_bytes()).decode() for file in files]
    body: dict[str, Any] = {"inputs": [{"name": "images", "shape": [len(files)], "datatype": "BYTES", "data": texts}]}
    if threshold is not None:
        body["parameters"] = {"threshold": threshold}
    reply = httpx.post(f"{server.url}/v2/models/tiny/infer", json=body).json()
    outputs = {each["name"]: np.array(each["data"]).reshape(each["shape"]) for each in reply["outputs"]}
    rows = []
    for known, members, values in zip(outputs["known"], outputs["set"], outputs["probabilities"]):
        order = np.argsort(-values, kind="stable")
        labels = [COLOURS[index] for index in order if members[index]]
        rows.append({"known": bool(known), "set": labels, "p": float(values.max())})
    return rows


def test_pictures_of_one_score_are_known_together_also_in_what_is_reached_at_best() -> None:
    scores, right = np.array([1.0] * 40 + [0.5] * 10), np.array([True] * 38 + [False] * 12)
    assert ThresholdRequest(accuracy=95).threshold(scores, right) == 1.0
    with pytest.raises(ExportError, match=r"at most 95\.0 % .*--accuracy 97"):
        ThresholdRequest(accuracy=97).threshold(scores, right)


@pytest.mark.parametrize("percent", [29, 55, 57, 58])  # as fractions of one, these are a little off
def test_a_threshold_takes_the_asked_share_of_pictures_and_no_picture_more(percent: int) -> None:
    scores = np.linspace(1.0, 0.01, 100)
    right = np.arange(100) < percent
    assert ThresholdRequest(coverage=percent).threshold(scores, right) == scores[percent - 1]
    assert ThresholdRequest(accuracy=percent).threshold(scores, right) == scores[-1]
