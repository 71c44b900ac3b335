"""The user's choices for the form of an ONNX file; without torch, for the command line."""

from __future__ import annotations

from typing import Literal

INPUT_FORMS = ("uint8", "float32", "pixels")
ADOPTED_FORMS = ("uint8", "pixels")  # not float32: an adopted file always normalises itself
FORM_OF_LAYOUT = {"uint8 NHWC": "uint8", "float32 NCHW": "float32", "float32 NCHW pixels": "pixels"}
NISH_FORMS = ("op", "decomposed")
PURPOSES = ("engine", "cpu")
Layout = Literal["nchw", "nhwc"]
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
