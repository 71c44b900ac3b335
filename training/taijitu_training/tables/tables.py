"""The papers' tables as data: their runs, and the papers' results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import UnknownNameError
from taijitu_training.recipes.named import get_recipe
from taijitu_training.recipes.recipe import Recipe

NISH_NETWORKS = (  # of the Nish paper's Tables 1 and 2
    "torchvision/squeezenet1_1",
    "torchvision/resnet18",
    "torchvision/mobilenet_v2",
    "torchvision/efficientnet_b0",
    "torchvision/efficientnet_v2_s",
    "timm/tinynet_b",
    "timm/tinynet_c",
)
ACTIVATIONS = {"ReLU": "relu", "Swish": "silu", "Mish": "mish", "Nish": "nish"}
NOISE = tuple(i / 10 for i in range(11))  # standard deviations, of pixels in [0, 1]


@dataclass(frozen=True)
class Experiment:
    """One row: a network trained by a recipe. `paper` has the paper's numbers by column, as it prints them."""

    row: str
    model: str
    options: Mapping[str, Any]
    changes: Mapping[str, object] = field(default_factory=dict)  # to the table's recipe
    paper: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """`columns` are numbers of a finished run: top1 (percent), loss (nats), or loss_at_SD (nats, under noise)."""

    name: str
    title: str
    data: str  # the paper's data
    recipe: str
    seeds: int  # runs of each row in the paper; 0: not stated
    columns: tuple[str, ...]
    experiments: tuple[Experiment, ...]
    preset: str = "paper"
    along: str = ""  # "depth" or "noise" if the paper has a figure


def _yynet_table1() -> Table:
    paper = {  # fusion: mean, standard deviation
        "a*(1-i)": ("87.61", "0.09"),
        "a*i+a+i": ("87.63", "0.08"),
        "a*(1-i)+a-i": ("87.81", "0.19"),
        "a*i": ("87.87", "0.23"),
        "a*(1-i)+a+i": ("87.98", "0.22"),
        "a+i": ("88.21", "0.46"),
    }
    rows = tuple(
        Experiment(fusion, "yynet_small_16", {"fusion": fusion}, {"batch_size": 512}, {"top1": f"{mean} ± {deviation}"})
        for fusion, (mean, deviation) in paper.items()
    )
    return Table("yynet-table1", "YYNet Table I: fusions", "CIFAR-10", "yynet_cifar10", 3, ("top1",), rows)


def _yynet_table4() -> Table:
    paper = {"yynet_small_16": "89.46", "yynet_small_32": "91.91", "yynet_small_64": "93.32"}
    rows = tuple(Experiment(model, model, {}, paper={"top1": top1}) for model, top1 in paper.items())
    title = "YYNet Table IV: widths (the public code's choices, with which it was made)"
    return Table("yynet-table4", title, "CIFAR-10", "yynet_cifar10", 1, ("top1",), rows, preset="public_code")


def _nish_table1() -> Table:
    epochs = (50, 100, 150)
    paper = {  # network: {activation: (mean accuracy, mean loss) by epochs}
        "torchvision/squeezenet1_1": {
            "mish": (("86.07", "0.4204"), ("90.98", "0.2738"), ("91.36", "0.3448")),
            "nish": (("86.17", "0.4189"), ("91.06", "0.2771"), ("91.51", "0.3420")),
        },
        "torchvision/resnet18": {
            "mish": (("85.98", "0.4288"), ("90.93", "0.2738"), ("91.22", "0.3296")),
            "nish": (("86.01", "0.4323"), ("91.04", "0.2731"), ("91.38", "0.3343")),
        },
        "torchvision/efficientnet_b0": {
            "mish": (("85.25", "0.4373"), ("88.13", "0.3538"), ("88.45", "0.3818")),
            "nish": (("85.59", "0.4285"), ("88.55", "0.3452"), ("88.57", "0.3850")),
        },
        "torchvision/efficientnet_v2_s": {
            "mish": (("85.39", "0.4435"), ("90.31", "0.2934"), ("90.67", "0.3489")),
            "nish": (("84.10", "0.5015"), ("90.34", "0.2987"), ("90.76", "0.3727")),
        },
        "torchvision/mobilenet_v2": {
            "mish": (("86.06", "0.4115"), ("89.06", "0.3227"), ("89.59", "0.3430")),
            "nish": (("86.01", "0.4162"), ("89.33", "0.3201"), ("89.64", "0.3491")),
        },
    }
    rows = tuple(
        Experiment(
            f"{model.partition('/')[2]}, {act}",
            model,
            {"act": act, "image_size": 32, "stem": "cifar"},
            {"epochs": count},
            {"top1": top1, "loss": loss},
        )
        for model, acts in paper.items()
        for act, numbers in acts.items()
        for count, (top1, loss) in zip(epochs, numbers)
    )
    # The paper's loss decreases and increases again from row to row as along one run, and no network that ends in 1x1
    # pixels, as torchvision's do at 32, reaches its 91 %.
    title = "Nish Table 1: Mish and Nish (our reading: one run of 150 epochs, read three times; CIFAR stems)"
    return Table("nish-table1", title, "CIFAR-10", "nish_cifar10", 10, ("top1", "loss"), rows)


def _nish_mnist(name: str, title: str, depths: tuple[int, ...], columns: tuple[str, ...]) -> Table:
    rows = tuple(
        Experiment(f"{depth} layers, {label}", "mlp", {"depth": depth, "act": act})
        for depth in depths
        for label, act in ACTIVATIONS.items()
    )
    return Table(name, title, "MNIST", "nish_mnist", 0, columns, rows, along=name.removeprefix("nish-"))


def _vgnet_table4() -> Table:
    paper = {
        "vgnetg_1_0mp": "66.6 (Table 3)",
        "vgnetg_1_5mp": "68.0",
        "vgnetc_1_5mp": "67.6",
        "vgnetf1_1_5mp": "66.8",
        "vgnetf2_1_5mp": "66.2",
        "vgnetf3_1_5mp": "66.1",
        "vgnetf4_1_5mp": "64.4",
    }
    rows = tuple(Experiment(model, model, {"stem": "thumbnail"}, paper={"top1": top1}) for model, top1 in paper.items())
    title = "VGNet Table 4: fixed kernels (ours as thumbnails on small pictures)"
    return Table("vgnet-table4", title, "ImageNet, 100 epochs", "vgnet_cifar", 1, ("top1",), rows)


_DEPTH = "Nish Fig. 2a: depth of a fully connected network (a figure: the paper prints no numbers)"
_NOISE = "Nish Fig. 2b and 2c: loss under Gaussian noise (a figure: the paper prints no numbers)"

TABLES = {
    table.name: table
    for table in (
        _yynet_table1(),
        _yynet_table4(),
        _nish_table1(),
        _nish_mnist("nish-depth", _DEPTH, (5, 10, 15, 20, 25), ("top1", "loss")),
        _nish_mnist("nish-noise", _NOISE, (5, 10), tuple(f"loss_at_{deviation:.1f}" for deviation in NOISE)),
        _vgnet_table4(),
    )
}


def get_table(name: str) -> Table:
    """Return the table called `name`; UnknownNameError lists the close ones."""
    if name not in TABLES:
        raise UnknownNameError("table", name, TABLES)
    return TABLES[name]


@dataclass(frozen=True)
class Plan:
    """One run of a table."""

    row: str
    paper: Mapping[str, str]
    architecture: Architecture
    recipe: Recipe
    full_epochs: int  # the table's number; more than the recipe's if the budget is reduced

    @property
    def name(self) -> str:
        """The name of its folder, different for different runs: nish-depth and nish-noise use the same networks."""
        options = self.architecture.options
        text = "-".join(f"{key}={value}" for key, value in sorted(options.items()) if key != "num_classes")
        recipe = f"{self.recipe.name}-e{self.recipe.epochs}-b{self.recipe.batch_size}-s{self.recipe.seed}"
        return f"{self.architecture.name}-{text}-{recipe}".replace("/", "_")


def plan(table: Table, seeds: int, epochs: int) -> list[Plan]:
    """Return the runs of `table`, all rows with one seed before the next; with `epochs`, if not 0, not the rows' own.

    Rows that differ only in their epochs are then one: that with these epochs, or with the next more, or with the most.
    """
    from taijitu_training.models import model_options  # imports torch, which the tables' names do not need

    plans: dict[str, Plan] = {}
    for seed in range(seeds):
        for experiment in table.experiments:
            recipe = replace(get_recipe(table.recipe, experiment.changes), seed=seed)
            full_epochs = recipe.epochs
            if epochs:
                recipe = recipe.with_epochs(epochs)
            options = model_options(experiment.model, preset=table.preset, **experiment.options)
            architecture = Architecture(experiment.model, options)
            planned = Plan(experiment.row, experiment.paper, architecture, recipe, full_epochs)
            before = plans.get(planned.name)
            if before is None or _distance(full_epochs, epochs) < _distance(before.full_epochs, epochs):
                plans[planned.name] = planned
    return list(plans.values())


def _distance(full_epochs: int, epochs: int) -> tuple[bool, int]:
    """Return how far a row of `full_epochs` is from a budget of `epochs`; rows that had fewer are farther than any."""
    return full_epochs < epochs, abs(full_epochs - epochs)
