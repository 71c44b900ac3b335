"""Convert a PyTorch checkpoint to ONNX: the first arrow of the README's diagram."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import DeduplicateInitializersPass, RemoveUnusedNodesPass
from torch import Tensor, nn

from taijitu_export.onnx.nish_node import DOMAIN, OPSET, nish_function, with_nish_as
from taijitu_export.onnx.passes import (
    FoldBatchNormPass,
    FoldScalePass,
    FuseBatchNormPass,
    GeluOrderPass,
    GlobalAveragePoolPass,
    LowerToOpset17Pass,
    SplitConcatPass,
    StripTracesPass,
)
from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.console import working
from taijitu_runtime.pictures.preprocess import LUMINANCE
from taijitu_training.checkpoint import Checkpoint, producer_versions

# In this order; benchmarks/passes.py measures the effect of each.
PASSES: tuple[ir.passes.InPlacePass, ...] = (
    StripTracesPass(),
    GlobalAveragePoolPass(),
    FuseBatchNormPass(),
    SplitConcatPass(),
    FoldBatchNormPass(),
    FoldScalePass(),
    GeluOrderPass(),
    DeduplicateInitializersPass(),
    LowerToOpset17Pass(),
    RemoveUnusedNodesPass(),
)


class NormalisedInput(nn.Module):
    """The network with a normalisation in front: uint8 (N, H, W, 3) RGB -> logits float32 (N, K).

    `takes_planes`: it takes float32 (N, 3, H, W) RGB in [0, 255] instead. The arithmetic is that of
    taijitu_training.data.normalise, so the answer is the same as in training.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module, spec: InputSpec, *, takes_planes: bool = False) -> None:
        super().__init__()
        self.model = model
        self.takes_planes = takes_planes
        self.colour = spec.colour
        largest = 1 / spec.scale  # the pixel that scales to 1
        # Not "mean": older exporters call the output of a mean in the network by that name.
        self.register_buffer("pixel_mean", torch.tensor(spec.mean).view(-1, 1, 1) * largest)
        self.register_buffer("pixel_std", torch.tensor(spec.std).view(-1, 1, 1) * largest)

    def forward(self, images: Tensor) -> Tensor:
        # Planes with one mean and one std each normalise quickly. As float first: TensorRT does not transpose bytes.
        planes = images if self.takes_planes else images.float().permute(0, 3, 1, 2)
        if self.colour == "BGR":
            planes = planes.flip(1)
        elif self.colour == "grey":
            parts = (planes * torch.tensor(LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)  # exact: below 2 ** 24
            planes = torch.floor((parts + 2**15) / 2**16)
        normalised = (planes - self.pixel_mean) / self.pixel_std
        # In channels_last, torch exports adaptive pooling with an as_strided: a Gather with computed indices in ONNX.
        logits: Tensor = self.model(normalised.contiguous())
        return logits


def card_of(checkpoint: Checkpoint, source_sha256: str, input_form: str = "uint8") -> ModelCard:
    """Return the contract of an artefact made from `checkpoint`, whose file has the hash `source_sha256`."""
    producer = checkpoint.producer | producer_versions() | {"onnx": onnx.__version__}
    card = dataclasses.replace(checkpoint.card(), producer=producer, source_sha256=source_sha256)
    if input_form != "pixels":
        return card
    return dataclasses.replace(card, input=dataclasses.replace(card.input, float_values="pixels"))


def network_of(checkpoint: Checkpoint, card: ModelCard, input_form: str) -> tuple[nn.Module, Tensor]:
    """Return the module to export, in evaluation mode and without gradients, and two blank pictures that fit it."""
    model = checkpoint.model().requires_grad_(False)
    height, width = card.input.height, card.input.width
    if input_form == "float32":
        return model, torch.zeros(2, 3, height, width)
    if input_form == "pixels":
        return NormalisedInput(model, card.input, takes_planes=True).eval(), torch.zeros(2, 3, height, width)
    blank = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    return NormalisedInput(model, card.input).eval(), blank


def onnx_from_checkpoint(
    checkpoint: Checkpoint, source_sha256: str = "", *, input_form: str = "uint8", nish: str = "op"
) -> onnx.ModelProto:
    """Export with torch's dynamo exporter, a dynamic batch and the contract in `metadata_props`.

    `input_form` "uint8": input `images` uint8 (N, H, W, 3) RGB, normalised inside; "float32": `images` float32
    (N, 3, H, W), normalised by the caller; "pixels": `images` float32 (N, 3, H, W) RGB in [0, 255], normalised inside.
    Output `logits` float32 (N, K). `nish` "op": one node of taijitu's domain with its function body in the file;
    "decomposed": standard operators only. CheckpointError or ArtefactError where the checkpoint's weights or contract
    are wrong.
    """
    card = card_of(checkpoint, source_sha256, input_form)
    network, blank = network_of(checkpoint, card, input_form)
    with working("exporting by torch.onnx"):
        return finished(torch_graph(with_nish_as(network, nish), blank), card)


def finished(model: ir.Model, card: ModelCard, passes: Sequence[ir.passes.InPlacePass] = PASSES) -> onnx.ModelProto:
    """Turn torch's graph into the shipped one: apply the passes in place, add the contract and Nish's definition."""
    proto = ir.to_proto(ir.passes.Sequential(*passes)(model).model)
    if any(node.domain == DOMAIN for node in proto.graph.node):
        proto.functions.append(nish_function())
        if DOMAIN not in {opset.domain for opset in proto.opset_import}:
            proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, OPSET))
    proto.producer_name, proto.producer_version = "taijitu", producer_versions()["taijitu"]
    proto.graph.name = card.architecture.name
    onnx.helper.set_model_props(proto, card.to_metadata())
    return proto


def torch_graph(network: nn.Module, blank: Tensor) -> ir.Model:
    """Return the graph as torch's exporter makes it, at opset 18, with dimension 0 of the input dynamic."""
    with _without_warnings():
        program = torch.onnx.export(
            network,
            (blank,),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None  # None only when a file name was given
    return program.model


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence torch's exporter about its own internals, which no user can act on; its errors are logged."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
