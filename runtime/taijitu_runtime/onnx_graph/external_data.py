"""The external data of an ONNX file, weights in other files: their names, and the hash of all together."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from taijitu_runtime.onnx_graph import protobuf

# The entry that every tensor has whose data is in another file.
_LOCATION = protobuf.write([protobuf.text(1, "location")])


def has_external_data(model: bytes) -> bool:
    """Return whether a serialised ModelProto, or bytes that look like one, has weights in other files."""
    return _LOCATION in model


def external_files(path: Path, model: bytes) -> list[Path]:
    """Return the files with weights of the model at `path`, whose content is `model`: each once, sorted.

    They are next to it, or in folders there, wherever the process runs. Those that do not exist are left out.
    """
    return [file for file in named_files(path, model) if file.is_file()]


def missing_files(path: Path, model: bytes) -> list[Path]:
    """Return the files with weights that the model at `path`, whose content is `model`, names and that do not exist."""
    return [file for file in named_files(path, model) if not file.is_file()]


def sha256_with_weights(path: Path, model: bytes | None = None) -> str:
    """Return the sha256 of an ONNX file, followed by its files of weights, if any, sorted by name.

    `model`: the file's content, where it was read already.
    """
    model = path.read_bytes() if model is None else model
    digest = hashlib.sha256(model)
    for file in external_files(path, model):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def named_files(path: Path, model: bytes) -> list[Path]:
    """Return the files with weights that the model at `path`, whose content is `model`, names, there or not."""
    names = set()
    position = model.find(_LOCATION)
    while position >= 0:
        position += len(_LOCATION)
        names.add(_value_at(model, position))
        position = model.find(_LOCATION, position)
    inside = (name for name in sorted(names) if not PurePosixPath(name).is_absolute() and ".." not in name.split("/"))
    return [path.parent / name for name in inside if name and "\0" not in name]


def _value_at(model: bytes, position: int) -> str:
    """Return the value of the entry whose key ends at `position`; empty where these bytes are not an entry."""
    if model[position : position + 1] != b"\x12":
        return ""
    try:
        length, start = protobuf.read_varint(model, position + 1)
    except ValueError:
        return ""
    return model[start : start + length].decode("utf-8", "replace") if length < 4096 else ""
