"""Ways to sabotage a copy of an honest artefact, each of which `taijitu prove` should notice."""

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
    """One sabotage. `change` changes the model in place; `around` is active while the copy is proven.

    `base`: the artefact that is copied. `on_disk` changes the written file. `invisible`: why no proof can notice it.
    """

    name: str
    change: Callable[[Model], None] = lambda model: None
    base: str = "fp32"
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    on_disk: Callable[[Path], None] = lambda path: None
    invisible: str = ""


def prove_sabotaged(sabotage: Sabotage, base: dict[str, Path], folder: Path) -> Proof:
    """Prove a sabotaged copy of the artefact."""
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
    """Change the model card: values for fields of InputSpec, functions of the old card for fields of ModelCard."""

    def change(model: Model) -> None:
        was = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props})
        names = {field.name for field in dataclasses.fields(InputSpec)}
        spec = dataclasses.replace(was.input, **{name: changes[name] for name in names & changes.keys()})
        others = {name: value(was) for name, value in changes.items() if name not in names}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, dataclasses.replace(was, input=spec, **others).to_metadata())

    return change


def constant(chosen: Callable[[onnx.NodeProto, Weights], bool], change: Callable[[Weights], Weights]) -> Any:
    """Change the first constant, in the order of the nodes, for which `chosen` accepts its reader and its values."""

    def changed(model: Model) -> None:
        constants = {each.name: each for each in model.graph.initializer}
        for node in model.graph.node:
            for name in (name for name in node.input if name in constants):
                values = numpy_helper.to_array(constants[name]).copy()
                if chosen(node, values):
                    constants[name].CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))
                    return
        raise ValueError("got no constant that is chosen, expected one to sabotage")

    return changed


def node(operator: str, change: Callable[[onnx.NodeProto], None], number: int = 0) -> Callable[[Model], None]:
    """Change the node of an operator with this number."""
    return lambda model: change([each for each in model.graph.node if each.op_type == operator][number])


def conv(kind: str) -> Callable[[onnx.NodeProto, Weights], bool]:
    """Choose the weights of a "full", "depthwise" or "pointwise" convolution."""

    def chosen(reader: onnx.NodeProto, values: Weights) -> bool:
        if reader.op_type != "Conv" or values.ndim != 4 or values.shape[0] == 1:
            return False
        found = "pointwise" if values.shape[2:] == (1, 1) else "depthwise" if values.shape[1] == 1 else "full"
        return found == kind

    return chosen


def read_by(operator: str, dimensions: int) -> Callable[[onnx.NodeProto, Weights], bool]:
    """Choose constants with this number of dimensions that nodes of an operator read."""
    return lambda reader, values: reader.op_type == operator and values.ndim == dimensions


def flip_sign(values: Weights) -> Weights:
    """Flip the sign of the weight with the median magnitude."""
    flat = values.reshape(-1)
    flat[np.argsort(np.abs(flat))[flat.size // 2]] *= -1
    return values


def nudge(values: Weights) -> Weights:
    """Change one weight by one step of float32."""
    values.flat[0] = np.nextafter(values.flat[0], np.inf)
    return values


def swap_channels(values: Weights) -> Weights:
    """Exchange the first two output channels."""
    values[[0, 1]] = values[[1, 0]]
    return values


def replace_operator(operator: str, inputs: int = 1) -> Callable[[onnx.NodeProto], None]:
    """Replace the operator; keep the first inputs and no attributes."""

    def change(each: onnx.NodeProto) -> None:
        each.op_type = operator
        del each.attribute[:], each.input[inputs:]

    return change


def shift_pads(each: onnx.NodeProto) -> None:
    """Move one row of padding to the other side, as when SAME_UPPER is mistaken for SAME_LOWER."""
    pads = next(attribute for attribute in each.attribute if attribute.name == "pads").ints
    pads[0], pads[2] = pads[0] + 1, pads[2] - 1


def average_pooling(each: onnx.NodeProto) -> None:
    """Replace the pooling by average pooling."""
    each.op_type = "AveragePool"
    kept = [attribute for attribute in each.attribute if attribute.name in ("kernel_shape", "strides", "pads")]
    del each.attribute[:]
    each.attribute.extend(kept)


def set_nan(values: Weights) -> Weights:
    """Make one weight NaN."""
    values.flat[0] = np.nan
    return values


def cut_off(path: Path) -> None:
    """Remove the last tenth of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])


def damaged_external_data(path: Path) -> None:
    """Move the weights to an external data file and set one block of it to zero."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.data", size_threshold=1024)
    data = path.with_name("model.data")
    content = bytearray(data.read_bytes())
    content[4096:4608] = bytes(512)
    data.write_bytes(bytes(content))


def other_batch_norm(epsilon: float) -> Callable[[Weights], Weights]:
    """Scale weights as if a batch norm with another epsilon had been folded into them, at a variance of 0.1."""
    return lambda values: values * np.sqrt((0.1 + 1e-5) / (0.1 + epsilon))


@contextlib.contextmanager
def decoder_gives_bgr() -> Iterator[None]:
    """Make the JPEG decoder return blue, green, red."""
    import simplejpeg

    honest = simplejpeg.decode_jpeg
    simplejpeg.decode_jpeg = lambda *args, **options: honest(*args, **options)[..., ::-1]
    try:
        yield
    finally:
        simplejpeg.decode_jpeg = honest


@contextlib.contextmanager
def resize_without_antialias() -> Iterator[None]:
    """Make every resize of Pillow take the nearest pixel."""
    from PIL import Image

    honest = Image.Image.resize
    nearest = Image.Resampling.NEAREST
    Image.Image.resize = lambda self, size, *_, **__: honest(self, size, nearest)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Image.Image.resize = honest  # type: ignore[method-assign]


def quantiser_scale(reader: onnx.NodeProto, values: Weights) -> bool:
    """Choose the scale of a quantised activation."""
    return reader.op_type == "QuantizeLinear" and values.ndim == 0 and values.dtype != np.int8


SABOTAGES = (
    Sabotage(
        "BGR in the contract",
        card(colour="BGR"),
        invisible="the graph of a uint8 file orders the channels: no answer changes",
    ),
    Sabotage("channels of the input reversed", constant(conv("full"), lambda values: values[:, ::-1])),
    Sabotage("decoder gives BGR", around=decoder_gives_bgr),
    Sabotage("two labels exchanged", card(labels=lambda was: (was.labels[1], was.labels[0], *was.labels[2:]))),
    Sabotage("stretched instead of cropped", card(resize="stretch")),
    Sabotage("crop of 7/8", card(resize_size=36)),
    Sabotage("bicubic instead of bilinear", card(interpolation="bicubic_antialias")),
    Sabotage("OpenCV's resize", card(interpolation="bilinear_opencv")),
    Sabotage("resize without antialias", around=resize_without_antialias),
    Sabotage("pixels over 256 instead of 255", constant(read_by("Div", 3), lambda values: values * (256 / 255))),
    Sabotage("mean of another data set", constant(read_by("Sub", 3), lambda values: values * 0.97)),
    Sabotage("one weight of a convolution", constant(conv("full"), flip_sign)),
    Sabotage("one weight of a depthwise convolution", constant(conv("depthwise"), flip_sign)),
    Sabotage("one weight of a pointwise convolution", constant(conv("pointwise"), flip_sign)),
    Sabotage("one weight of the last layer", constant(read_by("Gemm", 2), flip_sign)),
    Sabotage("one bias of a convolution", constant(read_by("Conv", 1), flip_sign)),
    Sabotage("one bias of the last layer", constant(read_by("Gemm", 1), flip_sign)),
    Sabotage("one weight is NaN", constant(conv("pointwise"), set_nan)),
    Sabotage("two channels exchanged", constant(conv("full"), swap_channels)),
    Sabotage("an activation is missing", node("Sigmoid", replace_operator("Identity"))),
    Sabotage("Sigmoid became HardSigmoid", node("Sigmoid", replace_operator("HardSigmoid"))),
    Sabotage("epsilon 1e-3 instead of 1e-5", constant(conv("full"), other_batch_norm(1e-3))),
    Sabotage("max pooling became average pooling", node("MaxPool", average_pooling)),
    Sabotage("padding on the other side", node("Conv", shift_pads)),
    Sabotage("a scale of int8 off by 5 %", constant(quantiser_scale, lambda values: values * 1.05), base="int8"),
    Sabotage("damaged external data", on_disk=damaged_external_data),
    Sabotage("the file is cut", on_disk=cut_off),
    Sabotage(
        "one weight by one step of float32",
        constant(conv("full"), nudge),
        invisible="honest releases of ONNX Runtime differ by more",
    ),
)
