"""Networks of timm and torchvision as torch exports them: adopted, in every precision, and as engines.

`make test-networks PYTEST='-k mobilenet_v2'` runs one of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from taijitu_export.adopt.adopt import adopt_file
from taijitu_export.adopt.preprocessing import Preprocessing, Resize
from taijitu_export.engine.engine_artefact import make_engine
from taijitu_export.engine.request import Request
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_export.sample_pictures import sample_pictures
from taijitu_training.data import normalise
from taijitu_training.models import create_model
from taijitu_training.recipes.named import RECIPES

pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")

LABELS = tuple(f"label {i}" for i in range(7))

# By the side of their pictures in pixels: small, where a network takes any size.
NETWORKS = {
    "torchvision/shufflenet_v2_x0_5": 64,
    "torchvision/mnasnet0_5": 64,
    "torchvision/mobilenet_v2": 64,
    "torchvision/mobilenet_v3_small": 64,
    "torchvision/resnet18": 64,
    "torchvision/squeezenet1_1": 64,
    "torchvision/efficientnet_b0": 64,
    "torchvision/regnet_y_400mf": 64,
    "torchvision/densenet121": 64,
    "torchvision/googlenet": 64,
    "torchvision/inception_v3": 96,
    "torchvision/resnext50_32x4d": 64,
    "torchvision/alexnet": 64,
    "torchvision/vgg11_bn": 64,
    "torchvision/convnext_tiny": 64,
    "torchvision/swin_t": 64,
    "torchvision/maxvit_t": 224,
    "torchvision/vit_b_16": 64,
    "timm/tf_efficientnet_lite0": 64,
    "timm/tinynet_e": 64,
    "timm/mobilenetv3_small_050": 64,
    "timm/mobilenetv4_conv_small": 64,
    "timm/ghostnet_050": 64,
    "timm/repghostnet_050": 64,
    "timm/lcnet_050": 64,
    "timm/hardcorenas_a": 64,
    "timm/mixnet_s": 64,
    "timm/mnasnet_small": 64,
    "timm/rexnet_100": 64,
    "timm/repvgg_a0": 64,
    "timm/mobileone_s0": 64,
    "timm/fastvit_t8": 64,
    "timm/edgenext_xx_small": 64,
    "timm/mobilevit_xxs": 64,
    "timm/coat_lite_tiny": 224,
    "timm/levit_128s": 224,
    "timm/poolformer_s12": 64,
    "timm/efficientvit_b0": 64,
    "timm/starnet_s1": 64,
    "timm/deit_tiny_patch16_224": 224,
    "timm/resmlp_12_224": 224,
    "timm/skresnet18": 64,
}


def exported(name: str, side: int, path: Path) -> None:
    """Export the network with torch as a user would: by turns with a fixed batch, with any, and by the old exporter."""
    torch.manual_seed(0)
    network = create_model(name, num_classes=len(LABELS), image_size=side)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # Sets statistics with which no signal of such pictures fades or grows along the network.
    network(normalise(torch.from_numpy(sample_pictures(8, side, side, seed=1)), RECIPES["fine_tune"]))
    blank = (torch.zeros(2, 3, side, side),)
    way = list(NETWORKS).index(name) % 3
    if way == 0:
        torch.onnx.export(network.eval(), blank, path, dynamo=True, verbose=False)
    elif way == 1:
        shapes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(network.eval(), blank, path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    else:
        torch.onnx.export(network.eval(), blank, path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})


@pytest.mark.networks
@pytest.mark.filterwarnings("ignore")  # of torch's exporters, about their own internals
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_goes_from_torchs_exporter_to_every_precision_and_to_engines(name: str, tmp_path: Path) -> None:
    side = NETWORKS[name]
    exported(name, side, tmp_path / "model.onnx")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    known = Preprocessing(labels=LABELS, mean=mean, std=std, resize=Resize("shorter_side"))
    adopted = adopt_file(tmp_path / "model.onnx", tmp_path / "fp32.onnx", known)
    model = onnx.load(adopted.path)
    pictures = sample_pictures(4, side, side)
    # An untrained network may lose any accuracy.
    data = CalibrationData(pictures, pictures, np.zeros(4, np.int64), "4 pictures", "4 pictures")
    for precision, purpose in (("fp16", None), ("int8", "engine")):
        request = PrecisionRequest(precision, max_drop=100.0, purpose=purpose)
        onnx.save(convert(model, adopted.card, request, data).model, tmp_path / f"{precision}.onnx")
    for precision in ("fp32", "fp16"):  # TensorRT-RTX refuses int8, which test_engine_versions.py shows
        request = Request(source=tmp_path / f"{precision}.onnx", output=tmp_path / f"{precision}.engine")
        assert make_engine(request).card.precision.asked == precision
