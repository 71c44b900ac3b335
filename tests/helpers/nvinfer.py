"""What Gst-nvinfer of DeepStream does with a configuration and frames, by its documentation."""

from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from taijitu_server.deploy.deepstream import main

DOCS = "https://docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvinfer.html"


def written(model: Path, folder: Path, *arguments: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys of both configurations."""
    assert main([str(model), "-o", str(folder), *arguments]) == 0
    found = []
    for name in ("config_infer_primary.txt", "config_infer_secondary.txt"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(folder / name)
        assert parser.sections() == ["property"]
        found.append(dict(parser["property"]))
    return found[0], found[1]


def nvinfer(config: dict[str, str], folder: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Do what nvinfer does with frames of its size: y = net-scale-factor * (x - offsets[c]), planar, and its model.

    DOCS has the formula; without the key `offsets` they are 0.
    """
    assert "offsets" not in config
    assert [int(side) for side in config["infer-dims"].split(";")] == [3, *frames.shape[1:3]]
    planes = (np.float32(config["net-scale-factor"]) * frames.astype(np.float32)).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(folder / config["onnx-file"], providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(config["output-blob-names"].split(";"), {"images": planes})[0]
    return found
