"""What a network answered about the evaluation pictures, gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

WORST = 24
"""Mistakes that are kept with their pictures."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: `pixels` uint8 (H, W, 3) RGB, `probability` of `predicted` in [0, 1], `loss` in nats."""

    pixels: NDArray[np.uint8]
    target: int
    predicted: int
    probability: float
    loss: float


@dataclass(frozen=True)
class Predictions:
    """`targets` and `predicted`, int64 (N,); `worst`, the mistakes of the largest loss, the largest first."""

    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    worst: list[Mistake]


class PredictionLog:
    """Gathers Predictions of any number of pictures; in memory are two integers a picture and the worst mistakes."""

    def __init__(self) -> None:
        self._targets: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._worst: list[Mistake] = []

    def add(self, images: Tensor, targets: Tensor, logits: Tensor) -> None:
        """A batch: `images` uint8 (B, H, W, 3) RGB, `targets` int64 (B,), `logits` float32 (B, K), of any device."""
        images, targets, logits = images.detach(), targets.to(logits.device), logits.detach()
        predicted = logits.argmax(1)
        self._targets.append(targets.cpu())
        self._predicted.append(predicted.cpu())
        wrong = (predicted != targets).nonzero().flatten()
        losses, order = F.cross_entropy(logits[wrong], targets[wrong], reduction="none").topk(min(WORST, len(wrong)))
        for loss, index in zip(losses.tolist(), wrong[order].tolist()):
            if len(self._worst) == WORST and loss <= self._worst[-1].loss:
                break
            answer = int(predicted[index])
            probability = float(logits[index].softmax(0)[answer])
            # The copy keeps the picture and lets go of the batch.
            pixels = images[index].cpu().numpy().copy()
            self._worst.append(Mistake(pixels, int(targets[index]), answer, probability, loss))
            self._worst.sort(key=lambda mistake: -mistake.loss)
            del self._worst[WORST:]

    def result(self) -> Predictions:
        """Everything that was added so far."""
        empty = torch.empty(0, dtype=torch.int64)
        targets, predicted = torch.cat([empty, *self._targets]), torch.cat([empty, *self._predicted])
        return Predictions(targets.numpy(), predicted.numpy(), list(self._worst))
