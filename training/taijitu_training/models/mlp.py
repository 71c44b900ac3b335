"""MLP: the fully connected networks of the Nish paper's MNIST experiments.

Source: the Nish paper (README, references), Section 4.1 and Fig. 2: "fully connected networks with linearly increasing
depth as implemented in Mish", batch normalisation, 25 % dropout. Fig. 2b has 5 layers, Fig. 2c has 10. Neither width
nor order is stated there; Mish's public code has 500 units per layer and the order Linear - BN - activation - dropout,
used here too, and counts hidden layers only. That code also has two convolutions in front, which are part of no fully
connected network and are left out. Bias and initialisation are torch's own. Parameters with the defaults: 1,404,510.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from taijitu_runtime.errors import UsageError
from taijitu_training.models.activations import create_activation
from taijitu_training.models.registry import ModelOptions, Network, register_model


@dataclass(frozen=True)
class MLPOptions(ModelOptions):
    """`depth` is the number of hidden layers, each of `width` units; `dropout` is the rate in [0, 1) after each."""

    num_classes: int = 10
    act: str = "nish"
    depth: int = 5
    width: int = 500
    dropout: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise UsageError(f"got depth={self.depth}, expected at least 1 hidden layer")
        if self.width < 1:
            raise UsageError(f"got width={self.width}, expected at least 1 unit a layer")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"got dropout={self.dropout}, expected a rate in [0, 1)")


class MLP(Network):
    """Mean of the channels, flattened; `depth` times Linear - BN - act - dropout; Linear.

    Maps float32 (N, 3, 28, 28), normalised RGB, to logits (N, K).
    """

    def __init__(self, options: MLPOptions) -> None:
        super().__init__()
        self.input_size = (28, 28)
        height, width = self.input_size
        widths = [height * width] + [options.width] * options.depth
        self.hidden = nn.Sequential()
        for before, units in itertools.pairwise(widths):
            self.hidden.append(_layer(before, units, options))
        self.classifier = nn.Linear(widths[-1], options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.hidden(x.mean(1).flatten(1)))
        return logits


def _layer(before: int, units: int, options: MLPOptions) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, units),
        nn.BatchNorm1d(units),
        create_activation(options.act),
        nn.Dropout(options.dropout),
    )


@register_model(MLPOptions())
def mlp(options: MLPOptions) -> MLP:
    """Build the network for 28x28 pictures; 1,404,510 parameters with 5 hidden layers (Fig. 2b), 2,662,010 with 10."""
    return MLP(options)
