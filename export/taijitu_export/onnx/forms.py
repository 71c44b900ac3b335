"""The user's choices for the form of an ONNX file; without torch, for the command line."""

from __future__ import annotations

INPUT_FORMS = ("uint8", "float32")
NISH_FORMS = ("op", "decomposed")
TARGETS = ("engine", "cpu")
