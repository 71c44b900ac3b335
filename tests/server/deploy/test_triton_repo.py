"""A Triton model repository, read with Triton's own schema."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from taijitu_runtime import native
from taijitu_runtime.card import Precision
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.engine_card import EngineCard, Library, save_engine
from taijitu_server.deploy import ray_app
from taijitu_server.deploy.triton_repo import main
from tests.helpers.changed_model import with_card
from tests.helpers.decision import make_decision
from tests.helpers.tiny_engine import MAX_BATCH, make_tiny_engine
from tests.helpers.tiny_model import COLOURS, card_dict, make_tiny_onnx
from tests.helpers.tiny_nish_model import make_nish_onnx


def config_in(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_the_repository_says_what_the_model_takes_and_gives(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    assert main([str(model), "--out", str(tmp_path / "models"), "--name", "colours", "--max-batch", "16"]) == 0
    folder = tmp_path / "models" / "colours"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "1/model.onnx",
        "config.pbtxt",
        "labels.txt",
    ]
    assert (folder / "labels.txt").read_text().splitlines() == list(COLOURS)
    config = config_in(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("colours", "onnxruntime", 16)
    assert config.HasField("dynamic_batching")
    (taken,), (given,) = config.input, config.output
    assert (taken.name, taken.data_type, list(taken.dims)) == ("images", model_config_pb2.TYPE_UINT8, [8, 8, 3])
    assert (given.name, given.data_type, list(given.dims)) == ("logits", model_config_pb2.TYPE_FP32, [len(COLOURS)])
    assert given.label_filename == "labels.txt"
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    # The model takes the input that Triton would give it as its warm-up.
    blank = config.model_warmup[0].inputs["images"]
    with Classifier.from_file(folder / "1" / "model.onnx") as classifier:
        images = np.zeros((config.model_warmup[0].batch_size, *blank.dims), np.uint8)
        assert classifier.logits(images).shape == (1, *given.dims)


def test_int8_is_left_unfused_on_a_cpu_only(tmp_path: Path) -> None:
    plain = make_tiny_onnx(tmp_path / "plain.onnx")
    int8 = with_card(plain, tmp_path / "int8.onnx", precision=Precision(name="int8"))
    for number, (model, flags, level) in enumerate(((int8, [], -1), (int8, ["--gpu"], 0), (plain, [], 0))):
        assert main([str(model), "--out", str(tmp_path / "models"), "--name", f"m{number}", *flags]) == 0
        assert config_in(tmp_path / "models" / f"m{number}").optimization.graph.level == level


def test_a_batch_of_a_fixed_size_is_part_of_the_shape(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx", batch=2)
    assert main([str(model), "--out", str(tmp_path / "models"), "--gpu"]) == 0
    (folder,) = (tmp_path / "models").iterdir()
    config = config_in(folder)
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [2, 8, 8, 3])
    assert list(config.output[0].dims) == [2, len(COLOURS)]
    assert not config.HasField("dynamic_batching")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_an_engine_of_tensorrt_is_a_plan_within_its_profile(tmp_path: Path) -> None:
    engine = make_tiny_engine(tmp_path / "model.engine")
    card = EngineCard.read(engine)
    # No TensorRT can be installed here; what Triton needs to know of its engines is in the sidecar alone.
    save_engine(engine, engine.read_bytes(), dataclasses.replace(card, library=Library("tensorrt", "10.3.0")))
    assert main([str(engine), "--out", str(tmp_path / "models"), "--name", "colours"]) == 0
    folder = tmp_path / "models" / "colours"
    assert (folder / "1" / "model.plan").read_bytes() == engine.read_bytes()
    config = config_in(folder)
    assert (config.backend, config.max_batch_size) == ("tensorrt", MAX_BATCH)
    assert list(config.input[0].dims) == [8, 8, 3]
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_what_an_engine_was_built_with_reaches_triton(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = make_tiny_engine(tmp_path / "model.engine")
    plan, card = engine.read_bytes(), EngineCard.read(engine)
    card = dataclasses.replace(card, library=Library("tensorrt", "10.3.0"))
    command = [str(engine), "--out", str(tmp_path / "models"), "--name"]
    save_engine(engine, plan, card)
    assert main([*command, "usual"]) == 0
    assert "--backend-config" not in capsys.readouterr().out
    assert not config_in(tmp_path / "models" / "usual").instance_group[0].secondary_devices
    built_for = dataclasses.replace(card.built_for, dla_core=1)
    save_engine(engine, plan, dataclasses.replace(card, flags=("VERSION_COMPATIBLE",), built_for=built_for))
    assert main([*command, "dla"]) == 0
    assert "--backend-config=tensorrt,version-compatible=true" in capsys.readouterr().out
    (device,) = config_in(tmp_path / "models" / "dla").instance_group[0].secondary_devices
    assert (device.kind, device.device_id) == (device.KIND_NVDLA, 1)
    save_engine(engine, plan, dataclasses.replace(card, flags=("NISH_PLUGIN",)))
    assert main([*command, "plugin"]) == 2
    assert "--nishPlugin" in capsys.readouterr().err
    assert not (tmp_path / "models" / "plugin").exists()


def test_an_engine_that_takes_no_single_picture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = make_tiny_engine(tmp_path / "model.engine")
    card = EngineCard.read(engine)
    shapes = dataclasses.replace(card.profiles[0]["images"], min=(2, 8, 8, 3))
    card = dataclasses.replace(card, library=Library("tensorrt", "10.3.0"), profiles=({"images": shapes},))
    save_engine(engine, engine.read_bytes(), card)
    assert main([str(engine), "--out", str(tmp_path / "models")]) == 2
    assert "2 to 8" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_model_is_copied_whole_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(make_tiny_onnx(tmp_path / "whole.onnx"))
    split = tmp_path / "split.onnx"
    onnx.save_model(model, split, save_as_external_data=True, location="weights", size_threshold=0)
    for command in (main, ray_app.main):
        assert command([str(split), "--out", str(tmp_path / "out")]) == 2
        assert "split.onnx: got an ONNX file with weights in other files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_link_to_itself_as_the_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, loop = make_tiny_onnx(tmp_path / "model.onnx"), tmp_path / "loop"
    loop.symlink_to("loop")
    for command in (main, ray_app.main):
        assert command([str(model), "--out", str(loop)]) == 2
        error = capsys.readouterr().err
        assert (error.count("\n"), "loop" in error) == (1, True)


def test_triton_runs_no_engine_of_tensorrt_rtx_and_no_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_tiny_engine(tmp_path / "model.engine")
    assert main([str(engine), "--out", str(tmp_path / "models")]) == 2
    assert "TensorRT-RTX" in capsys.readouterr().err
    engine.write_bytes(engine.read_bytes()[:-1])
    assert main([str(engine), "--out", str(tmp_path / "models")]) == 2
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_the_kernel_of_nish_is_written_under_the_path_that_triton_sees(
    tmp_path: Path, with_nish_library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_nish_onnx(tmp_path / "model.onnx")
    command = [str(model), "--out", str(tmp_path / "models"), "--name", "nish", "--mounted-at", '/a "good" place']
    assert main(command) == 0
    assert """--model-repository='/a "good" place'""" in capsys.readouterr().out
    config = config_in(tmp_path / "models" / "nish")
    assert list(config.model_operations.op_library_filename) == [f'/a "good" place/nish/{with_nish_library.name}']
    copied = tmp_path / "models" / "nish" / with_nish_library.name
    assert copied.read_bytes() == with_nish_library.read_bytes()


def test_a_path_that_is_not_utf_8_is_refused_where_the_configuration_names_it(
    tmp_path: Path, with_nish_library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mod\udcffels"
    assert main([str(make_nish_onnx(tmp_path / "nish.onnx")), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), "UTF-8" in error) == (1, True)
    assert not out.exists()
    assert main([str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--out", str(out)]) == 0


def test_nish_without_its_cuda_kernel_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "CUDA_LIBRARY", tmp_path / "gone.so")
    models = {"nish": make_nish_onnx(tmp_path / "nish.onnx"), "tiny": make_tiny_onnx(tmp_path / "tiny.onnx")}
    for name, model in models.items():
        assert main([str(model), "--out", str(tmp_path / "models"), "--name", name, "--gpu"]) == 0
        assert ("gone.so" in capsys.readouterr().out) == (name == "nish")


def test_the_decision_that_triton_does_not_make_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_onnx(tmp_path / "plain.onnx")
    models = {"plain": model, "calibrated": with_card(model, tmp_path / "calibrated.onnx", decision=make_decision())}
    for name, path in models.items():
        assert main([str(path), "--out", str(tmp_path / "models"), "--name", name]) == 0
        assert ("threshold" in capsys.readouterr().out) == (name == "calibrated")


def test_another_version_is_added_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    command = [str(model), "--out", str(tmp_path / "models"), "--name", "colours"]
    assert main(command) == 0
    assert main([*command, "--model-version", "2"]) == 0
    folder = tmp_path / "models" / "colours"
    assert (folder / "2" / "model.onnx").read_bytes() == model.read_bytes()
    assert main([*command, "--model-version", "2"]) == 2
    assert "version 2" in capsys.readouterr().err
    assert main([*command, "--model-version", "3", "--max-batch", "8"]) == 2
    error = capsys.readouterr().err
    assert "config.pbtxt" in error
    assert "--max-batch" in error
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
    assert [path.name for path in folder.parent.iterdir()] == ["colours"]


def test_a_version_for_pictures_that_are_prepared_in_another_way_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = card_dict()
    stretched = {**usual, "input": {**usual["input"], "resize": "stretch"}}
    lighter = {**usual, "input": {**usual["input"], "mean": [0.4, 0.3, 0.2]}}  # which the model subtracts itself
    for version, card in enumerate((usual, lighter, stretched), 1):
        model = make_tiny_onnx(tmp_path / f"{version}.onnx", card=card)
        arguments = [str(model), "--out", str(tmp_path / "models"), "--name", "a", "--model-version", str(version)]
        assert main(arguments) == (2 if card is stretched else 0)
    assert "input.resize stretch" in capsys.readouterr().err
    planes = {**usual, "input": {**usual["input"], "float_values": "pixels"}}
    for version, (layout, card) in enumerate((("float32", usual), ("float32", lighter), ("pixels", planes)), 1):
        model = make_tiny_onnx(tmp_path / f"{layout} {version}.onnx", layout=layout, card=card)
        arguments = [str(model), "--out", str(tmp_path / "models"), "--name", "b", "--model-version", str(version)]
        assert main(arguments) == (0 if card is usual else 2)
    error = capsys.readouterr().err
    assert "input.mean" in error
    assert "input.float_values" in error
    assert sorted(path.parent.name for path in (tmp_path / "models").glob("*/*/*.onnx")) == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--name", "a/b"], "got the name 'a/b', expected letters"),
        (["--name", ""], "got the name '', expected letters"),
        (["--name", ".."], "got the name '..', expected letters"),
        (["--name", ".hidden"], "got the name '.hidden', expected letters"),
        (["--model-version", "0"], "expected 1 to "),
        (["--model-version", str(2**63)], "expected 1 to "),
        (["--max-batch", "-1"], "expected 1 to "),
        (["--max-batch", str(2**31)], "expected 1 to "),
        (["--mounted-at", "models"], "absolute"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    assert main([str(model), "--out", str(tmp_path / "models"), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()
