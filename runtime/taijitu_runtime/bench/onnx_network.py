"""Any ONNX network to be measured: a classifier with a contract, or another one, as for trtexec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from taijitu_runtime.backends.base import check_file
from taijitu_runtime.backends.bulk import Bulk
from taijitu_runtime.backends.contract import Tensor
from taijitu_runtime.backends.ort.backend import bulk_on_cpu, open_model, tensor_of
from taijitu_runtime.bench.inputs import Shape, requested_shapes
from taijitu_runtime.card import ModelCard, has_card
from taijitu_runtime.errors import UsageError
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.onnx_graph.tensor_sizes import largest_tensor_bytes


class OnnxNetwork:
    """An ONNX file on ONNX Runtime: `with OnnxNetwork(path, ...) as network: network.session`.

    `threads`, `provider` as for OrtBackend, and its errors, except that nothing is asked of names, types and shapes.
    """

    def __init__(self, path: Path, *, threads: int, provider: str, profile_prefix: Path | None = None) -> None:
        self.path, self.threads, self.provider = path, threads, provider
        self._profile_prefix = profile_prefix
        self.session: Any = None

    def __enter__(self) -> OnnxNetwork:
        check_file(self.path)
        self.session = open_model(
            self.path,
            threads=self.threads or usable_cores(),
            provider=self.provider,
            profile_prefix=self._profile_prefix,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.session = None

    @property
    def inputs(self) -> list[Tensor]:
        """What it takes. Raises UsageError for a type that NumPy does not have."""
        return [self._tensor(node) for node in self.session.get_inputs()]

    @property
    def bulk(self) -> Bulk | None:
        """How classify and verify answer many images with it; None for a network without a contract."""
        if self._card is None or self.provider != "cpu":
            return None
        return bulk_on_cpu(largest_tensor_bytes(self.path.read_bytes()), self.inputs[0].shape[0], self.threads)

    @property
    def title(self) -> str:
        """What it is called, and its precision where a card says so."""
        card = self._card
        if card is not None:
            return f"{card.architecture.name}, {card.precision.name}"
        return f"{self.session.get_modelmeta().graph_name or self.path.stem}, without a contract"

    def shapes(self, text: str | None) -> dict[str, Shape]:
        """Return the shape of each input: the requested one, or that of one image or the smallest batch.

        `text`: of --shapes. UsageError where an input does not take the shape, or leaves more than its batch open.
        """
        asked = requested_shapes(text)
        known = {tensor.name: tensor.shape for tensor in self.inputs}
        for name, shape in asked.items():
            if name not in known or not _fits(shape, known[name]):
                expected = ",".join(f"{each}:{_written(sides)}" for each, sides in known.items())
                raise UsageError(
                    f"{self.path}: got --shapes={text}, expected {expected}"
                    + (" with N from 1" if "N" in expected else "")
                )
        return {name: asked.get(name) or self._smallest(name, sides) for name, sides in known.items()}

    @property
    def _card(self) -> ModelCard | None:
        metadata = self.session.get_modelmeta().custom_metadata_map
        return ModelCard.read_onnx_metadata(metadata, self.path) if has_card(metadata) else None

    def _tensor(self, node: Any) -> Tensor:
        tensor = tensor_of(node)
        try:
            np.dtype(tensor.dtype)
        except TypeError:
            raise UsageError(
                f"{self.path}: got an input {tensor.name} of {node.type}, expected a tensor of a type that NumPy has; "
                "export it again with a float32 input"
            ) from None
        return tensor

    def _smallest(self, name: str, sides: tuple[int | None, ...]) -> Shape:
        if None in sides[1:]:
            raise UsageError(
                f"{self.path}: got an input {name} of {_written(sides)}, which leaves more than the batch open; give "
                f"--shapes={name}:..."
            )
        return tuple(1 if side is None else side for side in sides)


def _fits(shape: Shape, sides: tuple[int | None, ...]) -> bool:
    return len(shape) == len(sides) and all(size >= 1 and fixed in (None, size) for size, fixed in zip(shape, sides))


def _written(sides: tuple[int | None, ...]) -> str:
    return "x".join("N" if side is None else str(side) for side in sides)
