"""The part of the public name `taijitu` that this package implements, with paths and plain values as arguments.

Except `build_engine`, in engine/api.py: a board has no torch, which these functions need.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from taijitu_export.adopt.adopt import AdoptResult, adopt_file
from taijitu_export.adopt.like import preprocessing_like
from taijitu_export.adopt.preprocessing import (
    COLOURS,
    INTERPOLATIONS,
    Colour,
    Interpolation,
    Preprocessing,
    card_name,
    resize_from_text,
    size_of,
)
from taijitu_export.comparison.verify import Verification, verify_file
from taijitu_export.decision.calibrate import CalibrateResult, calibrate_file
from taijitu_export.decision.threshold import ThresholdRequest
from taijitu_export.onnx.forms import Layout
from taijitu_export.precision.conversion import PrecisionRequest
from taijitu_export.to_onnx.export import OnnxResult, export_file
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import named_path
from taijitu_runtime.labels import check_in_order, read_labels

AnyPath = str | os.PathLike[str]


def export_onnx(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    *,
    input_form: Literal["uint8", "float32", "pixels"] = "uint8",
    nish: Literal["op", "decomposed"] = "op",
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    purpose: Literal["engine", "cpu"] | None = None,
    calibration: AnyPath | None = None,
    max_drop: float | None = None,
    skip_unreadable: bool = False,
) -> OnnxResult:
    """Export a checkpoint to ONNX, check it against PyTorch, and keep it only if both agree.

    Args:
        checkpoint: A file that `train`, `taijitu train` or `taijitu checkpoint` wrote; or, for a smaller precision, a
            float32 ONNX file that `adopt` or this function wrote.
        output: The ONNX file; by default next to the checkpoint, as .onnx, .fp16.onnx or .int8.onnx.
        input_form: "uint8": images (N, H, W, 3), normalised inside; "float32": (N, 3, H, W), normalised by the caller;
            "pixels": float32 (N, 3, H, W) in [0, 255], normalised inside.
        nish: "op": one node with its function body; "decomposed": standard operators only.
        precision: The precision of the layers; layers that would cost accuracy stay float32.
        purpose: The runtime of an int8 file. "engine", the default: float16 between the int8 layers, for TensorRT 10
            and later; "cpu": float32 between them, for ONNX Runtime and TensorRT 8.6.
        calibration: Folder or tar of pictures to calibrate int8 with, and to check fp16 and int8 with.
        max_drop: Percentage points of top-1 accuracy that a smaller precision may cost; None for its own allowance.
        skip_unreadable: Leave out pictures of `calibration` that cannot be decoded; they are an error otherwise.

    Returns:
        The file that was written, and how well it agrees.

    Raises:
        ExportError: The file would not answer like the checkpoint. An existing file is unchanged.
        CheckpointError: The checkpoint cannot be read.
        ArtefactError: The ONNX file that was given in its place cannot be used.
        DataError: The pictures of `calibration` do not fit the model.
        PictureError: One of them cannot be decoded.
        UsageError: An argument is wrong, or `output` cannot be a file.
        WriteError: The file cannot be written, such as on a full disk.
    """
    smaller = PrecisionRequest.asked_for(
        precision, _path(calibration, "calibration"), max_drop, purpose, skip_unreadable=skip_unreadable
    )
    return export_file(
        named_path(checkpoint, "checkpoint"), _path(output, "output"), input_form=input_form, nish=nish, smaller=smaller
    )


def adopt(
    model: AnyPath,
    output: AnyPath,
    *,
    labels: AnyPath | Sequence[str] | None = None,
    like: str | None = None,
    resize: str | None = None,
    crop: int | None = None,
    size: tuple[int, int] | None = None,
    interpolation: Interpolation | None = None,
    color: Colour | None = None,
    scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: Layout | None = None,
    name: str | None = None,
    find: AnyPath | None = None,
    input_form: Literal["uint8", "pixels"] = "uint8",
) -> AdoptResult:
    """Make an artefact from a foreign ONNX file, check it against the original, and keep it only if both agree.

    Args:
        model: An image classifier of any exporter; weights may be in files next to it.
        output: The artefact.
        labels: The K labels in the order of the network's outputs, or a file with one per line.
        like: "timm/NAME.TAG", "torchvision/NAME" or the path of a preprocessor_config.json: the source of all that
            the other arguments do not give.
        resize: "shorter:256", "stretch", "stretch:256" or "letterbox:320:white".
        crop: Side in pixels of the square that the network sees; None for the file's.
        size: Height and width in pixels, in place of `crop`.
        interpolation: Filter of the resize; None for "bilinear".
        color: Order of the network's channels; None for "rgb", or "grey" for one channel.
        scale: First, pixels in [0, 255] are multiplied by this; None for 1/255.
        mean: Then this is subtracted: a list of one number, or of one per channel in the order of `color`.
        std: Then the result is divided by this: a list of one number, or of one per channel.
        layout: Layout of the network's input; None for what its shape says.
        name: Name of the network; None for the file's name.
        find: A few hundred pictures, folder or tar of <label>/*: what no argument gives is found by how well the
            network answers them.
        input_form: "uint8": `images` uint8 (N, H, W, 3); "pixels": float32 (N, 3, H, W) in [0, 255]. RGB.

    Returns:
        The file that was written, and how well it agrees.

    Raises:
        ExportError: The artefact would not answer like the original. An existing file at `output` is unchanged.
        ArtefactError: The file cannot be read, or is not a classifier.
        UsageError: A part of the contract is missing, or does not fit the network.
        WriteError: The file cannot be written, such as on a full disk.
        DataError: The pictures of `find` cannot be read, or do not decide for one contract.
    """
    if isinstance(labels, (str, os.PathLike)):
        labels = read_labels(Path(labels))
    check_in_order(labels)
    sides: Any = _numbers("size", size, "(height, width)")
    if sides is not None and len(sides) != 2:
        raise UsageError(f"got size={size!r}, expected (height, width)")
    known = Preprocessing(
        size=size_of(_python(crop), sides),
        resize=None if resize is None else resize_from_text(resize),
        interpolation=card_name("interpolation", interpolation, INTERPOLATIONS),
        colour=card_name("colour", color, COLOURS),
        scale=_python(scale),
        mean=_numbers("mean", mean, "a list of one number, or of one per channel"),
        std=_numbers("std", std, "a list of one number, or of one per channel"),
        labels=None if labels is None else tuple(labels),
    )
    if like is not None:
        known = known.over(preprocessing_like(like))
    return adopt_file(
        named_path(model, "model"),
        named_path(output, "output"),
        known,
        layout=layout,
        name=name,
        find=_path(find, "find"),
        input_form=input_form,
    )


def verify(
    model: AnyPath,
    data: AnyPath | None = None,
    reference: AnyPath | None = None,
    *,
    max_drop: float | None = None,
    expect: float | None = None,
    explain: bool = False,
    threads: int = 0,
    skip_unreadable: bool = False,
) -> Verification:
    """Judge a model file on pictures: against a reference, against labels, or both.

    Args:
        model: An ONNX file or an engine.
        data: Folder or tar of test/<label>/*, of <label>/*, or of pictures without labels; None for generated pictures.
        reference: The checkpoint or ONNX file that the model should answer like.
        max_drop: Percentage points of top-1 accuracy that it may cost on pictures with labels; None for its precision's
            own allowance.
        expect: Top-1 accuracy in percent that it should reach without a reference; None for the one in its card.
        explain: If it is not fine, name the first layer that diverges from the reference.
        threads: Cores to use; 0 for all.
        skip_unreadable: Leave out pictures that cannot be decoded, and list them; they are an error otherwise.

    Returns:
        The verdict and its evidence.

    Raises:
        ArtefactError: A model cannot be read, or the reference gives NaN or infinite logits.
        CheckpointError: The reference is a checkpoint that cannot be read.
        DataError: The pictures do not fit the model.
        PictureError: A picture cannot be decoded.
        UsageError: The arguments do not fit each other.
        WriteError: A file cannot be written, such as on a full disk.
    """
    return verify_file(
        named_path(model, "model"),
        _path(data, "data"),
        _path(reference, "reference"),
        max_drop=max_drop,
        expect=expect,
        explain=explain,
        threads=threads,
        skip_unreadable=skip_unreadable,
    )


def calibrate(
    model: AnyPath,
    data: AnyPath,
    output: AnyPath,
    *,
    accuracy: float | None = None,
    coverage: float | None = None,
    reject: float | None = None,
    guarantee: float | None = None,
    other: AnyPath | None = None,
    threads: int = 0,
    skip_unreadable: bool = False,
) -> CalibrateResult:
    """Choose a temperature, and on request a threshold and label sets, and write them into an ONNX file's card.

    Args:
        model: The ONNX file, of `export_onnx`.
        data: Folder or tar of pictures with labels that it was not trained on; half choose, the others measure.
        output: Path of the calibrated file; may be `model`.
        accuracy: In percent; the lowest threshold at which this share of known answers is right.
        coverage: In percent; the threshold at which this share of pictures is known.
        reject: The probability below which answers are unknown.
        guarantee: In percent; answers carry a set of labels that has the true one in this share of cases.
        other: What shows none of the labels: a label of `data`, a folder of pictures, or the model's label that means
            "none of these".
        threads: Cores to use; 0 for all.
        skip_unreadable: Leave out pictures that cannot be decoded; they are an error otherwise.

    Returns:
        The choices, and their values measured on the half that did not choose.

    Raises:
        ExportError: The pictures are too few, or no threshold meets the request.
        ArtefactError: The model cannot be read.
        DataError: The pictures do not fit the model.
        PictureError: A picture cannot be decoded.
        UsageError: The arguments do not fit each other.
        WriteError: A file cannot be written, such as on a full disk.
    """
    return calibrate_file(
        named_path(model, "model"),
        named_path(data, "data"),
        named_path(output, "output"),
        threshold=ThresholdRequest(accuracy, coverage, reject),
        guarantee=guarantee,
        other=None if other is None else os.fspath(other),
        threads=threads,
        skip_unreadable=skip_unreadable,
    )


def _numbers(name: str, got: Any, expected: str) -> tuple[Any, ...] | None:
    """Return a sequence or array of numbers, or None, as a tuple of Python's. UsageError for anything else."""
    if got is None:
        return None
    if isinstance(got, str) or not isinstance(got, (Sequence, np.ndarray)):
        raise UsageError(f"got {name}={got!r}, expected {expected}")
    return tuple(map(_python, got))


def _python(number: Any) -> Any:
    """Return a number of NumPy, which no card can hold, as Python's; anything else unchanged, for the checks."""
    return number.item() if isinstance(number, np.generic) else number


def _path(path: AnyPath | None, argument: str) -> Path | None:
    return None if path is None else named_path(path, argument)
