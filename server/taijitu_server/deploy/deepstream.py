"""Write a model for DeepStream: configurations of Gst-nvinfer, the labels, and the ONNX file.

taijitu deepstream model.onnx -o deepstream
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import sys
from pathlib import Path

from taijitu_runtime.backends import ModelInput
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown
from taijitu_runtime.decision.decision import temperature_of
from taijitu_runtime.decision.rule import check_threshold
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import new_folder
from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.new_nodes import NewNodes
from taijitu_runtime.onnx_graph.nish import count_nish
from taijitu_runtime.onnx_graph.onnx_fields import GRAPH_OUTPUT, MODEL_GRAPH, MODEL_METADATA, NODE_OUTPUT, TENSOR_NAME
from taijitu_runtime.onnx_graph.protobuf import Field
from taijitu_runtime.output_path import check_new_folder
from taijitu_server.deploy.onnx_file import read_onnx_file
from taijitu_server.models.names import name_from_card

MODEL, LABELS = "model.onnx", "labels.txt"
PRIMARY, SECONDARY = "config_infer_primary.txt", "config_infer_secondary.txt"
OUTPUT = "probabilities"
MOST_NODES = 10  # more than are put before the output, which number their tensors
MOST_INTEGER = 2**31 - 1  # of nvinfer's configuration
NETWORK_MODES = {"fp32": 0, "fp16": 2}
AGAIN = "make it again: taijitu onnx CHECKPOINT --input pixels --nish decomposed"

Config = dict[str, int | float | str]


@dataclasses.dataclass(frozen=True)
class Written:
    """The folder, and what its answers may differ by from those of taijitu, in lines."""

    folder: Path
    notes: tuple[str, ...]


def build_parser() -> Parser:
    """Return the command line of `taijitu deepstream`."""
    parser = Parser(prog="taijitu deepstream", description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file of taijitu onnx or adopt with --input pixels")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the folder to write; must not "
                        "exist")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="frames or objects in one inference; of "
                        "frames the number of sources (default: %(default)s)")  # fmt: skip
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="number of the GPU (default: %(default)s)")
    parser.add_argument("--threshold", type=float, metavar="P", help="probability above which a label is attached "
                        "(default: that of the model's card, or 0)")  # fmt: skip
    return parser


@run("taijitu deepstream")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: written, 1: the model fails its proof, 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    written = deepstream_folder(
        args.model, args.out, batch_size=args.batch_size, gpu=args.gpu, threshold=args.threshold
    )
    use = f"nvinfer config-file-path={shlex.quote(str(written.folder / PRIMARY))} (frames) or {SECONDARY}"
    say(shown(f"{written.folder}: use it as {use}"), sys.stdout)
    for note in written.notes:
        say(f"note: {shown(note)}", sys.stdout)
    return 0


def deepstream_folder(model: Path, out: Path, *, batch_size: int, gpu: int, threshold: float | None) -> Written:
    """Write `out` with model.onnx, labels.txt and the two configurations of Gst-nvinfer.

    The ONNX file is loaded and proven first. The copy gives probabilities, after the card's
    temperature, in place of logits: nvinfer reports the largest output that is above its threshold and above 0.

    Raises:
        ArtefactError: The model cannot be read.
        UsageError: DeepStream cannot use the model, or an argument is wrong.
    """
    if not 1 <= batch_size <= MOST_INTEGER or not 0 <= gpu <= MOST_INTEGER:
        raise UsageError(
            f"got --batch-size {batch_size} --gpu {gpu}, expected 1 to {MOST_INTEGER} and 0 to {MOST_INTEGER}"
        )
    check_threshold(threshold)
    check_new_folder(out)
    card, model_input, content = read_onnx_file(model)
    _check(model, card, model_input, content)
    batch, output = model_input.max_batch or batch_size, output_name(content)
    notes = tuple(differences(card, model_input.max_batch, batch_size, threshold))
    with new_folder(out) as folder:
        (folder / MODEL).write_bytes(with_probabilities(content, card, model_input.max_batch, output))
        (folder / LABELS).write_text(";".join(card.labels) + "\n", encoding="utf-8")
        for name, is_primary in ((PRIMARY, True), (SECONDARY, False)):
            values = configuration(
                card, is_primary=is_primary, batch_size=batch, gpu=gpu, threshold=threshold, output=output
            )
            (folder / name).write_text(_text(values, notes), encoding="utf-8")
    return Written(out, notes)


def engine_name(batch_size: int, gpu: int, precision: str) -> str:
    """Return what nvinfer calls the engine that it builds of MODEL at its first start, and looks for at the next."""
    return f"{MODEL}_b{batch_size}_gpu{gpu}_{precision}.engine"


def output_name(model: bytes) -> str:
    """Return the name of the copy's output: OUTPUT, or OUTPUT_2 and so on where the network has such a tensor itself.

    An adopted network keeps the names of its own tensors, and a name that two nodes write makes the file invalid.
    """
    fields = protobuf.read(model)
    graph = b"".join(each.value for each in fields if each.number == MODEL_GRAPH and not isinstance(each.value, int))
    names = itertools.chain([OUTPUT], (f"{OUTPUT}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not _has_tensors(graph, name))


def configuration(
    card: ModelCard, *, is_primary: bool, batch_size: int, gpu: int, threshold: float | None, output: str
) -> Config:
    """Return the group `property` of a configuration of Gst-nvinfer, by its keys.

    As the primary network it gets whole frames, as a secondary one the objects of the detector with gie-unique-id 1.
    `output`: the name of the network's output.
    """
    spec = card.input
    values: Config = {
        "gpu-id": gpu,
        "onnx-file": MODEL,
        "model-engine-file": engine_name(batch_size, gpu, card.precision.name),
        "labelfile-path": LABELS,
        "batch-size": batch_size,
        "network-mode": NETWORK_MODES[card.precision.name],
        "network-type": 1,
        "process-mode": 1 if is_primary else 2,
        "gie-unique-id": 1 if is_primary else 2,
        "net-scale-factor": 1.0,
        "model-color-format": 0,
        "infer-dims": f"3;{spec.height};{spec.width}",
        "network-input-order": 0,
        "maintain-aspect-ratio": int(spec.resize == "letterbox"),
        "symmetric-padding": int(spec.resize == "letterbox"),
        "scaling-filter": 1,
        "output-blob-names": output,
        "classifier-threshold": _threshold(card, threshold),
        "classifier-type": name_from_card(card),
    }
    return values if is_primary else {**values, "operate-on-gie-id": 1, "classifier-async-mode": 0}


def differences(card: ModelCard, fixed_batch: int | None, batch_size: int, threshold: float | None) -> list[str]:
    """Return what DeepStream does otherwise than taijitu, in lines."""
    spec, found = card.input, []
    if spec.resize == "shorter_side" or (spec.resize == "stretch" and _is_cropped(spec)):
        found.append("nvinfer stretches the whole frame or object to the network's size; taijitu crops its centre")
    if spec.resize == "letterbox" and spec.fill != (0, 0, 0):
        found.append(f"nvinfer fills the border with black; taijitu with {spec.fill}")
    if spec.interpolation != "bilinear_opencv":
        found.append(f"nvinfer scales by bilinear interpolation on the GPU; taijitu by {spec.interpolation}")
    if fixed_batch not in (None, batch_size):
        found.append(f"the model takes batches of {fixed_batch} only, so batch-size is {fixed_batch}")
    decision = card.decision
    if decision is not None and threshold is None and decision.threshold is not None and decision.score == "energy":
        found.append("nvinfer knows no energy, by which the card decides: every answer is attached; give --threshold")
    if decision is not None and decision.guarantee is not None:
        found.append("nvinfer attaches one label; taijitu also gives the set of labels that the card guarantees")
    if decision is not None and decision.other is not None:
        found.append(f"nvinfer attaches the label {decision.other!r} like any other; in taijitu it is unknown")
    return found


def with_probabilities(model: bytes, card: ModelCard, batch: int | None, output: str) -> bytes:
    """Return the ONNX file with probabilities, float32 (N, K), instead of `logits`, and without its contract.

    The contract describes an output `logits`; nvinfer reads none, and taijitu must not open the copy by it.
    `batch`: the only size of batch that the model takes; None for any. `output`: the name of the new output.
    """
    nodes = NewNodes(output)
    value, temperature = "logits", temperature_of(card.decision)
    if card.output == "probabilities" and temperature != 1:
        value = nodes.add("Log", nodes.add("Max", value, nodes.constant(1e-38)))
    if temperature != 1:
        value = nodes.add("Div", value, nodes.constant(temperature))
    if card.output == "logits" or temperature != 1:
        value = nodes.add("Softmax", value)
    new = nodes.finish(value, ("batch" if batch is None else batch, len(card.labels)))
    fields: list[Field] = []
    for field in protobuf.read(model):
        if field.number == MODEL_GRAPH and not isinstance(field.value, int):
            graph = [each for each in protobuf.read(field.value) if each.number != GRAPH_OUTPUT]
            fields.append(protobuf.message(MODEL_GRAPH, [*graph, *new]))
        elif field.number != MODEL_METADATA:
            fields.append(field)
    return protobuf.write(fields)


def _has_tensors(graph: bytes, name: str) -> bool:
    """Return whether a node at any depth, or a weight, has the name of the output or of a tensor before it."""
    added = [name, *(f"{name}/{number}" for number in range(MOST_NODES))]
    fields = [protobuf.text(number, text) for text in added for number in (NODE_OUTPUT, TENSOR_NAME)]
    return any(protobuf.write([field]) in graph for field in fields)


def _check(model: Path, card: ModelCard, model_input: ModelInput, content: bytes) -> None:
    if model_input.layout != "float32 NCHW pixels":
        raise UsageError(
            f"{model}: got a model that takes {model_input.layout}, expected pixels, float32 NCHW in 0 to 255; {AGAIN}"
            ", or taijitu adopt FILE --input pixels"
        )
    if count_nish(content):
        raise UsageError(f"{model}: got Nish as an operator that TensorRT lacks, expected standard operators; {AGAIN}")
    if card.precision.name not in NETWORK_MODES:
        raise UsageError(
            f"{model}: got {card.precision.name}, expected fp32 or fp16: without a calibration table nvinfer builds an "
            f"engine in fp16; {AGAIN} --precision fp16"
        )
    for label in card.labels:
        if ";" in label:
            raise UsageError(
                f"{model}: got the label {label!r}, expected none with a semicolon, which parts labels here"
            )


def _threshold(card: ModelCard, threshold: float | None) -> float:
    if threshold is not None:
        return threshold
    decision = card.decision
    if decision is None or decision.threshold is None or decision.score != "probability":
        return 0.0
    return decision.threshold


def _is_cropped(spec: InputSpec) -> bool:
    return spec.resize_size > min(spec.height, spec.width)


def _text(values: Config, notes: tuple[str, ...]) -> str:
    lines = [f"# {note}" for note in notes]
    return "\n".join([*lines, "[property]", *(f"{key}={value}" for key, value in values.items())]) + "\n"
