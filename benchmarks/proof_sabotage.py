"""Accidents that a passport should notice, each done to a copy of an honest artefact."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.proof.prove import Proof, prove

Model = onnx.ModelProto
Weights = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Sabotage:
    """An accident. `change` gets the model to change in place; `around` is in force while it is proven.

    `base`: the artefact that it is done to. `on_disk` is done to the written file. `invisible`: why it cannot be seen.
    """

    name: str
    change: Callable[[Model], None] = lambda model: None
    base: str = "fp32"
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    on_disk: Callable[[Path], None] = lambda path: None
    invisible: str = ""


def sabotaged(sabotage: Sabotage, base: dict[str, Path], folder: Path) -> Proof:
    """The proof of a copy with the sabotage done to it."""
    place = folder / "sabotage"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    model = onnx.load(base[sabotage.base])
    sabotage.change(model)
    path = place / "model.onnx"
    onnx.save(model, path)
    sabotage.on_disk(path)
    with sabotage.around():
        return prove(path)


def card(**changes: Any) -> Callable[[Model], None]:
    """Another contract; fields of InputSpec by their names, others of ModelCard."""

    def change(model: Model) -> None:
        was = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props})
        names = {field.name for field in dataclasses.fields(InputSpec)}
        spec = dataclasses.replace(was.input, **{name: changes[name] for name in names & changes.keys()})
        others = {name: value(was) for name, value in changes.items() if name not in names}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, dataclasses.replace(was, input=spec, **others).to_metadata())

    return change


def constant(chosen: Callable[[onnx.NodeProto, Weights], bool], change: Callable[[Weights], Weights]) -> Any:
    """Change the first constant, in the order of the nodes, that is `chosen` with the node that reads it."""

    def changed(model: Model) -> None:
        constants = {each.name: each for each in model.graph.initializer}
        for node in model.graph.node:
            for name in (name for name in node.input if name in constants):
                values = numpy_helper.to_array(constants[name]).copy()
                if chosen(node, values):
                    constants[name].CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))
                    return
        raise ValueError("no constant to sabotage")

    return changed


def node(operator: str, change: Callable[[onnx.NodeProto], None], number: int = 0) -> Callable[[Model], None]:
    """Change one node of an operator."""
    return lambda model: change([each for each in model.graph.node if each.op_type == operator][number])


def conv(kind: str) -> Callable[[onnx.NodeProto, Weights], bool]:
    """Weights of a convolution: "full", "depthwise" or "pointwise"."""

    def chosen(reader: onnx.NodeProto, values: Weights) -> bool:
        if reader.op_type != "Conv" or values.ndim != 4 or values.shape[0] == 1:
            return False
        found = "pointwise" if values.shape[2:] == (1, 1) else "depthwise" if values.shape[1] == 1 else "full"
        return found == kind

    return chosen


def of(operator: str, dimensions: int) -> Callable[[onnx.NodeProto, Weights], bool]:
    """Constants of so many dimensions that nodes of an operator read."""
    return lambda reader, values: reader.op_type == operator and values.ndim == dimensions


def flip_sign(values: Weights) -> Weights:
    """Change the sign of the one weight whose magnitude is the median."""
    flat = values.reshape(-1)
    flat[np.argsort(np.abs(flat))[flat.size // 2]] *= -1
    return values


def nudged(values: Weights) -> Weights:
    """One weight by one step of float32."""
    values.flat[0] = np.nextafter(values.flat[0], np.inf)
    return values


def swapped(values: Weights) -> Weights:
    """The first two output channels exchanged."""
    values[[0, 1]] = values[[1, 0]]
    return values


def become(operator: str, inputs: int = 1) -> Callable[[onnx.NodeProto], None]:
    """Another operator over the first inputs, without attributes."""

    def change(each: onnx.NodeProto) -> None:
        each.op_type = operator
        del each.attribute[:], each.input[inputs:]

    return change


def shift_pads(each: onnx.NodeProto) -> None:
    """One row of padding moves from one side to the other, as where SAME_UPPER was taken for SAME_LOWER."""
    pads = next(attribute for attribute in each.attribute if attribute.name == "pads").ints
    pads[0], pads[2] = pads[0] + 1, pads[2] - 1


def average(each: onnx.NodeProto) -> None:
    """Pooling that averages."""
    each.op_type = "AveragePool"


def nan(values: Weights) -> Weights:
    """One weight that is not a number."""
    values.flat[0] = np.nan
    return values


def cut(path: Path) -> None:
    """The last tenth of the file is missing."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])


def damaged_external_data(path: Path) -> None:
    """The weights lie in a file of their own, of which one block was zeroed."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.data", size_threshold=0)
    data = path.with_name("model.data")
    content = bytearray(data.read_bytes())
    content[4096:4608] = bytes(512)
    data.write_bytes(bytes(content))


def other_batch_norm(epsilon: float) -> Callable[[Weights], Weights]:
    """Weights as batch norm of another epsilon leaves them when it is folded, where the variance is 0.1."""
    return lambda values: values * np.sqrt((0.1 + 1e-5) / (0.1 + epsilon))


@contextlib.contextmanager
def decoder_gives_bgr() -> Iterator[None]:
    """A JPEG decoder that hands out blue, green, red."""
    import simplejpeg

    honest = simplejpeg.decode_jpeg
    simplejpeg.decode_jpeg = lambda *args, **options: honest(*args, **options)[..., ::-1]
    try:
        yield
    finally:
        simplejpeg.decode_jpeg = honest


@contextlib.contextmanager
def resize_without_antialias() -> Iterator[None]:
    """Every resize of Pillow takes the nearest pixel."""
    from PIL import Image

    honest = Image.Image.resize
    nearest = Image.Resampling.NEAREST
    Image.Image.resize = lambda self, size, *_, **__: honest(self, size, nearest)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Image.Image.resize = honest  # type: ignore[method-assign]


def quantiser_scale(reader: onnx.NodeProto, values: Weights) -> bool:
    """The scale of a quantised activation."""
    return reader.op_type == "QuantizeLinear" and values.ndim == 0 and values.dtype != np.int8


SABOTAGES = (
    Sabotage("prepared as BGR by the contract", card(colour="BGR")),
    Sabotage("decoder gives BGR", around=decoder_gives_bgr),
    Sabotage("two labels exchanged", card(labels=lambda was: (was.labels[1], was.labels[0], *was.labels[2:]))),
    Sabotage("stretched instead of cropped", card(resize="stretch")),
    Sabotage("crop of 7/8", card(resize_size=36)),
    Sabotage("bicubic instead of bilinear", card(interpolation="bicubic_antialias")),
    Sabotage("OpenCV's resize", card(interpolation="bilinear_opencv")),
    Sabotage("resize without antialias", around=resize_without_antialias),
    Sabotage("pixels over 256 instead of 255", constant(of("Div", 4), lambda values: values * (256 / 255))),
    Sabotage("mean of another data set", constant(of("Sub", 4), lambda values: values * 0.97)),
    Sabotage("one weight of a convolution", constant(conv("full"), flip_sign)),
    Sabotage("one weight of a depthwise convolution", constant(conv("depthwise"), flip_sign)),
    Sabotage("one weight of a pointwise convolution", constant(conv("pointwise"), flip_sign)),
    Sabotage("one weight of the last layer", constant(of("Gemm", 2), flip_sign)),
    Sabotage("one bias of a convolution", constant(of("Conv", 1), flip_sign)),
    Sabotage("one bias of the last layer", constant(of("Gemm", 1), flip_sign)),
    Sabotage("one weight is NaN", constant(conv("pointwise"), nan)),
    Sabotage("two channels exchanged", constant(conv("full"), swapped)),
    Sabotage("an activation is missing", node("Sigmoid", become("Identity"))),
    Sabotage("Sigmoid became HardSigmoid", node("Sigmoid", become("HardSigmoid"))),
    Sabotage("epsilon 1e-3 instead of 1e-5", constant(conv("full"), other_batch_norm(1e-3))),
    Sabotage("max pooling became average pooling", node("MaxPool", average)),
    Sabotage("padding on the other side", node("Conv", shift_pads)),
    Sabotage("a scale of int8 off by 5 %", constant(quantiser_scale, lambda values: values * 1.05), base="int8"),
    Sabotage("damaged external data", on_disk=damaged_external_data),
    Sabotage("the file is cut", on_disk=cut),
    Sabotage(
        "one weight by one step of float32",
        constant(conv("full"), nudged),
        invisible="honest runs of other numbers of threads differ by more",
    ),
)
