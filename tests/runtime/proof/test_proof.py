"""`taijitu prove`: an artefact answers as its passport says, and changes on its way are distinguished."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.card import ModelCard
from taijitu_runtime.doctor.child import ask
from taijitu_runtime.doctor.models import check_model
from taijitu_runtime.proof import prove as prove_module
from taijitu_runtime.proof.cli import main
from taijitu_runtime.proof.prove import Proof, prove
from tests.helpers.changed_model import with_card, with_weights
from tests.helpers.tiny_model import make_tiny_onnx


def card_of(path: Path) -> ModelCard:
    with OrtBackend(path) as backend:
        return backend.card


def failed(path: Path) -> Proof:
    found = prove(path)
    assert found.outcome == "failed", found
    return found


def test_a_fresh_export_is_proven(shipped_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shipped_onnx)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main([str(shipped_onnx), "--json", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "proven"
    assert found["pictures"] == found["pixels_equal"] == found["answers_equal"] == 16
    assert len(found["differences"]) == 2, "the origin's logits, and its own"
    assert all(0 <= each["largest"] <= each["allowed"] for each in found["differences"])


def test_the_passport_is_small_and_covers_labels(shipped_onnx: Path) -> None:
    card = card_of(shipped_onnx)
    assert card.proof is not None
    assert len(card.to_metadata()["taijitu.proof"]) < 5000
    logits = card.proof.origin.array(len(card.proof.seeds), len(card.labels))
    assert len(set(logits.argmax(axis=1))) >= 6


def test_an_edited_weight_is_arithmetic(shipped_onnx: Path, tmp_path: Path) -> None:
    def edit(weights: Any) -> Any:
        weights.flat[0] += 0.05 * np.abs(weights).max()
        return weights

    found = failed(with_weights(shipped_onnx, tmp_path / "edited.onnx", edit))
    assert found.pixels_equal == found.pictures
    assert not all(difference.is_allowed for difference in found.differences)


def test_exchanged_colours_change_answers(shipped_onnx: Path, tmp_path: Path) -> None:
    def exchanged(weights: Any) -> Any:
        return weights[:, ::-1].copy()

    half = with_weights(shipped_onnx, tmp_path / "half.onnx", exchanged, "yang.0.conv1.weight")
    found = failed(with_weights(half, tmp_path / "bgr.onnx", exchanged, "yang.0.shortcut.weight"))
    assert found.answers_equal < found.pictures


def test_another_interpolation_is_the_resize_and_not_the_arithmetic(shipped_onnx: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(card_of(shipped_onnx).input, interpolation="bicubic_antialias")
    found = failed(with_card(shipped_onnx, tmp_path / "bicubic.onnx", input=spec))
    assert 0 < found.pixels_equal < found.pictures
    assert found.differences
    assert all(difference.is_allowed for difference in found.differences)


def test_permuted_labels_fail(shipped_onnx: Path, tmp_path: Path) -> None:
    labels = card_of(shipped_onnx).labels
    found = failed(with_card(shipped_onnx, tmp_path / "permuted.onnx", labels=(*labels[1:], labels[0])))
    assert found.answers_equal == found.pictures
    assert any("labels" in fault for fault in found.faults)


def test_changes_without_effect_on_answers_leave_it_valid(shipped_onnx: Path, tmp_path: Path) -> None:
    assert prove(with_card(shipped_onnx, tmp_path / "noted.onnx", training={"note": "mine"})).proven


def test_a_resize_in_the_other_order_of_axes_is_noted_and_proven(
    shipped_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taijitu_runtime import classifier

    def turned(picture: Any, spec: Any, limits: Any) -> Any:
        return prove_module.resize_by_axes(picture, spec, "height")

    monkeypatch.setattr(classifier, "preprocess", turned)
    found = prove(shipped_onnx)
    assert found.proven
    assert found.notes


def test_without_a_passport_it_is_unproven(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "old.onnx")
    assert prove(model).outcome == "unproven"
    assert main([str(model)]) == 1


def test_a_file_that_lost_all_its_bytes_is_not_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lost.onnx").write_bytes(b"")
    assert main([str(tmp_path / "lost.onnx")]) == 1
    assert "not proven" in capsys.readouterr().out


def test_an_unreadable_contract_is_exit_code_1_and_a_missing_file_2(shipped_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(shipped_onnx)
    next(entry for entry in model.metadata_props if entry.key == "taijitu.proof").value = '{"version": 1}'
    onnx.save(model, tmp_path / "torn.onnx")
    assert main([str(tmp_path / "torn.onnx")]) == 1
    assert main([str(tmp_path / "missing.onnx")]) == 2
    assert main([str(shipped_onnx), "--threads", "-1"]) == 2


@pytest.mark.parametrize("data", ["AAAA", "not base64", "\u00e4"])
def test_logits_that_are_cut_or_no_base64_fail(data: str, shipped_onnx: Path, tmp_path: Path) -> None:
    proof = card_of(shipped_onnx).proof
    assert proof is not None
    assert proof.own is not None
    for name, reference in (("own", proof.own), ("origin", proof.origin)):
        changed = dataclasses.replace(proof, **{name: dataclasses.replace(reference, data=data)})  # type: ignore[arg-type]
        found = failed(with_card(shipped_onnx, tmp_path / f"{name}.onnx", proof=changed))
        assert "proof.data" in found.faults[0]


def test_on_another_cpu_the_answers_are_compared_with_its_own_however_far_its_origin_may_be(
    shipped_onnx: Path, tmp_path: Path
) -> None:
    proof = card_of(shipped_onnx).proof
    assert proof is not None
    assert proof.own is not None
    as_int8 = dataclasses.replace(
        proof,
        origin=dataclasses.replace(proof.origin, allowed=0.74),
        own=dataclasses.replace(proof.own, source="onnxruntime cpu on another", allowed=4.5e-2),
    )
    moved = with_card(shipped_onnx, tmp_path / "moved.onnx", proof=as_int8)
    assert prove(moved).proven
    found = failed(with_weights(moved, tmp_path / "zero.onnx", np.zeros_like, "fc2.weight"))
    assert found.answers_equal < found.pictures
    assert all(difference.is_allowed for difference in found.differences), "only the answers tell"


def test_the_doctor_reports_the_proof_of_a_model(shipped_onnx: Path, tmp_path: Path) -> None:
    broken = with_weights(shipped_onnx, tmp_path / "zero.onnx", np.zeros_like)
    old = make_tiny_onnx(tmp_path / "old.onnx")
    levels = {path: check_model(path, ask("prove", str(path))).level for path in (shipped_onnx, broken, old)}
    assert list(levels.values()) == ["ok", "problem", "warning"]
