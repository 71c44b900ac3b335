"""Networks of timm and torchvision through the exporter: those of the Nish paper, and pretrained ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from taijitu_export.to_onnx import cli
from taijitu_export.to_onnx.export import export_file
from taijitu_runtime.classifier import Classifier
from taijitu_training import checkpoint
from taijitu_training.weights.from_model import checkpoint_from_model

Make = Callable[..., Path]

# Tables 1 and 2 of the Nish paper, and how often each network calls its activation.
NISH_PAPER = [
    ("torchvision/squeezenet1_1", 26),
    ("torchvision/resnet18", 17),
    ("torchvision/mobilenet_v2", 35),
    ("torchvision/efficientnet_b0", 49),
    ("torchvision/efficientnet_v2_s", 102),
    ("timm/tinynet_b", 49),
    ("timm/tinynet_c", 46),
]


def exports(source: Path, act: str, count: int) -> None:
    assert export_file(source).parity.holds
    operators = [node.op_type for node in onnx.load(source.with_suffix(".onnx")).graph.node]
    node = act.capitalize()
    assert operators.count(node) == count
    others = {"Relu", "Clip", "HardSwish", "Gelu", "Erf", "Mish", "Nish"} - {node}
    assert not (others | {"Range"}) & set(operators), "another activation, or an index that is computed"


@pytest.mark.parametrize(
    ("name", "act", "count"), [("torchvision/squeezenet1_1", "mish", 26), ("timm/tinynet_c", "nish", 46)]
)
def test_networks_of_other_libraries_export_with_another_activation(
    make_checkpoint: Make, name: str, act: str, count: int
) -> None:
    exports(make_checkpoint(name, act=act, image_size=64), act, count)


@pytest.mark.networks
@pytest.mark.parametrize("act", ["nish", "mish"])
@pytest.mark.parametrize(("name", "count"), NISH_PAPER)
def test_the_nish_papers_networks_export_at_their_own_size(
    make_checkpoint: Make, name: str, act: str, count: int
) -> None:
    exports(make_checkpoint(name, act=act), act, count)


def test_a_pretrained_network_of_timm_answers_on_onnx_runtime_as_it_does_in_timm(
    photograph: Path, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=4).eval()
    torch.nn.init.normal_(model.classifier.weight)  # so that the answers are not all alike
    made = checkpoint_from_model("timm/test_efficientnet", model, ["cat", "dog", "fish", "owl"])
    checkpoint.save(made, tmp_path / "ckpt.pt")
    assert cli.main([str(tmp_path / "ckpt.pt"), "-o", str(tmp_path / "model.onnx")]) == 0
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with Image.open(photograph) as picture, torch.inference_mode():
        expected = model(transform(picture.convert("RGB"))[None]).softmax(1)[0]
    with Classifier.from_file(tmp_path / "model.onnx") as classifier:
        answers = classifier.predict(photograph, top=4).answers
    got = [answer.probability for answer in sorted(answers, key=lambda answer: answer.index)]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)
    assert max(got) - min(got) > 0.01
