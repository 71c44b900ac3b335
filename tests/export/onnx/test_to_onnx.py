"""A checkpoint becomes an ONNX file that answers the same: through the command, on the real ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from taijitu_export.adopt import cli as adopt_cli
from taijitu_export.engine import cli as engine_cli
from taijitu_export.onnx_artefact import check_output
from taijitu_export.sample_pictures import sample_pictures
from taijitu_export.to_onnx import cli, export
from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import UsageError
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_training import checkpoint

Make = Callable[..., Path]


def nodes(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(["logits"], {"images": images})[0]
    return logits


def test_the_shipped_checkpoint_exports_and_the_file_says_what_it_is(
    shipped_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.onnx"
    assert cli.main([str(shipped_checkpoint), "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "top-1 the same on 64 of 64 pictures, largest logit difference" in printed
    model = onnx.load(output)
    (image,) = model.graph.input
    shape = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert shape == ["batch", 32, 32, 3]
    (logits,) = model.graph.output
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 10]
    card = ModelCard.read_onnx_metadata({p.key: p.value for p in model.metadata_props})
    assert card.architecture.name == "yynet_small_16"
    assert card.labels[3] == "cat"
    assert card.training["recipe"]["epochs"] == 40
    assert (card.training["evaluation"], card.training["evaluation_pictures"]) == ("test", 10_000)
    assert card.training["metrics"] == checkpoint.load(shipped_checkpoint).training["metrics"]
    assert card.training["metrics"]["eval_top1"] >= 85.1
    assert card.source_sha256 == hashlib.sha256(shipped_checkpoint.read_bytes()).hexdigest()
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 17}
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_every_batch_size_answers_as_torch_does(shipped_checkpoint: Path, shipped_onnx: Path) -> None:
    loaded = checkpoint.load(shipped_checkpoint)
    pictures = sample_pictures(17, 32, 32, seed=5)
    card = loaded.card()
    with torch.inference_mode():
        expected = loaded.model()(torch.from_numpy(normalise(pictures, card.input))).numpy()
    for batch in (1, 2, 17):
        np.testing.assert_allclose(answers(shipped_onnx, pictures[:batch]), expected[:batch], atol=2e-4)


@pytest.mark.parametrize("form", ["float32", "pixels"])
def test_float32_input_is_the_same_network_with_or_without_the_callers_normalisation(
    shipped_checkpoint: Path, shipped_onnx: Path, tmp_path: Path, form: str
) -> None:
    output = tmp_path / "float.onnx"
    assert cli.main([str(shipped_checkpoint), "-o", str(output), "--input", form]) == 0
    pictures = sample_pictures(4, 32, 32)
    card = checkpoint.load(shipped_checkpoint).card()
    planes = pictures.transpose(0, 3, 1, 2).astype(np.float32)
    prepared = normalise(pictures, card.input) if form == "float32" else planes
    assert prepared.shape == (4, 3, 32, 32)
    np.testing.assert_allclose(answers(output, prepared), answers(shipped_onnx, pictures), atol=2e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("yynet_small_16", {"act": "mish", "fusion": "a*(1-i)+a-i"}),
        ("mlp", {}),
        ("vgnetg_1_0mp_se", {"size": 64, "act": "silu"}),
        # 2.0MP and 2.5MP cut what they joined in other places.
        ("vgnetg_2_0mp", {"stem": "thumbnail", "blur": "sigma1"}),
        ("vgnetf2_1_5mp", {"stem": "thumbnail", "act": "nish"}),
        # These differ little from those above.
        pytest.param("yynet_small_32", {}, marks=pytest.mark.networks),
        pytest.param("yynet", {"size": 64}, marks=pytest.mark.networks),
        pytest.param("vgnetg_1_0mp", {"size": 64}, marks=pytest.mark.networks),
        pytest.param("vgnetg_2_5mp_se", {"size": 64}, marks=pytest.mark.networks),
        pytest.param("vgnetc_1_5mp", {"stem": "thumbnail"}, marks=pytest.mark.networks),
    ],
)
def test_exported_networks_are_constant_weights_and_fast_operators(
    make_checkpoint: Make, name: str, options: dict[str, Any]
) -> None:
    source = make_checkpoint(name, **options)
    assert cli.main([str(source)]) == 0
    model = onnx.load(source.with_suffix(".onnx"))
    constants = {initializer.name for initializer in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "BatchNormalization")]
    assert weighted
    for node in weighted:
        assert set(node.input[1:]) <= constants, f"{node.name} has a weight that a node computes"
    used = {name for node in model.graph.node for name in node.input}
    assert constants <= used, "weights that nothing reads"
    typed = onnx.shape_inference.infer_shapes(model)
    slow = {"Concat", "Slice", "Split", "Div"} if name.startswith("vgnet") else {"BatchNormalization"}
    # torch 2.8 joins the numbers of a shape too, which costs nothing.
    numbers = {
        value.name for value in typed.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.INT64
    }
    assert not slow & {node.op_type for node in model.graph.node if node.output[0] not in numbers}
    opset = next(opset.version for opset in model.opset_import if not opset.domain)
    assert opset == (18 if "Mish" in nodes(model) else 17), "Mish came with 18"
    contents = [constant.raw_data for constant in model.graph.initializer if 0 < len(constant.raw_data) < 4096]
    assert len(contents) == len(set(contents)), "a fixed kernel is there twice"


def test_nish_is_one_node_with_its_body_in_the_file_or_decomposed_with_the_same_answers(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    source = make_checkpoint("yynet_small_16", act="nish")
    op, decomposed = tmp_path / "op.onnx", tmp_path / "decomposed.onnx"
    assert cli.main([str(source), "-o", str(op)]) == 0
    assert cli.main([str(source), "-o", str(decomposed), "--nish", "decomposed"]) == 0
    model = onnx.load(op)
    assert nodes(model).count("Nish") == 31
    assert not {"Sin", "Where"} & set(nodes(model))
    assert [(f.domain, f.name) for f in model.functions] == [("taijitu", "Nish")]
    inner = {name for node in model.functions[0].node for name in (*node.input, *node.output)}
    outer = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert not inner & outer
    plain = onnx.load(decomposed)
    assert {opset.domain for opset in plain.opset_import} == {""}, "no custom domain"
    assert not plain.functions
    pictures = sample_pictures(8, 32, 32)
    np.testing.assert_allclose(answers(op, pictures), answers(decomposed, pictures), atol=1e-4)


@pytest.mark.parametrize("form", ["op", "decomposed"])
def test_nish_in_onnx_is_exact_at_the_special_values(form: str) -> None:
    from taijitu_export.onnx.nish_node import _NishOperators, nish_function
    from taijitu_training.models.activations import nish

    x = np.array(
        [0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 30.0, -30.0, -104.0, -1e4, 1e4, np.inf, -np.inf, np.nan], np.float32
    )
    expected = nish(torch.from_numpy(x)).numpy()
    if form == "decomposed":
        got = _NishOperators()(torch.from_numpy(x)).numpy()
    else:
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Nish", ["x"], ["y"], domain="taijitu")],
            "nish",
            [value("x", onnx.TensorProto.FLOAT, ["n"])],
            [value("y", onnx.TensorProto.FLOAT, ["n"])],
        )
        opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("taijitu", 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, functions=[nish_function()], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_the_file_carries_no_paths_of_the_computer_that_made_it(shipped_onnx: Path, root: Path) -> None:
    content = shipped_onnx.read_bytes()
    for trace in (str(root).encode(), b"site-packages", b'File "', b"stack_trace"):
        assert trace not in content


def test_a_wrong_answer_leaves_no_file_and_exit_code_1(
    shipped_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.onnx"
    output.write_text("what was there before")
    exported = export.onnx_from_checkpoint

    def with_a_wrong_weight(*args: Any, **kwargs: Any) -> onnx.ModelProto:
        model = exported(*args, **kwargs)
        weights = next(i for i in model.graph.initializer if len(i.dims) == 4)
        weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.01, weights.name))
        return model

    monkeypatch.setattr(export, "onnx_from_checkpoint", with_a_wrong_weight)
    assert cli.main([str(shipped_checkpoint), "-o", str(output)]) == 1
    assert "not written, ONNX Runtime does not answer like PyTorch" in capsys.readouterr().err
    assert output.read_text() == "what was there before"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_bad_checkpoints_are_one_line_and_exit_code_2(
    shipped_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Evil(), tmp_path / "evil.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    (tmp_path / "short.pt").write_bytes(shipped_checkpoint.read_bytes()[:5000])
    changed = torch.load(shipped_checkpoint, weights_only=True)
    torch.save({**changed, "labels": ["only one"]}, tmp_path / "labels.pt")
    torch.save({**changed, "input": {**changed["input"], "std": [0.0, 1.0, 1.0]}}, tmp_path / "std.pt")
    torch.save({**changed, "architecture": {"name": "yynet_smal", "options": {}}}, tmp_path / "name.pt")
    for name in ("evil.pt", "foreign.pt", "short.pt", "missing.pt", "labels.pt", "std.pt", "name.pt"):
        assert cli.main([str(tmp_path / name)]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("taijitu onnx: ")
        assert error.count("\n") == 1, error
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--input", "int8"], "invalid choice: 'int8'"),
        (["-o", "nowhere/model.onnx"], "no folder nowhere"),
        (["-o", "/dev/null"], "/dev/null: got a device or pipe, expected a regular file"),
        (["-o", "model.engine"], "got model.engine as the output, expected a name in .onnx"),
        (["--opset", "9"], "unrecognized arguments: --opset 9"),
        (["--max_drop", "1"], "unrecognized arguments: --max_drop 1; did you mean --max-drop?"),
    ],
)
def test_wrong_usage_is_one_line(
    shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert cli.main([str(shipped_checkpoint), *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("source", [".", "/"])
@pytest.mark.parametrize(
    "command",
    [
        cli.main,
        lambda argv: cli.main([*argv, "--precision", "fp16"]),
        engine_cli.main,
        lambda argv: adopt_cli.main([*argv, "-o", "never.onnx"]),
    ],
    ids=["onnx", "onnx --precision", "engine", "adopt"],
)
def test_a_folder_without_a_name_of_its_own_is_no_source(
    source: str, command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command([source]) == 2
    error = capsys.readouterr().err
    assert f" {source}: got a folder" in error
    assert error.count("\n") == 1


def test_a_link_to_itself_and_the_source_are_no_outputs(tmp_path: Path) -> None:
    source, loop = tmp_path / "source.onnx", tmp_path / "loop.onnx"
    source.write_bytes(b"theirs")
    loop.symlink_to("loop.onnx")
    for output in (loop, source, tmp_path / ".." / tmp_path.name / "source.onnx"):
        with pytest.raises(UsageError, match=output.name):
            check_output(output, source)


def test_the_documented_script_runs_by_itself(root: Path, shipped_checkpoint: Path, tmp_path: Path) -> None:
    packages = os.pathsep.join(str(root / folder) for folder in ("training", "export", "runtime"))
    done = subprocess.run(
        [sys.executable, "export/to_onnx.py", str(shipped_checkpoint), "-o", str(tmp_path / "model.onnx")],
        cwd=root,
        env=os.environ | {"PYTHONPATH": packages},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(metadata["taijitu.labels"])[0] == "airplane"
