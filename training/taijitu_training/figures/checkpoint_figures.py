"""Draw a checkpoint: its depthwise kernels, its activation function, and its feature maps of a picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taijitu_runtime.card import InputSpec
from taijitu_runtime.console import say
from taijitu_runtime.files import write_whole
from taijitu_runtime.output_path import check_output_path, make_out
from taijitu_runtime.pictures.preprocess import normalise, preprocess
from taijitu_training import checkpoint
from taijitu_training.figures.activation import activation_figure
from taijitu_training.figures.feature_maps import features_figure, yin_yang_figure
from taijitu_training.figures.kernels import depthwise_layers, kernels_figure
from taijitu_training.models import create_activation, model_options
from taijitu_training.models.external import OWN, ExternalNetwork
from taijitu_training.models.yynet import YYNet

Figure = tuple[str, bytes]
"""A file's name without its suffix, and its content as PNG."""


def draw(source: Path, image: Path | None, out: Path | None) -> Iterator[Path]:
    """Write the figures of the checkpoint `source`, and of `image`; yield the path of each when it is written.

    `out`: the folder, None for CHECKPOINT_pictures next to the checkpoint.
    """
    loaded = checkpoint.load(source)
    model = loaded.model()
    name, options = loaded.architecture.name, loaded.architecture.options
    drawn = [kernel_figures(name, model), activation_figures(name, model_options(name, **options)["act"])]
    if image is not None:
        contract = loaded.card().input
        pixels = preprocess(image, contract)
        drawn.append(feature_figures(name, model, pixels, network_input(pixels, contract)))
    folder = out or source.with_name(f"{source.stem}_pictures")
    make_out(folder)
    for figure, content in chain.from_iterable(drawn):
        path = folder / f"{figure}.png"
        check_output_path(path, source, image)
        write_whole(path, content)
        yield path


def stages(model: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of `model` by name: its children, or their children if a child is only a sequence of stages."""
    if isinstance(model, ExternalNetwork):
        return stages(model.network)
    parts: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        inner = dict(child.named_children())
        row = isinstance(child, nn.Sequential) and all(isinstance(part, nn.Sequential) for part in inner.values())
        if inner and (isinstance(child, nn.ModuleList) or row):
            parts |= {f"{name}.{key}": part for key, part in inner.items()}
        else:
            parts[name] = child
    return parts


def kernel_figures(title: str, model: nn.Module) -> Iterator[Figure]:
    """Yield a figure for each stage that has depthwise kernels; print a line on stderr if no stage has."""
    layers = {name: found for name, stage in stages(model).items() if (found := depthwise_layers(stage))}
    for name, found in layers.items():
        yield f"kernels_{_file_name(name)}", kernels_figure(f"Depthwise kernels of {title}, {name}", found)
    if not layers:
        _not_drawn("kernels", f"{title} has no depthwise convolution")


def activation_figures(title: str, act: str) -> Iterator[Figure]:
    """Yield the figure of the activation function called `act`; print a line on stderr if it is the network's own."""
    if act == OWN:
        _not_drawn("activation", f"{title} keeps its library's activations")
    else:
        yield "activation", activation_figure(create_activation(act))


def feature_figures(title: str, model: nn.Module, pixels: NDArray[np.uint8], x: Tensor) -> Iterator[Figure]:
    """Yield a figure for each stage with maps for `x`, the input float32 (1, 3, H, W), and one of YYNet's branches."""
    outputs = {name: output for name, (_, output) in calls(model, stages(model), x).items()}
    maps = {name: found for name, output in outputs.items() if (found := _maps(output)) is not None}
    for name, found in maps.items():
        yield f"features_{_file_name(name)}", features_figure(f"Feature maps of {title}, {name}", pixels, found)
    if not maps:
        _not_drawn("features", f"no stage of {title} has maps (N, C, H, W)")
    if isinstance(model, YYNet):
        seen = calls(model, {"yin": model.yin, "yang": model.yang, "path": model.path}, x)
        branches = {
            "Yin (i): form": seen["yin"][1][0],
            "Yang (a): colour": seen["yang"][1][0],
            f"fused: {model.fusion}": seen["path"][0][0][0],
        }
        form = seen["yin"][0][0][0, 0]
        yield "yin_yang", yin_yang_figure(f"Yin and Yang of {title}", pixels, form, branches)


@torch.inference_mode()
def calls(model: nn.Module, parts: Mapping[str, nn.Module], x: Tensor) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Return arguments and output of each of `parts` while `model` answers `x`.

    A part that is not called is left out.
    """
    seen: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda _, arguments, output: seen.update({name: (arguments, output)})

    hooks = [part.register_forward_hook(remember(name)) for name, part in parts.items()]
    model(x)
    for hook in hooks:
        hook.remove()
    return seen


def network_input(pixels: NDArray[np.uint8], contract: InputSpec) -> Tensor:
    """Normalise `pixels`, uint8 (H, W, 3), for the network: float32 (1, 3, H, W)."""
    return torch.from_numpy(normalise(pixels[None], contract))


def _maps(output: Any) -> Tensor | None:
    """Return the first picture's channels (C, H, W) in a stage's output (N, C, H, W), or several of one size joined."""
    parts = list(output) if isinstance(output, (tuple, list)) else [output]
    if not all(isinstance(part, Tensor) and part.ndim == 4 for part in parts):
        return None
    return torch.cat(parts, 1)[0] if len({part.shape[2:] for part in parts}) == 1 else None


def _file_name(stage: str) -> str:
    return stage.replace(".", "_")


def _not_drawn(what: str, why: str) -> None:
    say(f"taijitu visualize: {what}: not drawn, {why}", sys.stderr)
