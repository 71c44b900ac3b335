"""One evaluation: loss and accuracy on pictures that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_training.data import normalise
from taijitu_training.distributed import ALONE, Processes
from taijitu_training.loop.state import Totals
from taijitu_training.recipes.recipe import Recipe


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    recipe: Recipe,
    processes: Processes = ALONE,
    see: Callable[[Tensor, Tensor, Tensor], None] = lambda images, targets, logits: None,
) -> dict[str, float]:
    """Compute mean loss (nats) and top-1 (percent) in float32: {"eval_loss", "eval_top1"}.

    `batches` are this process's pictures, uint8 (B, H, W, 3) or floats of that range, and targets, int64 (B,); the
    result is that of all processes. `see` gets each batch with its logits, float32 (B, K).
    """
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=next(model.parameters()).device)
    for images, targets in batches:
        logits = model(normalise(images, recipe))
        loss = F.cross_entropy(logits, targets, reduction="sum")
        right = (logits.argmax(1) == targets).sum()
        totals += torch.stack((loss.double(), right.double(), torch.tensor(float(len(targets)), device=loss.device)))
        see(images, targets, logits)
    loss_sum, correct, pictures = processes.sum_(totals).tolist()
    return Totals(loss_sum, int(correct), int(pictures), int(pictures)).metrics("eval")
