"""What a user can choose of an ONNX file's form; apart from torch, for the command line."""

from __future__ import annotations

INPUT_FORMS = ("uint8", "float32")
NISH_FORMS = ("op", "decomposed")
TARGETS = ("engine", "cpu")
