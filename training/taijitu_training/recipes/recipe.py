"""Recipes: every hyper-parameter of a training run, as data. named.py has those that papers published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from taijitu_runtime.errors import UnknownNameError, UsageError


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field of a recipe means, and its values: names, or the interval of a number or of each of several."""

    meaning: str
    values: tuple[str, ...] | str = ""

    def __str__(self) -> str:
        if isinstance(self.values, tuple):
            return ": ".join(filter(None, (" or ".join(self.values), self.meaning)))
        return "; ".join(filter(None, (self.meaning, self.values)))

    def check(self, field: str, value: Any) -> None:
        """Raise UnknownNameError or UsageError for a value that is not possible."""
        if isinstance(self.values, tuple):
            if value not in self.values:
                raise UnknownNameError(field, value, self.values)
        elif self.values and not _is_within(value, self.values):
            raise UsageError(f"got {field}={value}, expected a number in {self.values}")


SETTINGS = {
    "epochs": Setting("passes over the training pictures", "[1, inf)"),
    "batch_size": Setting("pictures a step, over all processes and accumulated parts together", "[2, inf)"),
    "last_batch": Setting("whether pictures that do not fill an epoch's last batch are used", ("train", "drop")),
    "sampler": Setting("an epoch has every picture once, or equally many of each label", ("all", "balanced")),
    "class_weights": Setting("a label's loss is multiplied by mean count / its own count", ("none", "balanced")),
    "optimizer": Setting("", ("adamw", "adam", "sgd")),
    "lr": Setting("the largest learning rate of the run", "(0, inf)"),
    "body_lr": Setting("share of lr for all layers except the classification layer", "(0, 1]"),
    "freeze_epochs": Setting("first epochs, in which only the classification layer learns", "[0, inf)"),
    "schedule": Setting("every one moves at every step", ("one_cycle", "cosine", "constant")),
    "warmup_epochs": Setting("linear rise to lr before cosine or constant; one_cycle has its own", "[0, inf)"),
    "momentum": Setting("sgd: share of the last step that is added to the next", "[0, 1)"),
    "amsgrad": Setting("adam and adamw: divide by the largest second moment so far"),
    "weight_decay": Setting("decoupled with adamw, added to the gradient with adam and sgd", "[0, inf)"),
    "weight_decay_times_lr": Setting("decay = weight_decay * lr instead, set again at each epoch's end"),
    "first_decay": Setting("the learning rate that the first epoch's decay is a multiple of", ("current", "peak")),
    "decay_all": Setting("False: no decay on biases and the parameters of batch norm"),
    "clip_norm": Setting("largest L2 norm of all gradients together; 0: no limit", "[0, inf)"),
    "mixed_precision": Setting("bfloat16 (on a GPU without it float16, scaled) where the processor computes in it"),
    "ema": Setting("evaluate and keep a moving average of the weights instead of the weights"),
    "ema_start": Setting("share of the run before averaging starts", "[0, 1]"),
    "ema_decay": Setting("average = ema_decay * average + (1 - ema_decay) * weights, every step", "[0, 1)"),
    "label_smoothing": Setting("share of each target that is spread over all labels", "[0, 1)"),
    "other_weight": Setting("with --other: factor of the loss of pictures of none of the labels", "(0, inf)"),
    "teacher_weight": Setting(
        "with a teacher: the share of its answers in the loss; the rest is the labels'", "(0, 1]"
    ),
    "teacher_temperature": Setting("with a teacher: divisor of both networks' logits", "(0, inf)"),
    "crop": Setting("reflect-pad and crop back at random, or a random area and shape, resized", ("padded", "resized")),
    "pad": Setting("padded: pixels of border", "[0, inf)"),
    "crop_area": Setting("resized: smallest share of the picture's area", "(0, 1]"),
    "flip": Setting("probability of mirroring left and right", "[0, 1]"),
    "vertical_flip": Setting("probability of mirroring top and bottom", "[0, 1]"),
    "brightness": Setting("pictures are multiplied by a factor from [1 - brightness, 1 + brightness]", "[0, 1)"),
    "contrast": Setting(
        "distances from the mean are multiplied by a factor from [1 - contrast, 1 + contrast]", "[0, 1)"
    ),
    "saturation": Setting(
        "distances from grey are multiplied by a factor from [1 - saturation, 1 + saturation]", "[0, 1)"
    ),
    "hue": Setting("hues are turned by up to this fraction of the circle, either way", "[0, 0.5]"),
    "rotation": Setting(
        "pictures are turned by up to this many degrees, either way; the borders are reflected", "[0, 180]"
    ),
    "trivial_augment": Setting("one of 14 changes of random strength for each picture (Müller and Hutter 2021)"),
    "erase": Setting(
        "probability that a rectangle of 2 to 33 % becomes the mean (Zhong et al. 2017; sizes of timm)", "[0, 1]"
    ),
    "mixup": Setting(
        "alpha of the beta distribution of the shares that pictures are mixed in (Zhang et al. 2017)", "[0, inf)"
    ),
    "cutmix": Setting(
        "the same for the area from another picture (Yun et al. 2019); with mixup: one of the two", "[0, inf)"
    ),
    "resize": Setting("which sides are resized, before the centre is cropped", ("shorter_side", "stretch")),
    "interpolation": Setting("", ("bilinear_antialias", "bicubic_antialias")),
    "evaluation_crop": Setting("share of the resized picture's shorter side that the centre crop keeps", "(0, 1]"),
    "mean": Setting("of R, G, B; ImageNet's", "[0, 1]"),
    "std": Setting("of R, G, B; ImageNet's", "(0, 1]"),
    "seed": Setting("all random numbers of the run come from it", "[0, 2147483647]"),
}
"""What each field but the name means."""

NEEDS: dict[str, tuple[str, Any]] = {
    "ema_start": ("ema", True),
    "ema_decay": ("ema", True),
    "crop_area": ("crop", "resized"),
    "first_decay": ("weight_decay_times_lr", True),
}
"""Fields that mean nothing unless another one has the value here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a run, apart from the network and the pictures. The defaults add nothing optional."""

    name: str
    epochs: int
    batch_size: int
    last_batch: str = "train"
    sampler: str = "all"
    class_weights: str = "none"
    optimizer: str
    lr: float
    body_lr: float = 1.0
    freeze_epochs: int = 0
    schedule: str
    warmup_epochs: float = 0.0
    momentum: float = 0.0
    amsgrad: bool = False
    weight_decay: float = 0.0
    weight_decay_times_lr: bool = False
    first_decay: str = "current"
    decay_all: bool = True
    clip_norm: float = 0.0
    mixed_precision: bool = True
    ema: bool = False
    ema_start: float = 0.25
    ema_decay: float = 0.999
    label_smoothing: float = 0.0
    other_weight: float = 0.5
    teacher_weight: float = 0.5
    teacher_temperature: float = 4.0
    crop: str = "padded"
    pad: int = 0
    crop_area: float = 0.08
    flip: float = 0.0
    vertical_flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rotation: float = 0.0
    trivial_augment: bool = False
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    resize: str = "shorter_side"
    interpolation: str = "bilinear_antialias"
    evaluation_crop: float = 1.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    seed: int = 0

    def __post_init__(self) -> None:
        for field, setting in SETTINGS.items():
            setting.check(field, getattr(self, field))
        self._check_epochs()
        self._check_unused()
        if self.sampler == self.class_weights == "balanced":
            raise UsageError(
                "got sampler=balanced with class_weights=balanced, which would count a rare label twice, expected one "
                "of them; add --set sampler=all or --set class_weights=none"
            )

    def _check_epochs(self) -> None:
        starts = {"warmup_epochs": self.warmup_epochs, "freeze_epochs": self.freeze_epochs}
        if long := {field: count for field, count in starts.items() if count >= self.epochs >= 1}:
            got = " and ".join(f"{field}={count:g}" for field, count in long.items())
            flags = " ".join(f"--set {field}=0" for field in long)
            raise UsageError(
                f"got epochs={self.epochs} with {got}, expected more epochs than those; add {flags}, or set more epochs"
            )

    def _check_unused(self) -> None:
        unused = {
            "warmup_epochs": self.schedule == "one_cycle",
            "momentum": self.optimizer != "sgd" or self.schedule == "one_cycle",  # which has its own
            "amsgrad": self.optimizer == "sgd",
            "pad": self.crop != "padded",
        }
        for field, is_unused in unused.items():
            if is_unused and (value := getattr(self, field)):
                raise UsageError(
                    f"got {field}={value} in a recipe with optimizer={self.optimizer}, schedule={self.schedule}, "
                    f"crop={self.crop}, which does not use it; add --set {field}={'false' if value is True else 0}"
                )

    @property
    def tells_layers_apart(self) -> bool:
        """Whether the classification layer learns differently from the others."""
        return self.body_lr != 1.0 or self.freeze_epochs > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, as a checkpoint keeps them."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def complete(cls, saved: dict[str, Any]) -> dict[str, Any]:
        """Return `saved`, the `to_dict` of an earlier version, with the defaults of the fields it lacks."""
        defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
        return plain | saved

    def change(self, changes: Mapping[str, object]) -> Recipe:
        """Return this recipe with `changes` such as {"lr": "5e-3"} applied, each parsed as its field's type.

        UnknownNameError for a field that does not exist, UsageError for a value that is not possible.
        """
        values: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(self)} - {"name"}
        for field, value in changes.items():
            if field not in known:
                raise UnknownNameError("recipe field", field, known, "taijitu train --show lists all")
            values[field] = parse_like(getattr(self, field), field, _text(value))
        changed = dataclasses.replace(self, **values)
        for field, (other, needed) in NEEDS.items():
            if field in values and getattr(changed, other) != needed:
                raise UsageError(
                    f"got {field}={values[field]} in a recipe with {other}={getattr(changed, other)}, which does not "
                    f"use it; add --set {other}={str(needed).lower()}, or remove it"
                )
        return changed

    def with_epochs(self, epochs: int) -> Recipe:
        """Return this recipe with another number of epochs, and a warm-up of the same share of them."""
        return dataclasses.replace(
            self,
            epochs=epochs,
            warmup_epochs=self.warmup_epochs * epochs / self.epochs,
            freeze_epochs=min(self.freeze_epochs, epochs - 1),
        )


def _is_within(value: float | tuple[float, ...], interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    numbers = value if isinstance(value, tuple) else (value,)
    closed_low, closed_high = interval.startswith("["), interval.endswith("]")
    return all(
        (low < number or (closed_low and number == low)) and (number < high or (closed_high and number == high))
        for number in numbers
    )


def _text(value: Any) -> str:
    if getattr(value, "ndim", 0) == 1:  # NumPy's arrays and torch's tensors
        value = value.tolist()
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def parse_like(default: Any, field: str, text: str) -> Any:
    """Parse `text` as the type of `default` (bool, int, float, str or a tuple of floats).

    UsageError if it is not one.
    """
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
        raise UsageError(f"got {field}={text}, expected {field}={default!r} or another {kind}") from None
