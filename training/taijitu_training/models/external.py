"""Networks of timm and torchvision by name, such as "timm/tinynet_c" and "torchvision/squeezenet1_1".

They are built as their library defines them, without pretrained weights (taijitu_training.weights takes those over),
for images of any size that they accept and with any activation of taijitu.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taijitu_runtime.errors import UnknownNameError, UsageError, first_line, require
from taijitu_training.models.activations import irreplaceable_activations, list_activations, replace_activations
from taijitu_training.models.layers import DenseConcats
from taijitu_training.models.registry import PAPER, Entry, ModelOptions, Network, register_source

OWN = "own"
STEMS = (OWN, "cifar")


@dataclass(frozen=True)
class ExternalOptions(ModelOptions):
    """Options of every network of another library.

    `act` replaces every activation; "own" keeps the network's own ones. `image_size` is the side
    of the square images in pixels; the default is that of the library's own weights. `stem` is one of STEMS: "own", or
    "cifar" for images of 32 pixels, which a stem made for 224 would reduce to one or two: the first convolution becomes
    3x3 with stride 1, and a pooling before the second one is left out.
    """

    act: str = OWN
    image_size: int = 224
    stem: str = OWN

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.act not in (known := [*list_activations(), OWN]):
            raise UnknownNameError("activation", self.act, known)
        if self.stem not in STEMS:
            raise UnknownNameError("stem", self.stem, STEMS)
        if self.image_size < 1:
            raise UsageError(f"got image_size={self.image_size}, expected at least 1 pixel")


class ExternalNetwork(Network):
    """`network` is the library's module: float32 (N, 3, H, W), normalised RGB, to logits (N, K)."""

    def __init__(self, network: nn.Module, image_size: int) -> None:
        super().__init__()
        self.input_size = (image_size, image_size)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        trains = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        with DenseConcats() if trains else contextlib.nullcontext():
            logits: Tensor = self.network(x)
        return logits

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors by name as torch does; those without torch's versions are in the format of this network.

        A library may read the version: torchvision's MNASNet refuses weights that have none.
        """
        if not hasattr(state_dict, "_metadata"):
            state_dict = OrderedDict(state_dict)
            state_dict._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]  # torch's own place
        return super().load_state_dict(state_dict, strict, assign)


@register_source
def timm(name: str) -> Entry:
    """Find any network of timm.list_models() for square pictures. MissingDependencyError without timm."""
    library = require("timm", "taijitu[train]")
    if name not in (known := library.list_models()):
        raise UnknownNameError("timm model", name, known)
    config = library.get_pretrained_cfg(name)
    _, height, width = config.input_size
    if height != width:
        raise UsageError(f"got timm/{name}, made for {height}x{width} pixels, expected a network for square pictures")

    def build(options: ExternalOptions) -> Network:
        # The others take any size without an argument.
        size = {"img_size": options.image_size} if config.fixed_input_size else {}
        create = functools.partial(library.create_model, name, num_classes=options.num_classes, **size)
        return _build(f"timm/{name}", create, options, height)

    return Entry(build, ExternalOptions(image_size=height), PAPER)


@register_source
def torchvision(name: str) -> Entry:
    """Find any classification network of torchvision.models.list_models(module=torchvision.models)."""
    from torchvision import models

    if name not in (known := models.list_models(module=models)):
        raise UnknownNameError("torchvision model", name, known)
    (own_size,) = models.get_model_weights(name).DEFAULT.transforms().crop_size

    def build(options: ExternalOptions) -> Network:
        arguments = {"num_classes": options.num_classes, **_torchvision_arguments(name, options.image_size)}
        create = functools.partial(models.get_model, name, weights=None, **arguments)
        return _build(f"torchvision/{name}", create, options, own_size)

    return Entry(build, ExternalOptions(image_size=own_size), PAPER)


def _torchvision_arguments(name: str, image_size: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}  # in training they would return more than one set of logits
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if name == "maxvit_t" else {}


def _build(name: str, create: Callable[[], nn.Module], options: ExternalOptions, own_size: int) -> Network:
    """Build the network with its activations replaced; UsageError if it cannot take the size or some would stay."""
    size = options.image_size
    try:
        network = create()
        if options.stem == "cifar":
            _give_cifar_stem(network)
        # Nothing is computed, or changed in the network. functional_call would leave modules that several others share,
        # as in timm's coat_lite, on the meta device.
        shadow = copy.deepcopy(network).to("meta")
        with irreplaceable_activations(shadow) as left, torch.no_grad():
            shape = tuple(shadow(torch.empty(2, 3, size, size, device="meta")).shape)
    except Exception as error:  # for a size that does not fit, other libraries raise errors of nearly any class
        raise UsageError(f"got image_size={size} for {name} ({first_line(error)}); try its own, {own_size}") from None
    if shape != (2, options.num_classes):
        raise UsageError(f"got {name}, whose output for 2 pictures is {shape}, expected logits; use a classifier")
    if options.act != OWN:
        if left:
            calls = ", ".join(f"{operator} ({count})" for operator, count in sorted(left.items()))
            raise UsageError(
                f"got act={options.act!r} for {name}, which also calls {calls} where no module can be replaced; "
                f"give act='{OWN}', or use another network"
            )
        replace_activations(network, options.act)
    return ExternalNetwork(network, size)


def _give_cifar_stem(network: nn.Module) -> None:
    """Make the first convolution 3x3 with stride 1, and remove poolings between it and the second one."""
    convolutions = 0
    for name, module in list(network.named_modules()):
        parent = network.get_submodule(name.rpartition(".")[0])
        child = name.rpartition(".")[2]
        if isinstance(module, nn.Conv2d):
            convolutions += 1
            if convolutions == 1:
                biased = module.bias is not None
                setattr(parent, child, nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1, bias=biased))
        elif isinstance(module, nn.MaxPool2d) and convolutions == 1:
            setattr(parent, child, nn.Identity())
        if convolutions == 2:
            return
