"""Read weights that people have, .pth, .safetensors and pytorch_model.bin, as tensors by name, without running code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taijitu_runtime.errors import first_line, listed, path_fault
from taijitu_runtime.files import sha256_of
from taijitu_training.errors import CheckpointError
from taijitu_training.tensors.containers import InertObject, weights_in

FORMS = "weights of PyTorch (.pth, .pt, .ckpt, .bin) or .safetensors"
DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}
MAX_REPEATED_BYTES = 2**20
"""The size of a tensor whose numbers share memory, as `expand` makes it: a file of 1 kB can have one of any size."""
_PICKLE = b"\x80\x02"  # the format of torch.save before its zip files


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file by their names in it, on the CPU.

    `sha256`: of the whole file. `part`: which of a file's sets of weights these are, in words; empty if it has one.
    `has_order`: the tensors are in the order in which they were saved; .safetensors keep none.
    """

    path: Path
    tensors: dict[str, Tensor]
    sha256: str
    part: str = ""
    has_order: bool = True


def read_weights(path: Path, key: str | None = None) -> WeightsFile:
    """Read a file of weights.

    Containers are opened: of EMA, timm, Lightning and the like (moving averages first), and a module that was
    saved whole. Objects of any class may be in the file; none is created.

    Args:
        path: The file; its first bytes decide its kind.
        key: The container's entry with the weights, if another one than the first is meant.

    Raises:
        CheckpointError: The file is of another kind, damaged, or has tensors that no network can take; one line.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait, and it cannot be read twice
        raise CheckpointError(f"{path}: got a folder or device, expected {FORMS}; check the path")
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
        sha256 = sha256_of(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: could not be read ({path_fault(error)}), expected {FORMS}; check it") from None
    if _is_safetensors(head):
        if key is not None:
            raise CheckpointError(f"{path}: got --key {key} for .safetensors, which hold one set; remove it")
        tensors, part = _from_safetensors(path), ""
    else:
        tensors, part = weights_in(path, _from_torch(path, head), key)
    check_tensors(str(path), tensors)
    return WeightsFile(path, tensors, sha256, part, has_order=not _is_safetensors(head))


def is_weights(path: Path) -> bool:
    """Return whether the file at `path` begins like .safetensors, or like a PyTorch file other than a zip archive."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return _is_safetensors(head) or head.startswith(_PICKLE)


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{"


def check_tensors(where: str, tensors: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a tensor without numbers, or with some that networks, in float32, cannot have.

    These are NaN, infinity, and numbers of float64 that become infinite. Also for a form that networks lack.
    """
    for name, value in tensors.items():
        kind = None
        if not isinstance(value, Tensor):  # a module's extra state, or the packed weights of a quantised one
            kind = f"a {type(value).__name__}"
        elif value.is_meta:
            kind = "a tensor on the meta device, which has no numbers"
        elif value.layout != torch.strided:
            kind = f"a sparse tensor ({str(value.layout).removeprefix('torch.')})"
        elif value.dtype not in DTYPES:
            kind = f"a tensor of {str(value.dtype).removeprefix('torch.')}"
        elif value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), MAX_REPEATED_BYTES):
            kind = f"a tensor of {tuple(value.shape)} that repeats {value.untyped_storage().nbytes()} bytes"
        elif value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{where}: the weights in {name} are NaN or infinite; use an earlier checkpoint")
        elif value.dtype == torch.float64 and not value.float().isfinite().all():
            raise CheckpointError(
                f"{where}: got {float(value.abs().max()):.3g} in {name}, expected at most "
                f"{torch.finfo(torch.float32).max:.3g}, the largest number of float32, in which networks are computed; "
                "use an earlier checkpoint"
            )
        if kind:
            raise CheckpointError(f"{where}: {name} is {kind}, expected a dense one with its numbers; save it again")


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged .safetensors ({error}); get it again") from None


def _from_torch(path: Path, head: bytes) -> Any:
    is_zip = head.startswith(b"PK")
    if not is_zip and not head.startswith(_PICKLE):
        raise CheckpointError(f"{path}: got a file of another kind, expected {FORMS}; check it")
    if is_zip and (other := other_archive(path)):
        raise CheckpointError(f"{path}: got {other}, expected weights; where it was made, save model.state_dict()")
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
        with torch.serialization.safe_globals([(InertObject, name) for name in unknown]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about sparse and quantised tensors, which are refused
            content = torch.load(path, map_location="cpu", weights_only=True)
        changed = is_zip and has_changed(path)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("Unsupported global: GLOBAL ")[2].split(" ")[0] or "objects, not weights"
        raise CheckpointError(
            f"{path}: holds {reason} (nothing in it was run), expected weights; where it was made, save "
            "model.state_dict()"
        ) from None
    except Exception as error:  # a crafted file makes torch raise errors of nearly any class
        raise CheckpointError(f"{path}: damaged PyTorch file ({first_line(error)}); get it again") from None
    if changed:
        raise CheckpointError(f"{path}: damaged, got bytes that do not match their checksum; get it again")
    return content


def has_changed(path: Path) -> bool:
    """Return whether bytes of a file of torch.save do not match their checksum, which torch.load does not compare.

    Where `torch.serialization.set_crc32_options(False)` was set, it has 0 for each checksum, and nothing is compared.
    """
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            try:
                with archive.open(record) as content:
                    while record.CRC and content.read(2**20):
                        pass
            except zipfile.BadZipFile:
                return True
    return False


def other_archive(path: Path) -> str:
    """Return what a zip archive is, in words, if it is whole and not a file of torch.save; "" if it is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception:  # a crafted file makes zipfile raise several; torch reports how it is damaged
        return ""
    if "constants.pkl" in names:
        return "a TorchScript archive, which is code"
    return "" if "data.pkl" in names else f"a zip archive of {listed(sorted(names))}"
