"""Recipes: every hyper-parameter of a training run, as data. named.py has those that papers published."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from taijitu_runtime.errors import UnknownNameError, UsageError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("one_cycle", "cosine", "constant")
CROPS = ("padded", "resized")
FIRST_DECAYS = ("current", "peak")
LAST_BATCHES = ("train", "drop")
RESIZES = ("shorter_side", "stretch")
INTERPOLATIONS = ("bilinear_antialias", "bicubic_antialias")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLERS = ("all", "balanced")
CHOICES = (
    ("optimizer", OPTIMIZERS),
    ("schedule", SCHEDULES),
    ("crop", CROPS),
    ("first_decay", FIRST_DECAYS),
    ("last_batch", LAST_BATCHES),
    ("resize", RESIZES),
    ("interpolation", INTERPOLATIONS),
    ("class_weights", CLASS_WEIGHTS),
    ("sampler", SAMPLERS),
)
RANGES = {
    "epochs": "[1, inf)",
    "batch_size": "[2, inf)",
    "lr": "(0, inf)",
    "body_lr": "(0, 1]",
    "freeze_epochs": "[0, inf)",
    "warmup_epochs": "[0, inf)",
    "momentum": "[0, 1)",
    "weight_decay": "[0, inf)",
    "clip_norm": "[0, inf)",
    "ema_start": "[0, 1]",
    "ema_decay": "[0, 1)",
    "label_smoothing": "[0, 1)",
    "other_weight": "(0, inf)",
    "teacher_weight": "(0, 1]",
    "teacher_temperature": "(0, inf)",
    "pad": "[0, inf)",
    "crop_area": "(0, 1]",
    "flip": "[0, 1]",
    "vertical_flip": "[0, 1]",
    "brightness": "[0, 1)",
    "contrast": "[0, 1)",
    "saturation": "[0, 1)",
    "hue": "[0, 0.5]",
    "rotation": "[0, 180]",
    "erase": "[0, 1]",
    "mixup": "[0, inf)",
    "cutmix": "[0, inf)",
    "evaluation_crop": "(0, 1]",
    "mean": "[0, 1]",
    "std": "(0, 1]",
    "seed": "[0, 2147483647]",
}
"""The interval of each number, or of each of several."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a run, apart from the network and the pictures. The defaults add nothing optional."""

    name: str
    epochs: int  # passes over the training pictures
    batch_size: int  # pictures a step, over all processes and accumulated parts together
    last_batch: str = "train"  # one of LAST_BATCHES: whether pictures that do not fill an epoch's last batch are used
    sampler: str = "all"  # one of SAMPLERS: an epoch has every picture once, or equally many of each label
    class_weights: str = "none"  # one of CLASS_WEIGHTS: a label's loss is multiplied by mean count / its own count
    optimizer: str  # one of OPTIMIZERS
    lr: float  # the largest learning rate of the run
    body_lr: float = 1.0  # share of lr for all layers except the classification layer
    freeze_epochs: int = 0  # first epochs, in which only the classification layer learns
    schedule: str  # one of SCHEDULES; every one moves at every step
    warmup_epochs: float = 0.0  # linear rise to lr before cosine or constant; one_cycle has its own
    momentum: float = 0.0  # sgd: share of the last step that is added to the next
    amsgrad: bool = False  # adam and adamw: divide by the largest second moment so far
    weight_decay: float = 0.0  # decoupled with adamw, added to the gradient with adam and sgd
    weight_decay_times_lr: bool = False  # decay = weight_decay * lr instead, set again at each epoch's end
    first_decay: str = "current"  # one of FIRST_DECAYS: the learning rate that the first epoch's decay is a multiple of
    decay_all: bool = True  # False: no decay on biases and the parameters of batch norm
    clip_norm: float = 0.0  # largest L2 norm of all gradients together; 0: no limit
    mixed_precision: bool = True  # bfloat16 (on a GPU without it float16, scaled) where the processor computes in it
    ema: bool = False  # evaluate and keep a moving average of the weights instead of the weights
    ema_start: float = 0.25  # share of the run before averaging starts
    ema_decay: float = 0.999  # average = ema_decay * average + (1 - ema_decay) * weights, every step
    label_smoothing: float = 0.0  # share of each target that is spread over all labels
    other_weight: float = 0.5  # with --other: factor of the loss of pictures of none of the labels
    teacher_weight: float = 0.5  # with a teacher: the share of its answers in the loss; the rest is the labels'
    teacher_temperature: float = 4.0  # with a teacher: divisor of both networks' logits
    crop: str = "padded"  # padded: reflect-pad, random crop back; resized: random area and shape, resized
    pad: int = 0  # padded: pixels of border
    crop_area: float = 0.08  # resized: smallest share of the picture's area
    flip: float = 0.0  # probability of mirroring left and right
    vertical_flip: float = 0.0  # probability of mirroring top and bottom
    brightness: float = 0.0  # pictures are multiplied by a factor from [1 - brightness, 1 + brightness]
    contrast: float = 0.0  # distances from the mean are multiplied by a factor from [1 - contrast, 1 + contrast]
    saturation: float = 0.0  # distances from grey are multiplied by a factor from [1 - saturation, 1 + saturation]
    hue: float = 0.0  # hues are turned by up to this fraction of the circle, either way
    rotation: float = 0.0  # pictures are turned by up to this many degrees, either way; the borders are reflected
    trivial_augment: bool = False  # one of 14 changes of random strength for each picture (Müller and Hutter 2021)
    erase: float = 0.0  # probability that a rectangle of 2 to 33 % becomes the mean (Zhong et al. 2017)
    mixup: float = 0.0  # alpha of the beta distribution of the shares that pictures are mixed in (Zhang et al. 2017)
    cutmix: float = 0.0  # the same for the area from another picture (Yun et al. 2019); with mixup: one of the two
    resize: str = "shorter_side"  # one of RESIZES: which sides are resized, before the centre is cropped
    interpolation: str = "bilinear_antialias"  # one of INTERPOLATIONS
    evaluation_crop: float = 1.0  # share of the resized picture's shorter side that the centre crop keeps
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of R, G, B; ImageNet's
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # of R, G, B; ImageNet's
    seed: int = 0  # all random numbers of the run come from it

    def __post_init__(self) -> None:
        for field, names in CHOICES:
            if getattr(self, field) not in names:
                raise UnknownNameError(field, getattr(self, field), names)
        self._check_epochs()
        self._check_unused()
        for field, interval in RANGES.items():
            if not _is_within(getattr(self, field), interval):
                raise UsageError(f"got {field}={getattr(self, field)}, expected a number in {interval}")

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

    def change(self, changes: Iterable[str]) -> Recipe:
        """Return this recipe with `changes` such as "lr=5e-3" applied, each parsed as its field's type.

        UnknownNameError for a field that does not exist, UsageError for a value that is not possible.
        """
        values: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(self)} - {"name"}
        for change in changes:
            field, equals, text = change.partition("=")
            if not equals:
                raise UsageError(f"got {change!r}, expected FIELD=VALUE, such as lr=5e-3")
            if field not in known:
                raise UnknownNameError("recipe field", field, known, "taijitu train --show lists all")
            values[field] = parse_like(getattr(self, field), field, text)
        return dataclasses.replace(self, **values)


def _is_within(value: float | tuple[float, ...], interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    numbers = value if isinstance(value, tuple) else (value,)
    closed_low, closed_high = interval.startswith("["), interval.endswith("]")
    return all(
        (low < number or (closed_low and number == low)) and (number < high or (closed_high and number == high))
        for number in numbers
    )


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
