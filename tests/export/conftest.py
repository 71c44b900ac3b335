"""Checkpoints of untrained networks, in the format of training, and labelled pictures."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.card import Architecture
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract, normalise
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.named import RECIPES


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a checkpoint with batch norm statistics unlike the initial ones."""

    def make(name: str, num_classes: int = 10, size: int | None = None, **options: Any) -> Path:
        torch.manual_seed(0)
        model = create_model(name, num_classes=num_classes, **options)
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.2)
                module.momentum = 1.0
        height, width = (size, size) if size else model.input_size
        # Sets statistics with which no signal of such pictures fades or grows along the network.
        model(normalise(torch.from_numpy(sample_pictures(16, height, width, seed=1)), RECIPES["yynet_cifar10"]))
        content = Checkpoint(
            state_dict=model.state_dict(),
            architecture=Architecture(name, model_options(name, num_classes=num_classes, **options)),
            labels=[f"label {i}" for i in range(num_classes)],
            input=input_contract((height, width), RECIPES["yynet_cifar10"]),
            training={"data": "none", "recipe": {}, "metrics": {}, "date": "2026-01-01"},
            producer=checkpoint.producer_versions(),
        )
        path = tmp_path / f"{name.replace('/', '_')}.pt"
        checkpoint.save(content, path)
        return path

    return make


@pytest.fixture(scope="session")
def cifar_subset(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train/<label>/* and test/<label>/*: the first 256 and 300 pictures of CIFAR-10, as JPEG."""
    folder, left = tmp_path_factory.mktemp("cifar"), {"train": 256, "test": 300}
    with tarfile.open(data_folder / "cifar10-jpeg.tar.xz") as archive:
        for member in archive:
            split = member.name.split("/")[0]
            if member.isfile() and left.get(split, 0) > 0 and (content := archive.extractfile(member)):
                left[split] -= 1
                (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / member.name).write_bytes(content.read())
            if not any(left.values()):
                break
    return folder
