"""Networks of timm and torchvision by name: unchanged, or with another activation everywhere."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import MissingDependencyError, TaijituError, UnknownNameError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.models import (
    create_model,
    irreplaceable_activations,
    list_models,
    model_options,
    replace_activations,
)
from taijitu_training.models.external import ExternalNetwork
from taijitu_training.models.nish_activation import Nish

# The Nish paper's networks, and how many activations and gates they have.
NISH_PAPER = [
    ("torchvision/squeezenet1_1", 26, 0),
    ("torchvision/resnet18", 9, 0),  # each is used twice
    ("torchvision/mobilenet_v2", 35, 0),
    ("torchvision/efficientnet_b0", 49, 16),
    ("torchvision/efficientnet_v2_s", 102, 30),
    ("timm/tinynet_b", 49, 16),
    ("timm/tinynet_c", 46, 15),
]


def of_type(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in model.modules())


@pytest.mark.parametrize(("name", "activations", "gates"), NISH_PAPER)
def test_the_nish_papers_networks_have_nish_everywhere_and_keep_their_gates(
    name: str, activations: int, gates: int
) -> None:
    with torch.device("meta"):  # nothing is computed with it
        model = create_model(name, num_classes=3, act="nish")
    assert of_type(model, Nish) == activations
    assert of_type(model, nn.ReLU, nn.ReLU6, nn.SiLU) == 0
    assert of_type(model, nn.Sigmoid) == gates


@pytest.mark.parametrize("name", ["timm/test_efficientnet", "torchvision/squeezenet1_1"])
def test_without_options_a_network_is_its_librarys_weight_for_weight(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name)
    torch.manual_seed(0)
    source, _, architecture = name.partition("/")
    if source == "timm":
        theirs = pytest.importorskip("timm").create_model(architecture)
        size = theirs.pretrained_cfg["input_size"][1:]
    else:
        theirs, size = pytest.importorskip("torchvision").models.get_model(architecture), (224, 224)
    assert model.input_size == size
    ours = {key.removeprefix("network."): value for key, value in model.state_dict().items()}
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.state_dict().items())
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(model.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/tinynet_c", "timm/test_vit"])
def test_small_pictures_are_trained_on_where_the_network_can(name: str) -> None:
    model = create_model(name, num_classes=4, image_size=64)
    assert model.input_size == (64, 64)
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 4)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("torchvision/squeezenet1_1", {"image_size": 5}, r"image_size=5 .*224"),
        ("torchvision/vit_b_32", {"image_size": 50}, "image_size=50 .*224"),
        ("timm/resnet18", {"image_size": 0}, "image_size=0,.* 1 "),
        ("timm/resnet18", {"num_classes": 0}, "num_classes=0,.* 1"),
        ("timm/vit_base_patch16_sapiens2", {}, "vit_base_patch16_sapiens2.*1024x768"),
    ],
)
def test_what_a_network_cannot_do_is_one_line(name: str, options: dict[str, int], text: str) -> None:
    with pytest.raises(TaijituError, match=text) as error:
        create_model(name, **options)
    assert "\n" not in str(error.value)


def test_a_network_of_fixed_size_gets_its_size() -> None:
    with torch.device("meta"):
        vit = create_model("torchvision/vit_b_32", image_size=64)
    assert vit.get_parameter("network.encoder.pos_embedding").shape == (1, 2 * 2 + 1, 768)


def test_a_network_without_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("timm"), "create_model", lambda *_, **__: nn.Conv2d(3, 5, 3))
    with pytest.raises(TaijituError, match=r"\(2, 5, 222, 222\)"):
        create_model("timm/resnet18")


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("torchvision/densenet121", r"relu \(1\)"),
        ("torchvision/googlenet", r"relu \(57\)"),
        ("timm/dm_nfnet_f0", "gelu"),
    ],
)
def test_an_activation_that_would_not_be_replaced_is_an_error(name: str, left: str) -> None:
    expected = rf"act='nish'.*{name}.*{left}.*act='own'"
    with torch.device("meta"), pytest.raises(TaijituError, match=expected):
        create_model(name, act="nish")


def test_a_network_with_functional_activations_trains_as_it_is() -> None:
    model = create_model("torchvision/googlenet", num_classes=3, image_size=64)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)


class Mixed(nn.Module):
    """A network with activations that can be replaced, that cannot, and gates."""

    def __init__(self) -> None:
        super().__init__()
        self.replaceable = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU6(), nn.GELU("tanh"), nn.LeakyReLU(), nn.Mish())
        self.others = nn.Sequential(nn.PReLU(), nn.SELU(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Tanh(), nn.Softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.others(self.replaceable(x))
        x = F.relu(torch.relu_(x.clone())).clamp(-5, 5)
        return F.rrelu(F.relu6(F.silu(x)) + F.hardswish(x) * torch.sigmoid(x))


def test_what_cannot_be_replaced_is_counted_before_and_after() -> None:
    left = {"prelu": 1, "elu": 1, "relu": 2, "hardtanh": 1, "silu": 1, "hardswish": 1, "rrelu": 1}
    model = Mixed()
    with irreplaceable_activations(model) as calls:
        model(torch.randn(2, 3))
    assert calls == left
    assert replace_activations(model, "nish") == 5
    with irreplaceable_activations(model) as calls:
        model(torch.randn(2, 3))
    model(torch.randn(2, 3))  # outside the block nothing is counted
    assert calls == left


def test_names_of_other_libraries_are_looked_up_there_and_not_listed() -> None:
    assert not [name for name in list_models() if "/" in name]
    with pytest.raises(UnknownNameError, match=r"timm.*'resnet_18'.* resnet18"):
        create_model("timm/resnet_18")
    with pytest.raises(UnknownNameError, match=r"timm.*'xyzzy'.* \d+ more$"):
        create_model("timm/xyzzy")
    with pytest.raises(UnknownNameError, match=r"torchvision.*'squeezenet'.*squeezenet1_"):
        create_model("torchvision/squeezenet")
    with pytest.raises(UnknownNameError, match=r"torchvision.*'fcn_resnet50'"):
        create_model("torchvision/fcn_resnet50")  # segmentation
    with pytest.raises(UnknownNameError, match=r"'resnet18'.* timm/resnet18, torchvision/resnet18"):
        create_model("resnet18")
    with pytest.raises(UnknownNameError, match=r"'xyzzy'.*timm/NAME, torchvision/NAME"):
        create_model("xyzzy")
    with pytest.raises(UnknownNameError, match=r"'misch'.* mish"):
        create_model("timm/resnet18", act="misch")
    with pytest.raises(UnknownNameError, match=r"timm/resnet18.*'img_size'.*image_size"):
        create_model("timm/resnet18", img_size=32)


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"timm.*\[train\]"):
        create_model("timm/resnet18")
    assert create_model("torchvision/squeezenet1_1", image_size=32).input_size == (32, 32)


@pytest.mark.parametrize(
    ("name", "changes", "options"),
    [
        ("timm/tinynet_c", {}, {"num_classes": 3, "act": "own", "image_size": 184, "stem": "own"}),
        ("torchvision/squeezenet1_1", {"act": "nish", "image_size": 32},
         {"num_classes": 3, "act": "nish", "image_size": 32, "stem": "own"}),
    ],
)  # fmt: skip
def test_a_checkpoint_builds_the_same_network_again(
    name: str, changes: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    assert model_options(name, num_classes=3, **changes) == options
    model = create_model(name, num_classes=3, **changes).eval()
    written = Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture(name, options),
        labels=["a", "b", "c"],
        input={},
        training={},
        producer=checkpoint.producer_versions(),
    )
    checkpoint.save(written, tmp_path / "ckpt.pt")
    read = checkpoint.load(tmp_path / "ckpt.pt")
    x = torch.randn(2, 3, *model.input_size)
    torch.testing.assert_close(read.model()(x), model(x))
    assert {"torch", "torchvision", "timm"} <= read.producer.keys()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("torchvision/squeezenet1_1", 8),  # two poolings are left
        ("torchvision/resnet18", 4),
        ("torchvision/mobilenet_v2", 2),
        ("torchvision/efficientnet_b0", 2),
        ("timm/tinynet_c", 2),
    ],
)
def test_a_cifar_stem_keeps_all_pixels_of_a_small_image(name: str, side: int) -> None:
    """Test the `side` of the last layer's input over height and width; it is 1 with the library's own stem."""
    for stem, expected in (("own", 1), ("cifar", side)):
        model = create_model(name, num_classes=3, image_size=32, stem=stem).eval()
        sides: list[int] = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _, args, out, seen=sides: seen.append(out.shape[-1]))
        model(torch.randn(1, 3, 32, 32))
        assert sides[0] == (32 if stem == "cifar" else 15 if "squeezenet" in name else 16)
        assert sides[-1] == expected


class Joining(nn.Module):
    """Batch norms that feed concatenations in every notation."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (norm(x) for norm in self.norms)
        pairs = torch.cat((a, b), 1), torch.cat(tensors=[c, d], dim=1), torch.concat([a, c], dim=1)
        return torch.concatenate(pairs, 1).square().mean((2, 3))


def test_every_form_of_a_concatenation_passes_on_dense_gradients() -> None:
    network = ExternalNetwork(Joining(), 8).to(memory_format=torch.channels_last).train()
    dense = []
    for norm in network.network.norms:

        def watch(module: nn.Module, args: Any, out: Tensor) -> None:
            out.register_hook(lambda grad: dense.append(grad.is_contiguous(memory_format=torch.channels_last)))

        norm.register_forward_hook(watch)
    network(torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
    assert dense == [True] * 4


def test_dense_gradients_change_neither_copies_nor_compiled_and_exported_networks() -> None:
    torch.manual_seed(0)
    model = create_model("torchvision/shufflenet_v2_x0_5", num_classes=3, image_size=64).train()
    x = torch.randn(4, 3, 64, 64)
    model(x).square().sum().backward()
    for other in (copy.deepcopy(model), torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)):
        other.zero_grad()
        other(x).square().sum().backward()
        for mine, original in zip(other.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, original.grad, rtol=1e-3, atol=1e-3)
    model.eval()
    exported, theirs = (torch.export.export(module, (x,)) for module in (model, model.network))  # gradients on
    operators, expected = (
        [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        for program in (exported, theirs)
    )
    assert operators == expected
    torch.testing.assert_close(exported.module()(x), model(x))
