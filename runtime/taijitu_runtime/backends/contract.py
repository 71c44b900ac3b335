"""What an artefact's graph has to look like, by names, types and shapes, and whether that agrees with its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.pictures.preprocess import normalise

Layout = Literal["uint8 NHWC", "float32 NCHW", "float32 NCHW pixels"]
LAYOUTS: dict[str, Layout] = {"uint8": "uint8 NHWC", "float32": "float32 NCHW"}
"""The layout of an input by its type; for float32, the card says whether it holds pixels."""

MADE_BY = "expected a model made by: taijitu onnx checkpoint.pt -o model.onnx, or taijitu adopt"


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """The array that a model takes.

    `layout`: "uint8 NHWC", RGB in [0, 255], normalised inside the model; "float32 NCHW", normalised by the caller; or
    "float32 NCHW pixels", RGB in [0, 255], normalised inside the model.
    `height`, `width`: pixels. `min_batch` to `max_batch`: pictures in one call; `max_batch` None: no limit.
    """

    layout: Layout
    height: int
    width: int
    min_batch: int = 1
    max_batch: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type: uint8 or float32."""
        return np.dtype(self.layout.split()[0])

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Return the shape of a batch of that size."""
        if self.layout == "uint8 NHWC":
            return (batch, self.height, self.width, 3)
        return (batch, 3, self.height, self.width)

    def as_in(self, card: ModelCard) -> ModelInput:
        """Return the same with the layout that the card gives an array of this type."""
        return dataclasses.replace(self, layout=layout_of(self.dtype.name, card.input))


class Tensor(NamedTuple):
    """An input or output of a graph: numpy's name of its type, and its shape, with None for an open dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def layout_of(dtype: str, spec: InputSpec) -> Layout:
    """Return the layout of an input, by numpy's name of its type and the card's."""
    return "float32 NCHW pixels" if dtype == "float32" and spec.float_values == "pixels" else LAYOUTS[dtype]


def rows_from_pixels(pixels: NDArray[np.uint8], layout: Layout, spec: InputSpec) -> NDArray[Any]:
    """Return prepared images, uint8 RGB (N, H, W, 3), in a layout."""
    if layout == "uint8 NHWC":
        return pixels
    if layout == "float32 NCHW pixels":
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    return normalise(pixels, spec)


def padded(rows: NDArray[Any], least: int) -> NDArray[Any]:
    """Return rows (N, ...), with rows of zeros behind them where there are fewer than `least`."""
    missing = max(0, least - len(rows))
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)]) if missing else rows


def input_and_classes(path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[ModelInput, int | None]:
    """Return the input of an artefact's graph and its number of logits, None where that is open.

    ArtefactError where it is not an artefact's graph.
    """
    names = [tensor.name for tensor in inputs], [tensor.name for tensor in outputs]
    if names != (["images"], ["logits"]):
        raise not_an_artefact(path, f"inputs {names[0]} and outputs {names[1]} instead of 'images' and 'logits'")
    (images,), (logits,) = inputs, outputs
    if logits.dtype != "float32" or len(logits.shape) != 2:
        raise not_an_artefact(path, f"logits of {logits.dtype} {list(logits.shape)} instead of float32 [N, K]")
    layout = LAYOUTS.get(images.dtype)
    if layout is None or len(images.shape) != 4:
        got = f"images of {images.dtype} {list(images.shape)}"
        raise not_an_artefact(path, f"{got} instead of uint8 [N, H, W, 3] or float32 [N, 3, H, W]")
    batch, *rest = images.shape
    channels, height, width = (rest[2], *rest[:2]) if layout == "uint8 NHWC" else (rest[0], *rest[1:])
    if channels != 3 or height is None or width is None:
        raise not_an_artefact(
            path, f"images of shape {list(images.shape)} instead of a fixed height and width and 3 channels"
        )
    model_input = ModelInput(layout, height, width)
    if batch is not None:
        model_input = ModelInput(layout, height, width, min_batch=batch, max_batch=batch)
    return model_input, logits.shape[1]


def check_card(path: Path, card: ModelCard, model_input: ModelInput, classes: int) -> None:
    """Raise ArtefactError unless the size of the pictures and the number of logits are those of the card."""
    size, promised = (model_input.height, model_input.width), (card.input.height, card.input.width)
    if size != promised:
        raise ArtefactError(
            f"{path}: got a model input of {size} pixels (height, width), expected {promised} as its card says; "
            "make it again with: taijitu onnx"
        )
    if classes != len(card.labels):
        raise ArtefactError(
            f"{path}: got {classes} logits, expected {len(card.labels)}, one for each label of its card; make it "
            "again with: taijitu onnx"
        )


def not_an_artefact(path: Path, got: str) -> ArtefactError:
    """Return the error for a file that is not an artefact of taijitu."""
    return ArtefactError(f"{path}: got {got}, {MADE_BY}")
