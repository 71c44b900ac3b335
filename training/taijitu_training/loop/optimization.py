"""Make an optimiser from a recipe, its learning rate at every step and its weight decay."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from taijitu_training.recipes.recipe import Recipe


def create_optimizer(model: nn.Module, recipe: Recipe, head: Collection[str] = ()) -> torch.optim.Optimizer:
    """Create the recipe's optimiser over every learnable parameter of `model`.

    With decay_all=False, biases and the parameters of batch norm (all with one dimension) form a group without
    decay. With body_lr or freeze_epochs, so do the parameters that `head`, the classification layer, does not name.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (recipe.tells_layers_apart and name not in head, recipe.decay_all or parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    described = [
        {
            "params": parameters,
            "decays": decays,
            "is_body": is_body,
            "lr": recipe.lr * (recipe.body_lr if is_body else 1.0),
            **({} if decays else {"weight_decay": 0.0}),
        }
        for (is_body, decays), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        decay = recipe.weight_decay
        optimizer = torch.optim.SGD(described, recipe.lr, recipe.momentum, weight_decay=decay, fused=True)
    else:
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(described, recipe.lr, weight_decay=recipe.weight_decay, amsgrad=recipe.amsgrad, fused=True)
    return optimizer


def freeze(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int) -> None:
    """Drop the gradients of all layers except the classification layer in the first `freeze_epochs`.

    With `set_mode`, these layers do not change.
    """
    if epoch < recipe.freeze_epochs:
        for group in optimizer.param_groups:
            if group.get("is_body"):
                for parameter in group["params"]:
                    parameter.grad = None


def set_mode(model: nn.Module, recipe: Recipe, epoch: int) -> None:
    """Set `model` to training, and in the first `freeze_epochs` its batch norms to evaluation.

    So the frozen layers compute what they compute in the network that they come from, as timm's and Keras's do.
    """
    model.train()
    if epoch < recipe.freeze_epochs:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def create_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> LRScheduler:
    """Create the recipe's learning rate schedule, which moves after every step.

    one_cycle is torch's (Smith and Topin 2018): from lr / 25 up in the first 30 % of the steps, down to lr / 250,000;
    the momentum, or Adam's first beta, goes the other way between 0.95 and 0.85. cosine and constant rise linearly to
    lr over warmup_epochs, from one warm-up step's share in the first step.
    """
    if recipe.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch)
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch

    def share(step: int) -> float:
        if step < warmup:
            return min(1.0, (step + 1) / warmup)  # warm-up may end within a step
        if recipe.schedule == "constant":
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    return LambdaLR(optimizer, share)


def set_weight_decay(optimizer: torch.optim.Optimizer, recipe: Recipe, *, first: bool = False) -> None:
    """Set decay = weight_decay * the current learning rate, with weight_decay_times_lr (YYNet, section IV.A).

    In the `first` epoch it is the peak learning rate if the recipe's first_decay says so, as in the public code.
    """
    if recipe.weight_decay_times_lr:
        for group in optimizer.param_groups:
            if group["decays"]:
                peak = recipe.lr * (recipe.body_lr if group.get("is_body") else 1.0)
                lr = peak if first and recipe.first_decay == "peak" else float(group["lr"])
                group["weight_decay"] = recipe.weight_decay * lr
