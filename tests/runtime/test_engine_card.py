"""The engine's sidecar: what is accepted, what is refused and how, and that plan and sidecar are written together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from taijitu_runtime.engine_card import EngineCard, save_engine, sidecar_of
from taijitu_runtime.errors import ArtefactError, WriteError
from tests.helpers.tiny_model import card_dict

PLAN = b"ftrt a plan"


def engine_dict(**changes: Any) -> dict[str, Any]:
    """Return a correct sidecar of PLAN; `changes` replace fields, with "." for nested ones."""
    whole: dict[str, Any] = {
        "format_version": 1,
        "card": card_dict(),
        "library": {"name": "tensorrt_rtx", "version": "1.7.1"},
        "built_for": {
            "platform": "linux_x86_64",
            "compute_capabilities": ["8.6", "12.0"],
            "gpu": None,
            "driver": None,
            "multiprocessors": None,
            "memory_bytes": None,
            "board": None,
            "hardware_compatibility": "none",
            "dla_core": None,
        },
        "precision": {"asked": "fp16", "layers": {"float16": 31, "float32": 2}, "counted_in": "network"},
        "profiles": [{"images": {"min": [1, 8, 8, 3], "opt": [4, 8, 8, 3], "max": [8, 8, 8, 3]}}],
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, 8, 8, 3]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, 3]}],
        "flags": ["STRONGLY_TYPED"],
        "plan_sha256": hashlib.sha256(PLAN).hexdigest(),
        "source": {"path": "../model.onnx", "sha256": "0" * 64},
        "arguments": ["--fp16", "--maxShapes=images:8x8x8x3"],
        "built": {"date": "2026-11-21T13:30:00+00:00", "seconds": 2.5},
    }
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = whole
        for parent in parents:
            place = place[parent]
        place[last] = value
    return whole


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    card = EngineCard.from_dict(engine_dict())
    save_engine(path, PLAN, card)
    assert path.read_bytes() == PLAN
    assert EngineCard.read(path) == card
    assert json.loads((tmp_path / "model.engine.json").read_text()) == engine_dict()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.engine", "model.engine.json"]


def test_the_fields_have_their_types() -> None:
    card = EngineCard.from_dict(engine_dict())
    assert card.card.labels == ("red", "green", "blue")
    assert card.built_for.compute_capabilities == ("8.6", "12.0")
    assert card.profiles[0]["images"].max == (8, 8, 8, 3)
    assert card.inputs[0].shape == (-1, 8, 8, 3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 2, "expected at most 1: the file was made by a newer taijitu"),
        ("library.name", "tensorflow", r'library\.name: got \'tensorflow\', expected "tensorrt" or "tensorrt_rtx"'),
        ("library.version", "new", r"library\.version: got 'new', expected a version"),
        ("built_for.compute_capabilities", "8.6", r"compute_capabilities: got '8\.6', expected a list"),
        ("built_for.compute_capabilities", [8.6], r"compute_capabilities: got 8\.6, expected numbers such as"),
        ("built_for.gpu", 3, r"built_for\.gpu: got 3, expected text, or null"),
        ("built_for.multiprocessors", 0, r"multiprocessors: got 0, expected a positive whole number"),
        ("built_for.board", "Jetson\n", r"built_for\.board: got"),
        ("built_for.dla_core", -1, r"dla_core: got -1, expected the number"),
        ("built_for.hardware_compatibility", "any", r'expected "none" or "ampere\+"'),
        ("precision.asked", "fp8", r'precision\.asked: got \'fp8\', expected "fp32"'),
        ("precision.counted_in", "file", r'counted_in: got \'file\', expected "network" or "engine"'),
        ("precision.layers", [], r"precision\.layers: got \[\], expected a count for each type"),
        ("precision.layers", {"float16": "all"}, r"layers\.float16: got 'all', expected a number of layers"),
        ("profiles", [{"images": {"min": [2], "opt": [1], "max": [3]}}], r"expected min <= opt <= max"),
        ("profiles", [{"other": {"min": [1], "opt": [1], "max": [3]}}], r"profiles: got \['other'\]"),
        ("inputs", [], r"inputs, outputs: got \(0, 1\), expected at least one of each"),
        ("inputs", [{"name": "images", "dtype": "uint8"}], r"tensor\.shape: got None, expected this field"),
        ("inputs", [{"name": "images", "dtype": "uint8", "shape": [-2]}], r"expected a list of integers from -1 on"),
        ("flags", "FP16", r"flags: got 'FP16', expected a list of texts"),
        ("plan_sha256", "12", r"plan_sha256: got '12', expected 64 lower-case hex digits"),
        ("source.path", "/root/model.onnx", r"source\.path: got '/root/model\.onnx', expected a path relative"),
        ("arguments", ["--saveEngine=/etc/passwd"], r"arguments: got '--saveEngine=/etc/passwd', expected one of"),
        ("arguments", ["--fp16", "-h"], r"arguments: got '-h', expected"),
        ("arguments", ["--help"], r"arguments: got '--help', expected"),
        ("arguments", ["--timingCacheFile=/etc/passwd"], r"arguments: got '--timingCacheFile=/etc/passwd', expected"),
        ("arguments", ["other.onnx"], r"arguments: got 'other\.onnx', expected"),
        ("arguments", ["--"], r"arguments: got '--', expected"),
        ("built.seconds", "2", r"built\.seconds: got '2', expected a number of seconds"),
        ("built.date", "today", r"built\.date: got 'today', expected a date"),
        ("card.labels", [], r"labels: got \(\), expected at least one label"),
        ("remark", "", r"remark: got '', expected no such field"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    path = tmp_path / "model.engine"
    sidecar_of(path).write_text(json.dumps(engine_dict(**{field: value})))
    with pytest.raises(ArtefactError, match=rf"model\.engine\.json: model card, .*{message}"):
        EngineCard.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", json.dumps(engine_dict()).encode()[:-40], b"[" * 100_000])
def test_a_torn_sidecar_is_an_artefact_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.engine"
    sidecar_of(path).write_bytes(content)
    with pytest.raises(ArtefactError, match=r"model\.engine\.json: .*JSON.*taijitu engine"):
        EngineCard.read(path)


def test_a_missing_sidecar_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"model\.engine\.json.*taijitu engine"):
        EngineCard.read(tmp_path / "model.engine")


def test_a_card_of_another_plan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"model\.engine"):
        save_engine(tmp_path / "model.engine", b"another plan", EngineCard.from_dict(engine_dict()))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"no/model.engine.* \(No such file or directory\)"):
        save_engine(tmp_path / "no" / "model.engine", PLAN, EngineCard.from_dict(engine_dict()))
