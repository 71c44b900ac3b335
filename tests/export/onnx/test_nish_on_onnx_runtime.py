"""Exported networks with Nish give the same answers on ONNX Runtime with and without kernels and the blocked layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.backends import OrtBackend
from taijitu_training import checkpoint


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("yynet_small_16", {}),
        ("vgnetg_1_0mp_se", {"stem": "thumbnail"}),
        pytest.param("yynet", {"size": 64}, marks=pytest.mark.networks),
    ],
)
def test_the_kernels_and_the_layout_change_no_answer(
    make_checkpoint: Callable[..., Path], with_nish_library: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    loaded = checkpoint.load(make_checkpoint(name, act="nish", **options))
    model = tmp_path / "model.onnx"
    onnx.save(onnx_from_checkpoint(loaded), model)
    with OrtBackend(model, native=False) as plain, OrtBackend(model) as made, OrtBackend(model) as cached:
        pictures = sample_pictures(3, plain.input.height, plain.input.width)
        expected = plain.infer(pictures)
        for backend in (made, cached):
            np.testing.assert_allclose(backend.infer(pictures), expected, rtol=0, atol=1e-5 * np.ptp(expected))
    assert len(list((tmp_path / "cache" / "taijitu").glob("*.layout"))) == 1
