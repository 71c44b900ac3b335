"""Recipes: every hyper-parameter of a training run, as data. Units and sources stand beside the numbers.

"YYNet" below is the YYNet papers (Tables II and III), "code" the authors' public CIFAR-10 script.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from taijitu_training.errors import TaijituError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run does, apart from the network and the pictures."""

    name: str
    epochs: int  # passes over the training pictures
    batch_size: int  # pictures a step
    max_lr: float  # peak of the one-cycle schedule, which moves every step
    weight_decay_per_lr: float  # decoupled decay = this times the lr, set anew at each epoch's end
    amsgrad: bool
    clip_norm: float  # largest L2 norm of all gradients together
    mixed_precision: bool  # bfloat16 (on a GPU without it float16, scaled) where the processor computes in it
    ema: bool  # evaluate and keep a moving average of the weights in place of the weights
    ema_start: float  # share of the run before averaging starts
    ema_keep: float  # average = ema_keep * average + (1 - ema_keep) * weights, every step
    label_smoothing: float
    brightness: float  # pictures are multiplied by a factor from [1 - brightness, 1 + brightness]
    pad: int  # pixels of reflected border before the random crop back to size
    flip: float  # probability of mirroring left and right
    mean: tuple[float, float, float]  # of R, G, B in [0, 1]
    std: tuple[float, float, float]
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "max_lr": 0 < self.max_lr < math.inf,
            "weight_decay_per_lr": 0 <= self.weight_decay_per_lr < math.inf,
            "clip_norm": self.clip_norm > 0,
            "ema_start": 0 <= self.ema_start <= 1,
            "ema_keep": 0 <= self.ema_keep < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "brightness": 0 <= self.brightness < 1,
            "pad": self.pad >= 0,
            "flip": 0 <= self.flip <= 1,
            "mean": all(0 <= m <= 1 for m in self.mean),
            "std": all(0 < s <= 1 for s in self.std),
            "seed": 0 <= self.seed < 2**31,
        }
        for field, holds in rules.items():
            if not holds:
                raise TaijituError(f"got {field}={getattr(self, field)}, out of the range that a recipe can use")


RECIPES = {
    "yynet_cifar10": Recipe(
        name="yynet_cifar10",
        epochs=40,  # YYNet Table II
        batch_size=64,  # YYNet Table II; Table I was made with 512
        max_lr=1e-2,  # YYNet Table II
        weight_decay_per_lr=1.56,  # YYNet Table II
        amsgrad=True,  # code
        clip_norm=1.0,  # YYNet Table II
        mixed_precision=True,  # YYNet Table II
        ema=False,  # only the preprint has it
        ema_start=0.25,  # preprint
        ema_keep=0.1,  # preprint
        label_smoothing=0.0,
        brightness=0.01,  # code
        pad=4,  # code
        flip=0.5,  # code
        mean=(0.4914, 0.4822, 0.4465),  # code
        std=(0.2023, 0.1994, 0.2010),  # code
    ),
}


def get_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """The recipe called `name` with `changes` such as "max_lr=5e-3" applied, each parsed as its field's type.

    UnknownNameError for a recipe or field that does not exist, TaijituError for a value that cannot be.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    recipe = RECIPES[name]
    values: dict[str, Any] = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise TaijituError(f"got {change!r}, expected FIELD=VALUE, such as max_lr=5e-3")
        if field not in (known := dataclasses.asdict(recipe).keys() - {"name"}):
            raise UnknownNameError("recipe field", field, known)
        values[field] = parse_like(getattr(recipe, field), field, text)
    return dataclasses.replace(recipe, **values)


def parse_like(default: Any, field: str, text: str) -> Any:
    """`text` as the type of `default` (bool, int, float, str or a tuple of floats); TaijituError if it is not one."""
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(default, tuple):
            numbers = tuple(float(part) for part in text.split(","))
            if len(numbers) != len(default):
                raise ValueError(text)
            return numbers
        return type(default)(text)
    except (ValueError, KeyError):
        kind = f"{len(default)} numbers with commas" if isinstance(default, tuple) else type(default).__name__
        raise TaijituError(f"got {field}={text}, expected {field}={default!r} or another {kind}") from None
