"""Read the preprocessing that others publish: timm, torchvision, Hugging Face, and ultralytics in the file itself."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taijitu_export.adopt.preprocessing import Preprocessing, Resize
from taijitu_runtime.card import InputSpec
from taijitu_runtime.console import shown
from taijitu_runtime.errors import TaijituError, UsageError
from taijitu_runtime.labels import checked_labels, labels_by_number, read_labels

PROCESSOR, CONFIG = "preprocessor_config.json", "config.json"
FORMS = f"timm/NAME, timm/NAME.TAG, torchvision/NAME, torchvision/NAME.WEIGHTS, {PROCESSOR} or timm's {CONFIG}"
_FILTERS = {0: "nearest", 2: "bilinear_antialias", 3: "bicubic_antialias"}
"""Pillow's numbers of the filters that a card can name."""
_STEPS = (
    "resize",
    "center_crop",
    "rescale",
    "normalize",
    "convert_rgb",
    "flip_channel_order",
    "resize_and_center_crop",
)
"""The steps of Hugging Face's processors that a card can hold, or that change nothing for an RGB picture."""
_SQUARE = ("DeiT", "Beit", "ViT")
"""Processors to which a size of one number is that of a square; to others that crop it is the shorter side."""


def preprocessing_like(text: str) -> Preprocessing:
    """Return the preprocessing that `text`, in one of FORMS, names. UsageError where no card can have it."""
    source, _, name = text.partition("/")
    if source in ("timm", "torchvision") and name:
        return _like_published(text)
    path = Path(text)
    # An empty path would be the working directory. Path.is_dir raises for a name that is too long.
    if text and os.path.isdir(path):  # noqa: PTH112
        path = path / (PROCESSOR if (path / PROCESSOR).is_file() or not (path / CONFIG).is_file() else CONFIG)
    if path.suffix.lower() == ".json":
        said = _json(path)
        if "pretrained_cfg" in said:
            return _like_timm_config(path, said)
        try:
            return _like_hugging_face(path, said)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}: got a value that is not a processor's ({error}); correct it") from None
    raise UsageError(f"got --like {text or 'an empty name'}, expected {FORMS}")


def preprocessing_of_metadata(metadata: Mapping[str, str]) -> Preprocessing:
    """Read an ONNX file's metadata as ultralytics writes it; empty for other files. UsageError for a detector.

    Its classifiers see the shorter side resized to the input's, the centre, and pixels in 0 to 1. The labels alone are
    read where no task is named, as by YOLOv5, whose classifiers see other numbers.
    """
    if "names" not in metadata:
        return Preprocessing()
    if (task := metadata.get("task", "classify")) != "classify":
        raise UsageError(f"got a file whose metadata names the task {task!r}, expected a classifier")
    names, size = _literal(metadata["names"]), _literal(metadata.get("imgsz", ""))
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    labels = labels_by_number(names) if isinstance(names, dict) else None
    if labels is not None:
        labels = checked_labels(labels, "its metadata, names")
    if "task" not in metadata:
        return Preprocessing(labels=labels)
    if isinstance(size, int):
        size = [size, size]
    is_size = isinstance(size, (list, tuple)) and len(size) == 2 and all(type(side) is int for side in size)
    return Preprocessing(
        usual_size=(size[0], size[1]) if is_size else None,
        resize=Resize("shorter_side"),
        mean=(0.0,),
        std=(1.0,),
        labels=labels,
        source="the file's own metadata",
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _like_published(name: str) -> Preprocessing:
    from taijitu_training.weights.published import published_input, published_labels

    spec = published_input(name)
    try:
        labels = published_labels(name)
    except TaijituError:  # not published; the user may have the file
        labels = ()
    return _of_spec(spec, labels, name)


def _like_timm_config(path: Path, said: Mapping[str, Any]) -> Preprocessing:
    from taijitu_training.weights.published import imagenet_labels, input_from_timm_config

    config = said["pretrained_cfg"]
    if not isinstance(config, dict):
        raise UsageError(
            f"{path}: got a pretrained_cfg of {type(config).__name__}, expected an object, as timm writes it"
        )
    own = config.get("label_names")
    labels: tuple[str, ...] = ()
    if said.get("label_names"):
        labels = read_labels(path)
    elif isinstance(own, list):
        labels = checked_labels(tuple(map(str, own)), str(path))
    elif said.get("num_classes", config.get("num_classes")) == len(imagenet_labels()):
        labels = imagenet_labels()
    try:
        return _of_spec(input_from_timm_config(str(path), config), labels, str(path))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: got a pretrained_cfg that timm cannot read ({error}); correct it") from None


def _of_spec(spec: InputSpec, labels: tuple[str, ...], source: str) -> Preprocessing:
    return Preprocessing(
        usual_size=(spec.height, spec.width),
        resize=Resize(spec.resize, spec.resize_size, of=min(spec.height, spec.width)),
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        labels=labels or None,
        source=source,
    )


def _like_hugging_face(path: Path, said: Mapping[str, Any]) -> Preprocessing:
    others = [key for key, value in said.items() if value is True and key.startswith("do_") and key[3:] not in _STEPS]
    if others:
        raise UsageError(
            f"{path}: got {', '.join(others)}, which an artefact cannot compute; prepare pictures in another way, with "
            "flags in place of --like"
        )
    config = path.with_name(CONFIG)
    names = _json(config).get("id2label") if config.is_file() else None
    labels = labels_by_number(names) if isinstance(names, dict) else None
    resize, final = _hugging_face_sizes(path, said)
    resample = said.get("resample", 0 if _kind(said).startswith("EfficientNet") else 2)
    if resample not in _FILTERS:
        raise UsageError(f"{path}: got resample {resample!r}, expected 0 (nearest), 2 (bilinear) or 3 (bicubic)")
    mean, std = _hugging_face_normalisation(said)
    return Preprocessing(
        usual_size=final,
        resize=dataclasses.replace(resize, of=min(final)) if said.get("do_resize", True) else None,
        interpolation=_FILTERS[resample],
        colour="BGR" if said.get("do_flip_channel_order") else None,
        scale=float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0,
        mean=mean or None,
        std=std or None,
        labels=None if labels is None else checked_labels(labels, str(config)),
        source=shown(path),
    )


def _hugging_face_normalisation(said: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation.

    An offset subtracts 1 before; the processor of EfficientNet divides by the standard deviation twice.
    """
    mean, std = (tuple(map(float, said.get(name) or ())) for name in ("image_mean", "image_std"))
    twice = _kind(said).startswith("EfficientNet") and said.get("include_top", True) and std
    if not said.get("do_normalize", bool(mean)):
        mean, std = (0.0,), std if twice else (1.0,)
    elif twice:
        std = tuple(one * one for one in std)
    offset = 1.0 if said.get("offset") or said.get("rescale_offset") else 0.0
    return tuple(one + offset for one in mean), std


def _kind(said: Mapping[str, Any]) -> str:
    return str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")


def _hugging_face_sizes(path: Path, said: Mapping[str, Any]) -> tuple[Resize, tuple[int, int]]:
    """Return the resize, and the height and width of its result."""
    kind = _kind(said)
    size, crop, share = _sides(said.get("size")), _sides(said.get("crop_size")), said.get("crop_pct")
    cropped = bool(said.get("do_center_crop", kind.startswith(("Levit", "PoolFormer"))))
    if kind.startswith("Levit"):
        share, crop = 224 / 256, crop or (224,)
    elif kind.startswith("PoolFormer"):
        share, crop = said.get("crop_pct", 0.9), crop or (224,)
    elif kind.startswith("ConvNext") or (not cropped and isinstance(share, float)):
        cropped, crop = bool(size) and size[0] < 384, size
        share = share or 224 / 256
    else:
        share = None
    if not size or (cropped and not crop):
        name = "crop_size" if size else "size"
        raise UsageError(f"{path}: got {name} {said.get(name)!r}, expected pixels, shortest_edge, or height and width")
    if cropped and share:
        return Resize("shorter_side", int(size[0] / share)), (crop[0], crop[-1])
    final = crop if cropped else size
    is_shorter = isinstance(said["size"], dict) and "shortest_edge" in said["size"]
    keeps_ratio = cropped and (is_shorter or (len(size) == 1 and not kind.startswith(_SQUARE)))
    return Resize("shorter_side" if keeps_ratio else "stretch", min(size)), (final[0], final[-1])


def _sides(said: Any) -> tuple[int, ...]:
    """Return (height, width), (shorter side,), or nothing."""
    if _is_pixels(said):
        return (said,)
    if isinstance(said, dict):
        for keys in (("shortest_edge",), ("height", "width")):
            if all(_is_pixels(said.get(key)) for key in keys):
                return tuple(said[key] for key in keys)
    return ()


def _is_pixels(said: Any) -> bool:
    return type(said) is int and said > 0


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}), expected {PROCESSOR}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: got a file that is not JSON ({error}), expected {PROCESSOR}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: got a {type(content).__name__}, expected a JSON object")
    return content
